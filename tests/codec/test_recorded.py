"""Bodies that official SDKs have put on the wire decode to the values they were made from, and ours are like them.

``recorded/record.py`` says how they were taken, and how another release's are.
"""

from __future__ import annotations

import base64
import datetime
import importlib
import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np
import pytest

import tinker_actors.types as ta
from tests.wire.scripted import Answer, scripted
from tinker_actors.codec.compression import decompress
from tinker_actors.codec.forward_backward import decode_forward_backward_request, encode_forward_backward_request
from tinker_actors.codec.forward_backward_json import decode_forward_backward_json, encode_forward_backward_json
from tinker_actors.codec.forward_backward_output import decode_forward_backward_output, encode_forward_backward_output
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.codec.samples import decode_sample_response, encode_sample_response
from tinker_actors.errors import APIResponseError

RELEASES = ("0.24.1", "0.25.0", "0.38.0")
# Defaults that ours write out: of later releases, which older servers ignore, and one that the SDK's client sets.
WE_ADD: Mapping[str, Mapping[str, Any]] = {
    "SaveWeightsForSamplerRequest": {"kind": "snapshot"},
    "SampleRequest": {"topk_sample_logprobs": 0, "prompt_alt_tokens_k": 0, "record_stability_info": False},
}
# The one that 0.38 writes out and ours leave to the server.
THEY_ADD = {"optimizer_config": {"type": "adamw"}}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One of the file: a body and the values it was made from."""

    kind: str
    values: dict[str, Any]
    text: str | None = None
    base64: str | None = None
    path: str = ""
    content_type: str = ""
    encoding: str = ""
    release: str = ""

    @property
    def body(self) -> bytes:
        """As it went over the wire."""
        return base64.b64decode(self.base64) if self.text is None else self.text.encode()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint without an operation was asked; ``ours`` asks the same of it with ``values``."""

    call: str
    ours: str
    values: dict[str, Any]
    method: str
    path: str
    query: str
    text: str
    keyed: bool
    release: str = ""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes a datum or a prompt will take, as a release counts them."""

    kind: str
    values: dict[str, Any]
    bytes: int
    release: str = ""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A file: what one release sends, and what it reads."""

    sdk: str
    requests: tuple[Message, ...]
    results: tuple[Message, ...]
    calls: tuple[Call, ...]
    estimates: tuple[Estimate, ...]


def messages(which: str) -> list[Any]:
    out: list[Any] = []
    for release in RELEASES:
        path = Path(__file__).parent / "recorded" / f"sdk-{release}.json"
        found = msgspec.json.decode(path.read_bytes(), type=Recorded)
        assert found.sdk == release
        for number, message in enumerate(getattr(found, which)):
            made = msgspec.structs.replace(message, release=release)
            name = message.call if isinstance(message, Call) else message.kind
            out.append(pytest.param(made, id=f"{release}-{name}-{number}"))
    return out


def tensor(values: Mapping[str, Any]) -> ta.TensorData:
    return ta.TensorData(**values)


def model_input(values: Mapping[str, Any]) -> ta.ModelInput:
    kinds = {
        "encoded_text": ta.EncodedTextChunk,
        "image": ta.ImageChunk,
        "image_asset_pointer": ta.ImageAssetPointerChunk,
        "dmel": ta.DmelChunk,
    }
    chunks: list[Any] = []
    for row in values["chunks"]:
        fields = {
            key: base64.b64decode(value) if key in ("data", "dmel") else value
            for key, value in row.items()
            if key != "type"
        }
        chunks.append(kinds[row["type"]](**fields))
    return ta.ModelInput(chunks=tuple(chunks))


def spans(rows: list[dict[str, Any]] | None) -> Any:
    kinds = {"prompt": ta.PromptProvenanceSpan, "sampled": ta.SampledProvenanceSpan}
    return rows and [kinds[row["kind"]](**{key: row[key] for key in row if key != "kind"}) for row in rows]


def datum(values: Mapping[str, Any]) -> ta.Datum:
    inputs = {name: tensor(fields) for name, fields in values["loss_fn_inputs"].items()}
    return ta.Datum(
        model_input(values["model_input"]),
        inputs,
        spans(values.get("model_input_spans")),
        spans(values.get("loss_fn_input_spans")),
    )


def table(rows: list[Any] | None) -> Any:
    return rows and tuple(row and tuple((i, x) for i, x in row) for row in rows)


def sequence(values: Mapping[str, Any]) -> ta.SampledSequence:
    return ta.SampledSequence(
        stop_reason=values["stop_reason"],
        tokens=np.array(values["tokens"], np.int32),
        logprobs=None if values["logprobs"] is None else np.array(values["logprobs"], np.float32),
        topk_logprobs=table(values.get("topk_logprobs")),
    )


def made(message: Message) -> Any:
    """Our value of the same values."""
    values = message.values
    match message.kind:
        case "ForwardBackwardRequest":
            return ta.ForwardBackwardRequest(**values | {"data": tuple(map(datum, values["data"]))})
        case "SampleRequest":
            fields = values | {
                "prompt": model_input(values["prompt"]),
                "sampling_params": ta.SamplingParams(**values["sampling_params"]),
            }
            if "target_prompt_logprobs" in fields:
                fields["target_prompt_logprobs"] = tensor(fields["target_prompt_logprobs"])
            return ta.SampleRequest(**fields)
        case "SampleResponse":
            alternatives = values.get("prompt_alt_tokens")
            targets = values.get("target_prompt_logprobs")
            prompt = values.get("prompt_logprobs")
            return ta.SampleResponse(
                sequences=tuple(map(sequence, values["sequences"])),
                prompt_logprobs=prompt and tuple(prompt),
                topk_prompt_logprobs=table(values.get("topk_prompt_logprobs")),
                prompt_cache_hit_tokens=values.get("prompt_cache_hit_tokens", 0),
                target_prompt_logprobs=targets and tensor(targets),
                prompt_alt_tokens=alternatives
                and ta.PromptAltTokens(
                    tokens=tensor(alternatives["tokens"]), logprobs=tensor(alternatives["logprobs"])
                ),
            )
        case "ForwardBackwardOutput":
            rows = [{name: tensor(fields) for name, fields in row.items()} for row in values["loss_fn_outputs"]]
            return ta.ForwardBackwardOutput(**values | {"loss_fn_outputs": tuple(rows)})
        case kind:
            return msgspec.convert(values, getattr(ta, kind))


def decoded(message: Message) -> Any:
    body = decompress(message.body, message.encoding, limit=1 << 20)
    if message.text is None:
        return {
            "ForwardBackwardRequest": decode_forward_backward_request,
            "SampleResponse": decode_sample_response,
            "ForwardBackwardOutput": decode_forward_backward_output,
        }[message.kind](body)
    if message.kind == "ForwardBackwardRequest":
        return decode_forward_backward_json(body)
    return decode_json(body, getattr(ta, message.kind))


def with_defaults(value: Any) -> Any:
    """``value`` with what 0.38 writes out where nothing is given."""
    if getattr(value, "optimizer_config", "") is None and not isinstance(value, ta.LoadWeightsRequest):
        return msgspec.structs.replace(value, **THEY_ADD)
    return value


@pytest.mark.parametrize("message", [*messages("requests"), *messages("results")])
def test_a_body_decodes_to_the_values_it_was_made_from(message: Message):
    value = made(message)
    assert decoded(message) == (with_defaults(value) if message.release == "0.38.0" else value)


@pytest.mark.parametrize("message", messages("requests"))
def test_ours_is_written_as_that_release_writes_it(message: Message):
    value = made(message)
    if message.kind == "ForwardBackwardRequest" and message.text is None:
        schema = pytest.importorskip("tinker.proto.tinker_public_pb2").ForwardBackwardRequest
        ours = schema.FromString(b"".join(encode_forward_backward_request(value)))
        theirs = schema.FromString(decompress(message.body, message.encoding, limit=1 << 20))
        if message.release != "0.38.0":
            ours.ClearField("loss_fn_config_v2")  # older servers skip it, and read the other
        assert ours == theirs
        return
    in_json = encode_forward_backward_json if message.kind == "ForwardBackwardRequest" else encode_json
    ours, theirs = json.loads(in_json(value)), json.loads(message.body)
    assert ours == {**WE_ADD.get(message.kind, {}), **without_default(theirs)}


def without_default(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if (key, value) not in THEY_ADD.items()}


@pytest.mark.parametrize("message", messages("results"))
def test_our_result_says_what_that_releases_says(message: Message):
    """A server of ours answers with what the SDK's own messages would be."""
    value = made(message)
    if message.text is not None:
        theirs = json.loads(message.text)
        found = decode_json(encode_json(value), type(value))
        assert found == decode_json(json.dumps(without_default(theirs)).encode(), type(value))
        return
    encode: Any = {
        "SampleResponse": encode_sample_response,
        "ForwardBackwardOutput": encode_forward_backward_output,
    }[message.kind]
    schema = getattr(pytest.importorskip("tinker.proto.tinker_public_pb2"), message.kind)
    ours, theirs = schema.FromString(encode(value)), schema.FromString(message.body)
    if message.kind == "SampleResponse" and ours.HasField("prompt_alt_tokens"):
        for tensor_ in (ours.prompt_alt_tokens.tokens, theirs.prompt_alt_tokens.tokens):
            tensor_.dense, tensor_.dtype = (
                b"",
                0,
            )  # int64 and int32, both of which are read; the values are compared above
    assert ours == theirs


def test_every_release_has_its_messages():
    kinds = {
        release: {param.values[0].kind for param in messages("requests") if param.values[0].release == release}
        for release in RELEASES
    }
    assert kinds["0.24.1"] > {"UnloadModelRequest", "ForwardBackwardRequest", "TelemetryBatch"}
    assert kinds["0.25.0"] == kinds["0.24.1"]
    assert kinds["0.38.0"] >= {"CopyWeightsRequest", "SaveWeightsExternalRequest", "RetrieveFuturesRequest"}
    assert "UnloadModelRequest" not in kinds["0.38.0"]
    listed = {"TrainingRun", "CheckpointsListResponse", "GetSessionResponse", "GetSamplerResponse"}
    answers = {(param.values[0].release, param.values[0].kind) for param in messages("results")}
    asked = {(param.values[0].release, param.values[0].ours.partition(".")[0]) for param in messages("calls")}
    for release in RELEASES:
        assert {(release, kind) for kind in listed} <= answers
        assert {(release, module) for module in ("checkpoints", "listings", "service", "weights")} <= asked
    assert ("0.38.0", "SessionSearchResponse") in answers
    assert ("0.38.0", "sessions") in asked


@pytest.mark.parametrize("call", messages("calls"))
async def test_an_endpoint_is_asked_as_that_release_asks_it(call: Call):
    module, _, name = call.ours.partition(".")
    ask = getattr(importlib.import_module(f"tinker_actors.wire.endpoints.{module}"), name)
    given = dict(call.values)
    for key in given.keys() & {"starting_on", "ending_before"}:
        given[key] = datetime.datetime.fromisoformat(given[key])
    if "day" in given:
        given["day"] = datetime.date.fromisoformat(given["day"])
    if "request" in given:
        given["request"] = msgspec.convert(given["request"], ta.SessionSearchRequest)
    keyed = "key" in inspect.signature(ask).parameters
    async with scripted(Answer({}), base="http://server") as (api, script):
        with suppress(APIResponseError):  # the answer says nothing; what was asked is kept
            await ask(api, **given, **({"key": "k"} if keyed else {}))
    asked = script.asked[0]
    assert (asked.method, asked.path) == (call.method, call.path)
    assert sorted(parse_qsl(asked.query)) == sorted(parse_qsl(call.query))
    assert (asked.json if asked.body else None) == (json.loads(call.text) if call.text else None)
    assert not keyed or (call.keyed and asked.headers["x-idempotency-key"] == "k")


@pytest.mark.parametrize("estimate", messages("estimates"))
def test_bytes_are_counted_as_that_release_counts_them(estimate: Estimate):
    counter = ta.ByteEstimator(estimate.release)
    if estimate.kind == "Datum":
        assert counter.datum(datum(estimate.values)) == estimate.bytes
    else:
        assert counter.prompt(model_input(estimate.values)) == estimate.bytes
