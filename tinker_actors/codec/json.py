"""JSON: values to bytes and back, strictly.

Fields that are None are left out and all others sent, defaults too, with the constant ``type`` tag, as the official
SDK 0.38 does. What is read may have unknown keys, and the tag or none. Arrays travel as lists. A number that JSON
can't carry (NaN, infinities) is refused in both directions, never turned into null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
import numpy as np

from tinker_actors.codec.json_forms import FORMS
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.types import (
    CreateCustomLossRequest,
    CreateCustomLossResponse,
    CreateModelRequest,
    CreateModelResponse,
    CreateSamplingSessionRequest,
    CreateSamplingSessionResponse,
    CreateSessionRequest,
    CreateSessionResponse,
    FinishSessionRequest,
    GetInfoResponse,
    JoinSamplingSessionRequest,
    JoinSamplingSessionResponse,
    LoadWeightsRequest,
    LoadWeightsResponse,
    MetadataOnly,
    ModelIdRequest,
    OptimStepRequest,
    SampleRequest,
    SampleResponse,
    SaveWeightsExternalRequest,
    SaveWeightsExternalResponse,
    SaveWeightsForSamplerRequest,
    SaveWeightsForSamplerResponse,
    SaveWeightsRequest,
    SaveWeightsResponse,
    SessionIdRequest,
    SetTtlRequest,
    StorageBillingEvent,
    TensorData,
    TryAgain,
    UnloadModelRequest,
    UnloadModelResponse,
    is_given,
)

__all__ = ["decode_json", "encode_json"]

T = TypeVar("T")

_TAGS: Mapping[type, tuple[str, str]] = {
    CreateCustomLossRequest: ("type", "create_custom_loss"),
    CreateCustomLossResponse: ("type", "create_custom_loss"),
    CreateModelRequest: ("type", "create_model"),
    CreateModelResponse: ("type", "create_model"),
    CreateSamplingSessionRequest: ("type", "create_sampling_session"),
    CreateSamplingSessionResponse: ("type", "create_sampling_session"),
    CreateSessionRequest: ("type", "create_session"),
    CreateSessionResponse: ("type", "create_session"),
    GetInfoResponse: ("type", "get_info"),
    JoinSamplingSessionRequest: ("type", "join_sampling_session"),
    JoinSamplingSessionResponse: ("type", "join_sampling_session"),
    LoadWeightsRequest: ("type", "load_weights"),
    LoadWeightsResponse: ("type", "load_weights"),
    MetadataOnly: ("status", "complete_metadata"),
    ModelIdRequest: ("type", "get_info"),
    OptimStepRequest: ("type", "optim_step"),
    SampleRequest: ("type", "sample"),
    SampleResponse: ("type", "sample"),
    SaveWeightsExternalRequest: ("type", "save_weights_external"),
    SaveWeightsExternalResponse: ("type", "save_weights_external"),
    SaveWeightsForSamplerRequest: ("type", "save_weights_for_sampler"),
    SaveWeightsForSamplerResponse: ("type", "save_weights_for_sampler"),
    SaveWeightsRequest: ("type", "save_weights"),
    SaveWeightsResponse: ("type", "save_weights"),
    SessionIdRequest: ("type", "session_heartbeat"),
    TryAgain: ("type", "try_again"),
    UnloadModelRequest: ("type", "unload_model"),
    UnloadModelResponse: ("type", "unload_model"),
}
_SENT_WHEN_NONE = frozenset({FinishSessionRequest, SetTtlRequest})  # null is what they say
_AS_IS = frozenset({str, int, bool, type(None)})


class _NotFinite(Exception):
    pass


def encode_json(value: object) -> bytes:
    """``value`` (a struct of ``types``, or dicts and lists of such) as JSON.

    Entries of dicts that are NOT_GIVEN or OMIT are left out. Raises InvalidInput, naming the field, for a number that
    is not finite, and for what JSON has no form for.
    """
    try:
        return msgspec.json.encode(_plain(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        problem = "is nested too deeply" if isinstance(error, RecursionError) else f"can't be written: {error}"
        raise InvalidInput(type(value).__name__, problem, "Give text, finite numbers, dicts and lists") from error
    except _NotFinite:
        raise InvalidInput(
            _find_not_finite(value) or type(value).__name__,
            "is not a finite number, which JSON can't carry",
            "Give a finite number, or leave it out",
        ) from None


def decode_json(data: bytes | memoryview, type_: type[T]) -> T:
    """The ``type_`` in ``data``. Raises DecodeError, naming the field, for anything else.

    Numbers are not taken from strings, nor null where a number is due.
    """
    try:
        form = FORMS.get(type_)
        if form is None:
            return _decoder(type_).decode(data)
        value: T = form.make(_decoder(form.form).decode(data))
    except InvalidInput as error:
        raise DecodeError(f"{_name(type_)}: {error.field} {error.problem}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"{_name(type_)}: {error}") from error
    except RecursionError as error:
        raise DecodeError(f"{_name(type_)}: JSON that is nested too deeply") from error
    return value


@cache
def _decoder(type_: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(type_)


def _name(type_: Any) -> str:
    return str(getattr(type_, "__name__", type_))


def _plain(value: Any) -> Any:
    kind = value.__class__
    if kind in _AS_IS:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise _NotFinite
        return value
    if kind is tuple or kind is list:
        return [_plain(item) for item in value]
    if kind is dict:
        return {key: _plain(item) for key, item in value.items() if is_given(item)}
    if kind is np.ndarray:
        return _list(value)
    if kind is TensorData:
        form = {"data": _list(value.values.ravel()), "dtype": value.dtype, "shape": value.dims}
        if value.indices is not None:
            form["sparse_crow_indices"], form["sparse_col_indices"] = map(_list, value.indices)
        return form
    if isinstance(value, msgspec.Struct):
        return _fields(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, Any]", value).items() if is_given(item)}
    return value  # enums, datetimes and bytes are msgspec's


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    kind = type(value)
    keep = kind in _SENT_WHEN_NONE
    out: dict[str, Any] = {}
    for name in kind.__struct_fields__:
        item = getattr(value, name)
        if item is not None or keep:
            out[name] = _plain(item)
    if isinstance(value, StorageBillingEvent) and not value.free:
        del out["free"]  # SDKs up to 0.25 refuse a whole answer that has it
    config = kind.__struct_config__
    if config.tag is not None:
        out[config.tag_field or "type"] = config.tag
    elif kind in _TAGS:
        key, tag = _TAGS[kind]
        out[key] = tag
    return out


def _list(array: np.ndarray[Any, np.dtype[Any]]) -> list[Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _NotFinite
    return array.tolist()


def _find_not_finite(value: Any) -> str | None:
    """Where the number is, such as ``adam_params.beta1``; only asked for when there is one."""
    steps = _steps_to_not_finite(value)
    return None if steps is None else "".join(steps).lstrip(".")


def _steps_to_not_finite(value: Any) -> list[str] | None:
    kind = value.__class__
    items: Iterable[tuple[str, Any]]
    if kind is float:
        return None if math.isfinite(value) else []
    if isinstance(value, msgspec.Struct):
        items = ((f".{name}", getattr(value, name)) for name in kind.__struct_fields__)
    elif isinstance(value, Mapping):
        items = ((f"[{key!r}]", item) for key, item in cast("Mapping[str, Any]", value).items())
    elif kind in (tuple, list, np.ndarray):
        row: list[Any] = value.tolist() if kind is np.ndarray else value
        items = ((f"[{index}]", item) for index, item in enumerate(row))
    else:
        return None
    for step, item in items:
        rest = _steps_to_not_finite(item)
        if rest is not None:
            return [step, *rest]
    return None
