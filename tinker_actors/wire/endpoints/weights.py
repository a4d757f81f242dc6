"""Weights: saved, loaded, described."""

from __future__ import annotations

from tinker_actors.types import (
    LoadWeightsRequest,
    Promise,
    SaveWeightsForSamplerRequest,
    SaveWeightsRequest,
    TinkerPathRequest,
    WeightsInfoResponse,
)
from tinker_actors.wire.api import Api

__all__ = ["load_weights", "save_weights", "save_weights_for_sampler", "weights_info"]


async def save_weights(api: Api, request: SaveWeightsRequest, *, key: str) -> Promise:
    """POST /save_weights; the result is a SaveWeightsResponse."""
    return await api.call("/save_weights", Promise, request, purpose="train", key=key)


async def save_weights_for_sampler(api: Api, request: SaveWeightsForSamplerRequest, *, key: str) -> Promise:
    """POST /save_weights_for_sampler; the result is a SaveWeightsForSamplerResponse."""
    return await api.call("/save_weights_for_sampler", Promise, request, purpose="train", key=key)


async def load_weights(api: Api, request: LoadWeightsRequest, *, key: str) -> Promise:
    """POST /load_weights; the result is a LoadWeightsResponse."""
    return await api.call("/load_weights", Promise, request, purpose="train", key=key)


async def weights_info(api: Api, path: str) -> WeightsInfoResponse:
    """POST /weights_info: how the model behind the checkpoint ``path`` was made."""
    return await api.call("/weights_info", WeightsInfoResponse, TinkerPathRequest(tinker_path=path), purpose="rest")
