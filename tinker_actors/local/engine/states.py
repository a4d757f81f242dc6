"""What operations change of a model, in one piece: so that it can leave the engine and come back unchanged."""

from __future__ import annotations

import struct

import msgspec
import numpy as np

from tinker_actors.errors import DecodeError
from tinker_actors.types.tensor import FloatArray

__all__ = ["ModelState", "state_from_bytes", "state_to_bytes"]

_HEADER = struct.Struct("<QQ?")  # parameters, steps, whether there is a gradient


class ModelState(msgspec.Struct, frozen=True, eq=False):
    """Adapter, AdamW's moments, the steps done and the pending gradient, all flat float32 arrays of one size."""

    flat: FloatArray
    first: FloatArray
    second: FloatArray
    step: int
    gradient: FloatArray | None


def state_to_bytes(state: ModelState) -> bytes:
    """All bits of ``state``."""
    arrays = [state.flat, state.first, state.second]
    if state.gradient is not None:
        arrays.append(state.gradient)
    header = _HEADER.pack(state.flat.size, state.step, state.gradient is not None)
    return b"".join([header, *(array.astype("<f4", copy=False).tobytes() for array in arrays)])


def state_from_bytes(data: bytes) -> ModelState:
    """What ``state_to_bytes`` was given. Raises DecodeError for other bytes."""
    if len(data) < _HEADER.size:
        raise DecodeError("not the state of a model: it is too short")
    size, step, pending = _HEADER.unpack_from(data)
    count = 4 if pending else 3
    if len(data) != _HEADER.size + 4 * size * count:
        raise DecodeError(f"not the state of a model: {len(data)} bytes for {count} arrays of {size}")
    values = np.frombuffer(data, "<f4", offset=_HEADER.size).astype(np.float32)
    flat, first, second, *rest = (values[index * size : (index + 1) * size].copy() for index in range(count))
    return ModelState(flat, first, second, step, rest[0] if rest else None)
