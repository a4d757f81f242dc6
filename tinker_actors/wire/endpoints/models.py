"""Models: created, described."""

from __future__ import annotations

from tinker_actors.codec.json import encode_json
from tinker_actors.errors import APIStatusError
from tinker_actors.types import (
    CreateModelRequest,
    GetInfoResponse,
    ModelIdRequest,
    Promise,
    UnloadModelRequest,
    UnloadModelResponse,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.headers import on_behalf_of

__all__ = ["create_model", "get_info", "unload_model"]

_CREATE_MODEL = on_behalf_of("ServiceClient.create_lora_training_client")


async def create_model(
    api: Api, request: CreateModelRequest, *, key: str, attempt: int = 0, timeout: float | None = None
) -> Promise:
    """POST /create_model; the result is a CreateModelResponse.

    Some servers promise nothing before they have loaded the base model: ``timeout`` allows for that.
    """
    return await api.call(
        "/create_model",
        Promise,
        request,
        purpose="train",
        key=key,
        headers=_CREATE_MODEL,
        attempt=attempt,
        timeout=timeout,
    )


async def get_info(api: Api, model_id: str, *, attempt: int = 0) -> GetInfoResponse:
    """POST /get_info."""
    return await api.call(
        "/get_info", GetInfoResponse, ModelIdRequest(model_id=model_id), purpose="rest", attempt=attempt
    )


async def unload_model(api: Api, model_id: str, *, key: str) -> Promise | UnloadModelResponse | None:
    """POST /unload_model (servers up to SDK 0.25): frees the model's memory.

    The result of the promise is an UnloadModelResponse; some servers give it at once. Where the id in the body is
    refused (422), it is sent in the query. None: the server does not know the call (404, 405), as those since SDK
    0.38, which free models with their session.
    """
    body = (encode_json(UnloadModelRequest(model_id=model_id)),)
    headers = (("accept", "application/json"), *on_behalf_of("TrainingClient.unload_model"))
    try:
        reply = await api.exchange("POST", "/unload_model", body, purpose="train", key=key, headers=headers)
    except APIStatusError as error:
        if error.status in (404, 405):
            return None
        if error.status != 422:
            raise
        reply = await api.exchange(
            "POST", "/unload_model", purpose="train", key=key, headers=headers, query={"model_id": model_id}
        )
    if b'"request_id"' in reply.body:
        return api.decode(reply, Promise)
    return api.decode(reply, UnloadModelResponse)
