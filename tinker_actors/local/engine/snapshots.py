"""A saved adapter: arrays by name, and as a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from tinker_actors.errors import DecodeError
from tinker_actors.types.tensor import FloatArray
from tinker_actors.types.training import LoraConfig

__all__ = ["OptimizerState", "Snapshot", "snapshot_from_safetensors", "snapshot_to_safetensors"]

_METADATA_KEY = "tinker_actors"
_FIRST, _SECOND = "adam_first.", "adam_second."


class OptimizerState(msgspec.Struct, frozen=True, eq=False):
    """AdamW's moments by parameter name, and the number of steps done."""

    first: Mapping[str, FloatArray]
    second: Mapping[str, FloatArray]
    step: int


class Snapshot(msgspec.Struct, frozen=True, eq=False):
    """A model's adapter, read-only float32 arrays by name, such as ``layers.0.q_proj.lora_A`` of shape [rank, in].

    ``optimizer`` is None in a snapshot made for sampling.
    """

    base_model: str
    lora: LoraConfig
    weights: Mapping[str, FloatArray]
    optimizer: OptimizerState | None = None


class _Metadata(msgspec.Struct, frozen=True):
    base_model: str
    lora: LoraConfig
    step: int | None


def snapshot_to_safetensors(snapshot: Snapshot) -> bytes:
    """The snapshot as a safetensors file; equal snapshots give equal bytes."""
    tensors: dict[str, FloatArray] = dict(snapshot.weights)
    step = None
    if snapshot.optimizer is not None:
        step = snapshot.optimizer.step
        tensors |= {_FIRST + name: array for name, array in snapshot.optimizer.first.items()}
        tensors |= {_SECOND + name: array for name, array in snapshot.optimizer.second.items()}
    metadata = msgspec.json.encode(_Metadata(snapshot.base_model, snapshot.lora, step)).decode()
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    return safetensors.numpy.save(ordered, {_METADATA_KEY: metadata})  # one key: several come in random order


def snapshot_from_safetensors(data: bytes) -> Snapshot:
    """The snapshot in ``data``. Raises DecodeError when it is not a file of ours."""
    try:
        tensors = safetensors.numpy.load(data)
        size = int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + size])
        metadata = msgspec.json.decode(header["__metadata__"][_METADATA_KEY], type=_Metadata)
    except (SafetensorError, KeyError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise DecodeError(f"not a checkpoint of the local engine: {error}") from error
    weights: dict[str, FloatArray] = {}
    first: dict[str, FloatArray] = {}
    second: dict[str, FloatArray] = {}
    for name, array in tensors.items():
        if array.dtype != np.float32:
            raise DecodeError(f"not a checkpoint of the local engine: {name} is {array.dtype}, not float32")
        array.flags.writeable = False
        if name.startswith(_FIRST):
            first[name.removeprefix(_FIRST)] = array
        elif name.startswith(_SECOND):
            second[name.removeprefix(_SECOND)] = array
        else:
            weights[name] = array
    optimizer = None if metadata.step is None else OptimizerState(first, second, metadata.step)
    if optimizer is not None and not (weights.keys() == first.keys() == second.keys()):
        raise DecodeError("not a checkpoint of the local engine: the optimizer's arrays do not match the weights'")
    return Snapshot(metadata.base_model, metadata.lora, weights, optimizer)
