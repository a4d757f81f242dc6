"""Hypothesis strategies for every value of ``tinker_actors.types``; with the `testing` extra.

``values(Datum)`` gives datums. Most strategies follow from the annotations of a type's fields; those with rules of
their own are built by hand. Numbers are finite unless ``finite=False``, since JSON carries no others.
"""

from __future__ import annotations

import datetime
import types
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec
from hypothesis import strategies as st

import tinker_actors.types as ta
from tinker_actors.testing.arrays import BOOLEANS, numbers, tensors

__all__ = ["all_types", "json_types", "values"]

T = TypeVar("T")

# ruff: noqa: ARG001 - what is built by hand is always told whether numbers must be finite

_text = st.text(max_size=5)
_names = st.text(min_size=1, max_size=5)
_ids = st.integers(0, 2**31 - 1)
_counts = st.integers(0, 2**53)
_times = st.datetimes(
    min_value=datetime.datetime(1970, 1, 1),  # noqa: DTZ001 - the zone is the other argument
    timezones=st.sampled_from([datetime.UTC, datetime.timezone(datetime.timedelta(hours=5, minutes=30))]),
)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), _ids, st.floats(allow_nan=False, allow_infinity=False), _text),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_text, inner, max_size=2)),
    max_leaves=4,
)
_NOT_JSON = frozenset({"ByteEstimator", "OtherOptimizer", "RegularizerSpec", "TinkerPath", "ForwardBackwardRequest"})


def all_types() -> tuple[type[msgspec.Struct], ...]:
    """Every struct among the values."""
    found = [getattr(ta, name) for name in ta.__all__]
    return tuple(kind for kind in found if isinstance(kind, type) and issubclass(kind, msgspec.Struct))


def json_types() -> tuple[type[msgspec.Struct], ...]:
    """Those that ``encode_json`` and ``decode_json`` carry."""
    return tuple(kind for kind in all_types() if kind.__name__ not in _NOT_JSON)


def values(kind: type[T], *, finite: bool = True) -> st.SearchStrategy[T]:
    """Values of ``kind``, a struct of ``tinker_actors.types``."""
    return cast("st.SearchStrategy[T]", _values(kind, finite))


@cache
def _values(kind: Any, finite: bool) -> st.SearchStrategy[Any]:
    build = _BY_HAND.get(kind)
    return _built(kind, finite) if build is None else build(finite)


def _built(kind: type[msgspec.Struct], finite: bool) -> st.SearchStrategy[Any]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(kind):
        given = _OF_FIELDS.get((kind, field.name))
        fields[field.name] = _annotated(field.type, finite) if given is None else given
    return st.builds(kind, **fields)


def _annotated(kind: Any, finite: bool) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _SINGLE:
        return _SINGLE[kind]
    if kind is float:
        return _floats(finite)
    if origin is Annotated:  # names, which are never empty
        return _annotated(arguments[0], finite).filter(bool)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([_annotated(argument, finite) for argument in arguments])
    if origin is tuple:
        return st.lists(_annotated(arguments[0], finite), max_size=2).map(tuple)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(_text, _annotated(arguments[1], finite), max_size=2)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.deferred(lambda: values(kind, finite=finite))
    raise TypeError(f"no strategy for {kind}")


def _floats(finite: bool) -> st.SearchStrategy[float]:
    return st.floats(width=32, allow_nan=False, allow_infinity=not finite)


def _texts(finite: bool) -> st.SearchStrategy[ta.EncodedTextChunk]:
    return numbers("tokens", 0, 6).map(ta.EncodedTextChunk)


def _images(finite: bool) -> st.SearchStrategy[ta.ImageChunk]:
    expected = st.one_of(st.none(), st.integers(0, 9))
    return st.builds(
        ta.ImageChunk, st.binary(min_size=1, max_size=9), st.sampled_from(["png", "jpeg"]), expected_tokens=expected
    )


def _pointers(finite: bool) -> st.SearchStrategy[ta.ImageAssetPointerChunk]:
    expected = st.one_of(st.none(), st.integers(0, 9))
    return st.builds(ta.ImageAssetPointerChunk, _names, st.sampled_from(["png", "jpeg"]), expected_tokens=expected)


def _dmels(finite: bool) -> st.SearchStrategy[ta.DmelChunk]:
    header = st.tuples(st.sampled_from([b"", b"\xfe"]), st.integers(0, 7), st.lists(st.integers(1, 127), min_size=1))
    container = header.map(lambda parts: parts[0] + bytes([parts[1], len(parts[2][:9]), *parts[2][:9]]))
    return st.tuples(container, st.binary(max_size=5)).map(lambda parts: ta.DmelChunk(parts[0] + parts[1]))


def _inputs(finite: bool) -> st.SearchStrategy[ta.ModelInput]:
    chunks = st.one_of(_texts(finite), _images(finite), _pointers(finite), _dmels(finite))
    return st.lists(chunks, max_size=3).map(lambda row: ta.ModelInput(chunks=tuple(row)))


_ALTERNATIVES = st.sampled_from([(1, 1), (0, 2), (3, 2), (2, 1)])


@cache
@st.composite
def _alternatives(draw: st.DrawFn, finite: bool) -> ta.PromptAltTokens:
    shapes = (draw(_ALTERNATIVES),)
    tokens = draw(tensors(finite, dtype="int64", dense=True, shapes=shapes))
    logprobs = draw(tensors(finite, dtype="float32", dense=True, shapes=shapes))
    return ta.PromptAltTokens(tokens=tokens, logprobs=logprobs)


_SPAN_KINDS: st.SearchStrategy[type[ta.PromptProvenanceSpan | ta.SampledProvenanceSpan]] = st.sampled_from(
    [ta.PromptProvenanceSpan, ta.SampledProvenanceSpan]
)


@cache
def _cuts(length: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, length), max_size=2)


@cache
@st.composite
def _spans(draw: st.DrawFn, length: int) -> tuple[ta.ProvenanceSpan, ...]:
    cuts = sorted(draw(_cuts(length)))
    out: list[ta.ProvenanceSpan] = []
    for start, end in zip([0, *cuts], [*cuts, length], strict=True):
        kind = draw(_SPAN_KINDS)
        out.append(kind(sequence_id=draw(_names), length=end - start, offset=draw(_counts)))
    return tuple(out)


@cache
def _trainable(finite: bool) -> st.SearchStrategy[list[ta.ModelInputChunk]]:
    chunks = st.one_of(_texts(finite), _images(finite), _dmels(finite))
    return st.lists(chunks, min_size=1, max_size=3)


_ROWS = st.integers(1, 4)
_WITH: st.SearchStrategy[tuple[str, ...]] = st.sampled_from(
    [(), ("weights",), ("advantages", "logprobs"), ("logprobs", "weights")]
)


@cache
@st.composite
def _datums(draw: st.DrawFn, finite: bool) -> ta.Datum:
    row = draw(_trainable(finite))
    model_input = ta.ModelInput(chunks=tuple(row))
    length = model_input.known_length
    if length == 0:
        model_input, length = ta.ModelInput.from_ints([draw(_ids)]), 1
    rows = draw(_ROWS) if length is None else length
    names = draw(_WITH)
    inputs = {"target_tokens": draw(tensors(finite, rows=rows, dtype="int64"))}
    inputs |= {name: draw(tensors(finite, rows=rows, dtype="float32")) for name in names}
    if draw(BOOLEANS):
        inputs["other"] = draw(tensors(finite))
    datum = ta.Datum(model_input, inputs)
    if draw(BOOLEANS):
        mine, theirs = draw(_spans(length or 3)), draw(_spans(rows))
        datum = datum.with_provenance(model_input=mine, loss_fn_inputs=theirs)
    return datum


def _requests(finite: bool) -> st.SearchStrategy[ta.ForwardBackwardRequest]:
    numbers = st.floats(allow_nan=False, allow_infinity=not finite)
    return st.builds(
        ta.ForwardBackwardRequest,
        model_id=_text,
        seq_id=_ids,
        data=st.lists(_datums(finite), max_size=2).map(tuple),
        loss_fn=st.sampled_from(ta.LOSS_FNS),
        loss_fn_config=st.dictionaries(_text, st.one_of(numbers, _text), max_size=2),
        forward_only=st.booleans(),
    )


def _params(finite: bool) -> st.SearchStrategy[ta.SamplingParams]:
    return st.builds(
        ta.SamplingParams,
        max_tokens=st.one_of(st.none(), st.integers(1, 2**31 - 1)),
        seed=st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        stop=st.one_of(st.none(), _text, st.lists(_text, max_size=3), st.lists(_ids, max_size=3)),
        temperature=st.floats(0, 2, width=32),
        top_k=st.one_of(st.just(-1), st.integers(1, 2**31 - 1)),
        top_p=st.floats(0.0078125, 1, width=32),
    )


_STOP_REASONS: st.SearchStrategy[ta.StopReason] = st.sampled_from(["stop", "length"])


@cache
def _table(length: int, finite: bool) -> st.SearchStrategy[ta.TopkLogprobs | None]:
    if not length:
        return st.none()
    # by the protocol this very cell says that there is none
    cells = st.tuples(_ids, _floats(finite)).filter(lambda cell: cell != (0, -99999.0))
    row = st.one_of(st.none(), st.lists(cells, min_size=1, max_size=3).map(tuple))
    return st.one_of(st.none(), st.lists(row, min_size=length, max_size=length).map(tuple))


@cache
@st.composite
def _sequences(draw: st.DrawFn, finite: bool) -> ta.SampledSequence:
    tokens = draw(numbers("tokens", 0, 5))
    # zero logprobs are written as none at all, as the protocol has it
    with_logprobs = len(tokens) > 0 and draw(BOOLEANS)
    return ta.SampledSequence(
        stop_reason=draw(_STOP_REASONS),
        tokens=tokens,
        logprobs=draw(numbers("finite" if finite else "floats", len(tokens), len(tokens))) if with_logprobs else None,
        topk_logprobs=draw(_table(len(tokens), finite)),
    )


@cache
def _prompts(finite: bool) -> st.SearchStrategy[list[float | None]]:
    return st.lists(st.one_of(st.none(), _floats(finite)), max_size=4)


@cache
def _rows_of_sequences(finite: bool) -> st.SearchStrategy[list[ta.SampledSequence]]:
    return st.lists(_sequences(finite), max_size=3)


@cache
@st.composite
def _responses(draw: st.DrawFn, finite: bool) -> ta.SampleResponse:
    prompt = draw(_prompts(finite))
    return ta.SampleResponse(
        sequences=tuple(draw(_rows_of_sequences(finite))),
        prompt_logprobs=tuple(prompt) or None,
        topk_prompt_logprobs=draw(_table(len(prompt), finite)),
        prompt_cache_hit_tokens=draw(_ids),
        target_prompt_logprobs=draw(tensors(finite, dtype="float32")) if draw(BOOLEANS) else None,
        prompt_alt_tokens=draw(_alternatives(finite)) if draw(BOOLEANS) else None,
    )


def _outputs(finite: bool) -> st.SearchStrategy[ta.ForwardBackwardOutput]:
    columns = tensors(finite, dense=True, shapes=((1,), (3,), (2, 3), (1, 1), (3, 1, 2)))
    return st.builds(
        ta.ForwardBackwardOutput,
        loss_fn_output_type=_text,
        loss_fn_outputs=st.lists(st.dictionaries(_names, columns, max_size=2), max_size=3).map(tuple),
        metrics=st.dictionaries(_text, st.floats(allow_nan=False, allow_infinity=not finite), max_size=2),
    )


def _copies(finite: bool) -> st.SearchStrategy[ta.CopyWeightsRequest]:
    source = st.just("tinker://run:1/weights/a")
    ttl = st.one_of(st.none(), _counts)
    kind = ta.CopyWeightsRequest
    return st.one_of(
        st.builds(kind, source_path=source, destination_project_id=_text, ttl_seconds=ttl),
        st.builds(kind, source_path=source, session_id=_text, model_seq_id=_counts, ttl_seconds=ttl),
    )


_SINGLE: dict[Any, st.SearchStrategy[Any]] = {
    str: _text,
    int: _counts,
    bool: st.booleans(),
    type(None): st.none(),
    datetime.datetime: _times,
    Any: _json,
}
_optimizers = st.one_of(st.none(), st.sampled_from([{"type": "adamw"}, {"type": "dimuon", "version": 1}]))
_metadata = st.dictionaries(_text, _text, max_size=2)
_OF_FIELDS: dict[tuple[type[Any], str], st.SearchStrategy[Any]] = {
    (ta.AdamParams, "learning_rate"): st.floats(0, 1),
    (ta.AdamParams, "beta1"): st.floats(0, 0.99),
    (ta.AdamParams, "beta2"): st.floats(0, 0.99),
    (ta.AdamParams, "eps"): st.floats(0, 1),
    (ta.AdamParams, "weight_decay"): st.floats(0, 1),
    (ta.AdamParams, "grad_clip_norm"): st.floats(0, 9),
    (ta.ClientConfig, "billing_exception_max_pause_duration_sec"): st.integers(0, 9999).map(float),
    (ta.ClientFinishedStatusQuery, "reasons"): st.one_of(st.none(), st.sampled_from([("success",), ("errored",)])),
    (ta.CreateModelRequest, "optimizer_config"): _optimizers,
    (ta.CreateSessionRequest, "user_metadata"): _metadata,
    (ta.DimuonConfig, "version"): st.just(1),
    (ta.DimuonParams, "learning_rate"): st.floats(0, 1),
    (ta.DimuonParams, "beta1"): st.floats(0, 0.99),
    (ta.FinishSessionRequest, "reason"): st.sampled_from([{"type": "success"}, {"type": "errored"}]),
    (ta.GetInfoResponse, "optimizer_config"): _optimizers,
    (ta.LoadWeightsRequest, "optimizer_config"): _optimizers,
    (ta.LoraConfig, "rank"): st.integers(1, 512),
    (ta.LoraConfig, "train_mlp"): st.just(True),
    (ta.OptimStepRequest, "optimizer_params"): st.one_of(
        st.none(), st.just({"type": "dimuon", "learning_rate": 0.5, "grad_clip_norm": 0.0, "beta1": 0.9})
    ),
    (ta.OtherOptimizer, "type"): _names,
    (ta.OtherOptimizer, "fields"): st.dictionaries(st.text("xyz", min_size=1), _json, max_size=2),
    (ta.PromptProvenanceSpan, "sequence_id"): _names,
    (ta.RegularizerSpec, "fn"): st.just(max),
    (ta.RegularizerSpec, "name"): _names,
    (ta.RegularizerSpec, "weight"): st.floats(0, 9),
    (ta.SampledProvenanceSpan, "sequence_id"): _names,
    (ta.SaveWeightsExternalRequest, "age_encryption_recipients"): st.one_of(
        st.none(), st.sampled_from([("age1abc",), ("age1abc", "ssh-ed25519 AAAA")])
    ),
    (ta.SaveWeightsForSamplerRequest, "kind"): st.sampled_from(["snapshot", "inflight"]),
    (ta.SessionEndEvent, "duration"): st.sampled_from(["0:00:05.100000", "1 day, 2:03:04", "PT5S"]),
    (ta.SessionSearchRequest, "display_name"): st.one_of(st.none(), _names),
    (ta.SessionSearchRequest, "limit"): st.integers(1, 200),
    (ta.SessionSearchRequest, "statuses"): st.one_of(
        st.none(), st.sampled_from([(ta.ActiveStatusQuery(),), (ta.ClientFinishedStatusQuery(reasons=("success",)),)])
    ),
    (ta.TinkerPath, "name"): _names,
    (ta.TinkerPath, "run"): _names,
    (ta.WeightsInfoResponse, "optimizer_config"): _optimizers,
    (ta.UserSearchOwner, "owner_urns"): st.lists(_text, min_size=1, max_size=3).map(tuple),
}
_BY_HAND: dict[Any, Callable[[bool], st.SearchStrategy[Any]]] = {
    ta.CopyWeightsRequest: _copies,
    ta.Datum: _datums,
    ta.DmelChunk: _dmels,
    ta.EncodedTextChunk: _texts,
    ta.ForwardBackwardOutput: _outputs,
    ta.ForwardBackwardRequest: _requests,
    ta.ImageAssetPointerChunk: _pointers,
    ta.ImageChunk: _images,
    ta.ModelInput: _inputs,
    ta.PromptAltTokens: _alternatives,
    ta.SampledSequence: _sequences,
    ta.SampleResponse: _responses,
    ta.SamplingParams: _params,
    ta.TensorData: tensors,
}
