"""Digests of operations: equal on both sides of the wire, whatever the encoding."""

from __future__ import annotations

import hashlib
import json
from typing import TypeAlias

import msgspec

from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.codec.protobuf import Buffers
from tinker_actors.types import (
    ForwardBackwardRequest,
    LoadWeightsRequest,
    OptimStepRequest,
    SaveWeightsExternalRequest,
    SaveWeightsForSamplerRequest,
    SaveWeightsRequest,
)

__all__ = ["operation_digest"]

_Request: TypeAlias = (
    ForwardBackwardRequest
    | OptimStepRequest
    | SaveWeightsRequest
    | SaveWeightsForSamplerRequest
    | SaveWeightsExternalRequest
    | LoadWeightsRequest
)


def operation_digest(request: _Request, data: Buffers | None = None) -> str:
    """SHA-256 in hex of what ``request`` asks for, leaving out model_id and seq_id, which say where.

    Loss inputs and configuration count in the order of their names. ``data`` is what ``encode_data`` has made of the
    request's data, if that was done already.
    """
    digest = hashlib.sha256(type(request).__name__.encode())
    if isinstance(request, ForwardBackwardRequest):
        config = dict(sorted(request.loss_fn_config.items()))
        canonical = msgspec.structs.replace(request, model_id="", seq_id=0, loss_fn_config=config)
        for piece in encode_forward_backward_request(canonical, data):
            digest.update(piece)
    else:
        # Every field: omit_defaults leaves out the default object itself, and a decoded equal is another object.
        fields = msgspec.structs.asdict(request)
        content = {
            key: msgspec.to_builtins(value) for key, value in fields.items() if key not in ("model_id", "seq_id")
        }
        digest.update(json.dumps(content, sort_keys=True, allow_nan=False).encode())
    return digest.hexdigest()
