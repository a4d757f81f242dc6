"""SamplingParams in protobuf (tinker_public). No SDK sends it so far: asample travels as JSON."""

from __future__ import annotations

import math

import numpy as np

from tinker_actors.codec.protobuf import (
    as_bytes,
    as_float,
    as_int,
    as_text,
    fields,
    float_field,
    length_field,
    packed_ints,
    text_field,
    varint,
    varint_field,
)
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.types import SamplingParams

__all__ = ["decode_sampling_params", "encode_sampling_params"]

_MOST_STOPS = 4096


def encode_sampling_params(params: SamplingParams) -> bytes:
    """``params`` as one message, its floats in 32 bits. Raises InvalidInput for numbers that it has no room for."""
    out: list[bytes | memoryview] = []
    for number, name in ((1, "max_tokens"), (4, "top_k")):
        value: int | None = getattr(params, name)
        if value is not None:
            out.append(varint_field(number, value))
    if params.seed is not None:
        out.append(varint_field(2, params.seed))
    for number, name in ((3, "temperature"), (5, "top_p")):
        value = getattr(params, name)
        with np.errstate(over="ignore", under="ignore"):
            single = float(np.float32(value))
        if not math.isfinite(single) or (name == "top_p" and not single):
            raise InvalidInput(name, f"{value} is out of range", "Use a number that 32 bits can hold")
        out.append(float_field(number, single))
    stop = (params.stop,) if isinstance(params.stop, str) else params.stop
    if stop is not None and len(stop) and not isinstance(stop[0], str):
        packed = b"".join(varint(int(token)) for token in stop)
        out += length_field(7, *length_field(1, packed))
    elif stop is not None:
        out += length_field(6, *(text_field(1, str(text)) for text in stop))
    return b"".join(out)


def decode_sampling_params(data: bytes | memoryview) -> SamplingParams:
    """The parameters in ``data``, or defaults; one stop string is a row of one. Raises DecodeError."""
    found: dict[str, int | float] = {}
    stop: tuple[str, ...] | tuple[int, ...] | None = None
    for number, value in fields(data):
        match number:
            case 1 | 2 | 4:
                found[{1: "max_tokens", 2: "seed", 4: "top_k"}[number]] = as_int(value)
            case 3 | 5:
                found["temperature" if number == 3 else "top_p"] = as_float(value)
            case 6:
                stop = tuple(as_text(text) for inner, text in fields(as_bytes(value)) if inner == 1)
            case 7:
                ids: list[int] = []
                for inner, content in fields(as_bytes(value)):
                    if inner == 1 and len(ids) <= _MOST_STOPS:
                        ids += packed_ints(content, most=_MOST_STOPS)
                stop = tuple(ids)
            case _:
                pass
    if stop is not None and len(stop) > _MOST_STOPS:
        raise DecodeError(f"sampling parameters: more than {_MOST_STOPS} stops")
    try:
        return SamplingParams(**found, stop=stop)  # pyright: ignore[reportArgumentType]  # it checks for itself
    except InvalidInput as error:
        raise DecodeError(f"sampling parameters: {error.field} {error.problem}") from error
