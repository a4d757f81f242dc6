"""A checkpoint's name that the server says is taken: when that is this client's own save, and where it lies."""

from __future__ import annotations

from typing import Any

import trio

from tinker_actors.errors import ConflictError, InvalidInput, TinkerError
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import Reaction
from tinker_actors.ledger import Chunk
from tinker_actors.types import (
    CheckpointKind,
    CheckpointType,
    SaveWeightsExternalRequest,
    SaveWeightsExternalResponse,
    SaveWeightsForSamplerRequest,
    SaveWeightsForSamplerResponse,
    SaveWeightsRequest,
    SaveWeightsResponse,
    TinkerPath,
    checkpoint_path,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.checkpoints import list_checkpoints

__all__ = ["is_named_save", "name_is_taken", "saved_before"]

_LISTED_WITHIN = 10.0  # seconds: the path is known well enough without
_TYPES: dict[CheckpointKind, CheckpointType] = {
    "weights": "training",
    "sampler_weights": "sampler",
    "external_weights": "external",
}


def is_named_save(chunk: Chunk) -> bool:
    """Whether a server may say of ``chunk`` that there is one already."""
    match chunk.request:
        case SaveWeightsRequest(path=name) | SaveWeightsForSamplerRequest(path=name):
            return bool(name)
        case request:
            return isinstance(request, SaveWeightsExternalRequest)


def name_is_taken(gone: OutOfPatience) -> bool:
    """Whether the answer says so of a save, or that the save had arrived, and not that another seq_id is due."""
    error = gone.error
    return isinstance(error, ConflictError) and (error.expected_seq_id is None or gone.reaction is Reaction.ARRIVED)


async def saved_before(api: Api, chunk: Chunk, model_id: str) -> Any:
    """The result of a named save whose first reply was lost.

    The path is the one that the server lists, since some have forms of their own (SkyRL: tinker://<model>/<name>,
    WIRE 5.10); where it lists none, that of the protocol: tinker://<model>/<kind>/<name>.
    """
    match chunk.request:
        case SaveWeightsRequest(path=str(name)):
            return SaveWeightsResponse(path=await _path(api, TinkerPath(model_id, "weights", name)))
        case SaveWeightsForSamplerRequest(path=str(name)):
            return SaveWeightsForSamplerResponse(path=await _path(api, TinkerPath(model_id, "sampler_weights", name)))
        case SaveWeightsExternalRequest(path=name):
            return SaveWeightsExternalResponse(path=await _path(api, TinkerPath(model_id, "external_weights", name)))
        case _:
            raise AssertionError("no named save")


async def _path(api: Api, usual: TinkerPath) -> str:
    with trio.move_on_after(_LISTED_WITHIN):
        try:
            listed = (await list_checkpoints(api, usual.run)).checkpoints
        except TinkerError:  # some servers list nothing, and the save is there all the same
            listed = ()
        for checkpoint in listed:
            path = checkpoint.tinker_path
            if checkpoint.checkpoint_type != _TYPES[usual.kind] or path.rpartition("/")[2] != usual.name:
                continue
            try:
                return checkpoint_path(path, kind=usual.kind)
            except InvalidInput:
                break
    return str(usual)
