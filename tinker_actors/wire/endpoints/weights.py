"""Weights: saved, loaded, described."""

from __future__ import annotations

from tinker_actors.types import (
    CopyWeightsRequest,
    CopyWeightsResponse,
    LoadWeightsRequest,
    Promise,
    SaveWeightsExternalRequest,
    SaveWeightsForSamplerRequest,
    SaveWeightsRequest,
    TinkerPathRequest,
    WeightsInfoResponse,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.headers import Headers, on_behalf_of

__all__ = [
    "copy_weights",
    "load_weights",
    "save_weights",
    "save_weights_external",
    "save_weights_for_sampler",
    "weights_info",
]

_SAVE = on_behalf_of("TrainingClient.save_state")
_SAVE_FOR_SAMPLER = on_behalf_of("TrainingClient.save_weights_for_sampler")
_SAVE_EXTERNAL = on_behalf_of("TrainingClient.save_weights_external")
_LOAD = on_behalf_of("TrainingClient.load_state")


async def save_weights(api: Api, request: SaveWeightsRequest, *, key: str, attempt: int = 0) -> Promise:
    """POST /save_weights; the result is a SaveWeightsResponse."""
    return await _submit(api, "/save_weights", request, _SAVE, key=key, attempt=attempt)


async def save_weights_for_sampler(
    api: Api, request: SaveWeightsForSamplerRequest, *, key: str, attempt: int = 0
) -> Promise:
    """POST /save_weights_for_sampler; the result is a SaveWeightsForSamplerResponse."""
    return await _submit(api, "/save_weights_for_sampler", request, _SAVE_FOR_SAMPLER, key=key, attempt=attempt)


async def save_weights_external(
    api: Api, request: SaveWeightsExternalRequest, *, key: str, attempt: int = 0
) -> Promise:
    """POST /save_weights_external; the result is a SaveWeightsExternalResponse."""
    return await _submit(api, "/save_weights_external", request, _SAVE_EXTERNAL, key=key, attempt=attempt)


async def copy_weights(api: Api, request: CopyWeightsRequest, *, key: str, attempt: int = 0) -> str:
    """POST /copy_weights; returns the copy's path. ``key`` must be the same in all attempts: it names the copy."""
    token = request.weights_access_token
    headers = () if token is None else (("x-tinker-weights-access-token", token),)
    reply = await api.call(
        "/copy_weights", CopyWeightsResponse, request, purpose="rest", key=key, headers=headers, attempt=attempt
    )
    return reply.tinker_path


async def load_weights(api: Api, request: LoadWeightsRequest, *, key: str, attempt: int = 0) -> Promise:
    """POST /load_weights; the result is a LoadWeightsResponse."""
    return await _submit(api, "/load_weights", request, _LOAD, key=key, attempt=attempt)


async def weights_info(api: Api, path: str) -> WeightsInfoResponse:
    """POST /weights_info: how the model behind the checkpoint ``path`` was made."""
    return await api.call("/weights_info", WeightsInfoResponse, TinkerPathRequest(tinker_path=path), purpose="rest")


async def _submit(api: Api, path: str, request: object, headers: Headers, *, key: str, attempt: int) -> Promise:
    return await api.call(path, Promise, request, purpose="train", key=key, headers=headers, attempt=attempt)
