"""Models: created, described."""

from __future__ import annotations

from tinker_actors.types import CreateModelRequest, GetInfoResponse, ModelIdRequest, Promise
from tinker_actors.wire.api import Api
from tinker_actors.wire.headers import on_behalf_of

__all__ = ["create_model", "get_info"]

_CREATE_MODEL = on_behalf_of("ServiceClient.create_lora_training_client")


async def create_model(api: Api, request: CreateModelRequest, *, key: str) -> Promise:
    """POST /create_model; the result is a CreateModelResponse."""
    return await api.call("/create_model", Promise, request, purpose="train", key=key, headers=_CREATE_MODEL)


async def get_info(api: Api, model_id: str) -> GetInfoResponse:
    """POST /get_info."""
    return await api.call("/get_info", GetInfoResponse, ModelIdRequest(model_id=model_id), purpose="rest")
