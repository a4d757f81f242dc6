"""Record what an official SDK puts on the wire: ``PYTHON tests/codec/recorded/record.py``, once for each release.

PYTHON is that of an environment of its own with the release in it:

    python3 -m venv /tmp/sdk && /tmp/sdk/bin/pip install tinker==0.25.0
    /tmp/sdk/bin/python tests/codec/recorded/record.py

It writes sdk-<release>.json here. Requests are sent by the SDK's own client to a server in this process, which keeps
the bodies as they came. Results have no sender in an SDK: they are written by its own models (JSON) and its own
messages (protobuf), and read back by what the SDK reads results with before they are kept. A kind or a field that a
release does not know leaves its message out there. The values are those of messages.py.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import calls
import messages
import numpy as np
import pydantic
import rest
import tinker
from tinker.proto import tinker_public_pb2 as pb
from tinker.proto.response_conv import deserialize_proto_response
from tinker.types.client_config_response import ClientConfigResponse
from tinker.types.forward_backward_input import ForwardBackwardInput
from tinker.types.forward_backward_request import ForwardBackwardRequest

MAJOR, MINOR, *_ = tinker.__version__.split(".")
RELEASE = (int(MAJOR), int(MINOR))
DTYPES = {"float32": (pb.DTYPE_FLOAT32, "<f4"), "int64": (pb.DTYPE_INT64, "<i8")}
Body = tuple[str, str, str, bytes]  # path, content type, content encoding, body


class Handler(BaseHTTPRequestHandler):
    """Keeps each request, and answers with what any of them may want to read."""

    kept: ClassVar[list[Body]] = []

    def do_POST(self) -> None:
        """Every request that has a body."""
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        kind, encoding = self.headers["content-type"] or "", self.headers["content-encoding"] or ""
        self.kept.append((self.path, kind, encoding, body))
        answer = {
            "request_id": "r",
            "session_id": "s",
            "sampling_session_id": "x",
            "client_counter": 1,
            "model_id": "m",
            "model_data": {"model_name": "m/x", "tokenizer_id": "t"},
            "tinker_path": "tinker://r/weights/a",
            "completions": [],
            "cursor": 0,
            "status": "accepted",
        }
        call = self.path.rpartition("/")[2]
        if call in ("get_info", "session_heartbeat", "join_sampling_session") or call.startswith("create_s"):
            answer["type"] = call
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


def chunk(values: dict[str, Any]) -> Any:
    fields = {key: value for key, value in values.items() if key != "type"}
    for key in ("data", "dmel"):
        if key in fields:
            fields[key] = base64.b64decode(fields[key])
    kinds = {
        "encoded_text": "EncodedTextChunk",
        "image": "ImageChunk",
        "image_asset_pointer": "ImageAssetPointerChunk",
        "dmel": "DmelChunk",
    }
    name = kinds[values["type"]]
    module = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    return getattr(importlib.import_module(f"tinker.types.{module}"), name)(**fields)


def spans(rows: list[dict[str, Any]]) -> Any:
    from tinker.types import provenance_spans as theirs

    kinds = {"prompt": theirs.PromptProvenanceSpan, "sampled": theirs.SampledProvenanceSpan}
    return [kinds[row["kind"]](**{k: v for k, v in row.items() if k != "kind"}) for row in rows]


def datum(values: dict[str, Any]) -> Any:
    more = {key: spans(values[key]) for key in values if key.endswith("_spans")}
    return tinker.Datum(
        model_input=tinker.ModelInput(chunks=[chunk(row) for row in values["model_input"]["chunks"]]),
        loss_fn_inputs={name: tinker.TensorData(**fields) for name, fields in values["loss_fn_inputs"].items()},
        **more,
    )


def forward_backward(values: dict[str, Any]) -> Any:
    given = ForwardBackwardInput(
        data=[datum(row) for row in values["data"]],
        loss_fn=values["loss_fn"],
        loss_fn_config=values.get("loss_fn_config"),
    )
    return ForwardBackwardRequest(forward_backward_input=given, model_id=values["model_id"], seq_id=values["seq_id"])


def request(name: str, values: dict[str, Any]) -> Any:
    """The SDK's request, or None where this release knows no such thing."""
    module = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    try:
        kind = getattr(importlib.import_module(f"tinker.types.{module}"), name)
    except ModuleNotFoundError:
        return None
    given = dict(values)
    if "prompt" in given:
        given["prompt"] = tinker.ModelInput(chunks=[chunk(row) for row in given["prompt"]["chunks"]])
        given["sampling_params"] = tinker.SamplingParams(**given["sampling_params"])
    try:
        return kind(**given)
    except pydantic.ValidationError as error:
        if all(problem["type"] in ("extra_forbidden", "missing") for problem in error.errors()):
            return None
        raise


async def record_requests(url: str) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []

    def keep(kind: str, values: dict[str, Any]) -> None:
        ((path, content_type, encoding, body),) = Handler.kept
        Handler.kept.clear()
        text = {"text": body.decode()} if "json" in content_type else {"base64": base64.b64encode(body).decode()}
        out.append(
            {"kind": kind, "path": path, "content_type": content_type, "encoding": encoding, "values": values, **text}
        )

    def client(**config: bool) -> Any:
        return tinker._client.AsyncTinker(
            api_key="tml-recorder",
            base_url=url,
            max_retries=0,
            _client_config=ClientConfigResponse(**config),
        )

    async with client() as plain:
        for kind, name, method, values in messages.REQUESTS:
            resource, _, call = method.partition(".")
            function = getattr(getattr(plain, resource), call, None)
            given = values if name is None else request(name, values)
            if function is None or given is None:
                continue
            with suppress(AttributeError):  # of answers that are looked into: what was sent is kept by then
                await (function(**values) if name is None else function(request=given))
            keep(kind, values)
    for values in messages.FORWARD_BACKWARD:
        if "model_input_spans" in values["data"][0] and RELEASE < (0, 38):
            continue
        if RELEASE < (0, 25):
            async with client() as plain:
                if values["forward_only"]:
                    from tinker.types.forward_request import ForwardRequest

                    made = forward_backward(values)
                    await plain.training.forward(
                        request=ForwardRequest(
                            forward_input=made.forward_backward_input, model_id=made.model_id, seq_id=made.seq_id
                        )
                    )
                else:
                    await plain.training.forward_backward(request=forward_backward(values))
                keep("ForwardBackwardRequest", values)
        forms = [{"proto_write_fwdbwd": True}] if RELEASE < (0, 25) else [{}]
        for form in (*forms, forms[0] | {"proto_compress_fwdbwd": True}):
            async with client(**form) as protobuf:
                await protobuf.training.forward_backward(
                    request=forward_backward(values), forward_only=values["forward_only"]
                )
            keep("ForwardBackwardRequest", values)
    return out


def holds(found: Any, values: Any) -> bool:
    """Whether ``found`` has each field that ``values`` give something, at every depth."""
    if isinstance(values, dict) and isinstance(found, dict):
        return all(name in found and holds(found[name], value) for name, value in values.items() if value is not None)
    if isinstance(values, list) and isinstance(found, list):
        return all(map(holds, found, values))
    return True


def record_results() -> Iterator[dict[str, Any]]:
    for kind, path, values in (*messages.RESULTS, *rest.RESULTS):
        module, _, name = path.rpartition(".")
        try:
            whole = module if module.startswith("tinker.") else f"tinker.types.{module}"
            model = getattr(importlib.import_module(whole), name)
        except (ModuleNotFoundError, AttributeError):
            continue
        try:
            text = model.model_validate(values).model_dump_json(exclude_none=True)
        except pydantic.ValidationError as error:
            if {problem["type"] for problem in error.errors()} != {"literal_error"}:
                raise
            continue  # a value that this release does not know
        if holds(json.loads(text), values):
            yield {"kind": kind, "values": values, "text": text}
    for values in messages.SAMPLE_RESPONSES:
        if "prompt_alt_tokens" in values and RELEASE < (0, 38):
            continue
        body = sample_response(values)
        read = deserialize_proto_response(body, tinker.SampleResponse)
        assert [list(s.tokens) for s in read.sequences] == [s["tokens"] for s in values["sequences"]]
        assert [s.stop_reason for s in read.sequences] == [s["stop_reason"] for s in values["sequences"]]
        yield {"kind": "SampleResponse", "values": values, "base64": base64.b64encode(body).decode()}
        if RELEASE < (0, 25):
            model = importlib.import_module("tinker.types._pydantic_types.sample_response").SampleResponse
            text = model.model_validate(values | {"type": "sample"}).model_dump_json(exclude_none=True)
            yield {"kind": "SampleResponse", "values": values, "text": text}
    for values in messages.FORWARD_BACKWARD_OUTPUTS:
        body = output(values)
        read = deserialize_proto_response(body, tinker.ForwardBackwardOutput)
        assert [{name: list(tensor.data) for name, tensor in record.items()} for record in read.loss_fn_outputs] == [
            {name: tensor["data"] for name, tensor in record.items()} for record in values["loss_fn_outputs"]
        ]
        yield {"kind": "ForwardBackwardOutput", "values": values, "base64": base64.b64encode(body).decode()}
        if RELEASE < (0, 25):
            model = importlib.import_module(
                "tinker.types._pydantic_types.forward_backward_output"
            ).ForwardBackwardOutput
            text = model.model_validate(values).model_dump_json(exclude_none=True)
            yield {"kind": "ForwardBackwardOutput", "values": values, "text": text}


def numbers(values: Any, kind: str) -> bytes:
    return np.array(values, kind).tobytes()


def tensor(values: dict[str, Any]) -> Any:
    number, kind = DTYPES[values["dtype"]]
    return pb.Tensor(dense=numbers(values["data"], kind), dtype=number, shape=values["shape"])


def table(message: Any, rows: list[Any]) -> None:
    """Fill a top-k table; a cell of token 0 and -99999.0 is none, and a row that begins with one was not computed."""
    width = max(len(row or ()) for row in rows)
    cells = [[*(row or ()), *[[0, -99999.0]] * (width - len(row or ()))] for row in rows]
    message.token_ids = numbers([[cell[0] for cell in row] for row in cells], "<i4")
    message.logprobs = numbers([[cell[1] for cell in row] for row in cells], "<f4")
    message.k = width
    setattr(message, message.DESCRIPTOR.fields_by_number[4].name, len(rows))  # renamed after 0.25


def sample_response(values: dict[str, Any]) -> bytes:
    message = pb.SampleResponse(prompt_cache_hit_tokens=values.get("prompt_cache_hit_tokens", 0))
    for row in values["sequences"]:
        sequence = message.sequences.add(
            stop_reason={"stop": pb.STOP_REASON_STOP, "length": pb.STOP_REASON_LENGTH}[row["stop_reason"]],
            tokens=numbers(row["tokens"], "<i4"),
        )
        if row["logprobs"] is not None:
            sequence.logprobs = numbers(row["logprobs"], "<f4")
        if row.get("topk_logprobs"):
            table(sequence.topk_sampled_logprobs, row["topk_logprobs"])
    if values.get("prompt_logprobs"):
        message.prompt_logprobs = numbers([np.nan if x is None else x for x in values["prompt_logprobs"]], "<f4")
    if values.get("topk_prompt_logprobs"):
        table(message.topk_prompt_logprobs, values["topk_prompt_logprobs"])
    if values.get("target_prompt_logprobs"):
        message.target_prompt_logprobs.CopyFrom(tensor(values["target_prompt_logprobs"]))
    if values.get("prompt_alt_tokens"):
        alternatives = values["prompt_alt_tokens"]
        tokens = alternatives["tokens"]
        message.prompt_alt_tokens.tokens.CopyFrom(
            pb.Tensor(dense=numbers(tokens["data"], "<i4"), dtype=pb.DTYPE_INT32, shape=tokens["shape"])
        )
        message.prompt_alt_tokens.logprobs.CopyFrom(tensor(alternatives["logprobs"]))
    return message.SerializeToString()


def output(values: dict[str, Any]) -> bytes:
    records = values["loss_fn_outputs"]
    message = pb.ForwardBackwardOutput(loss_fn_output_type=values["loss_fn_output_type"], metrics=values["metrics"])
    record = message.loss_fn_outputs.add(type_tag=values["loss_fn_output_type"], num_datums=len(records))
    for name in records[0]:
        column = [row[name] for row in records]
        number, kind = DTYPES[column[0]["dtype"]]
        parts = [numbers(cell["data"], kind) for cell in column]
        field = record.fields[name]
        field.data, field.dtype = b"".join(parts), number
        field.offsets = numbers(np.cumsum([0, *map(len, parts)]), "<i8")
        field.trailing_shape.extend(column[0]["shape"][1:])
    return message.SerializeToString()


def estimates() -> Iterator[dict[str, Any]]:
    """What the SDK says of the bytes that a datum and a prompt will take."""
    holder = importlib.import_module("tinker.lib.internal_client_holder").InternalClientHolder
    module = importlib.import_module("tinker.lib.public_interfaces.training_client")
    counter = holder.__new__(holder)
    for values in messages.FORWARD_BACKWARD[:2]:
        for row in values["data"]:
            if RELEASE < (0, 25):
                count = module.TrainingClient._estimate_bytes_count(SimpleNamespace(holder=counter), datum(row))
            else:
                count = module._estimate_datum_bytes_count_proto(datum(row))
            yield {"kind": "Datum", "values": row, "bytes": count}
    for kind, _, _, values in messages.REQUESTS:
        if kind == "SampleRequest":
            prompt = tinker.ModelInput(chunks=[chunk(row) for row in values["prompt"]["chunks"]])
            count = counter.estimate_bytes_count_in_model_input(prompt)
            yield {"kind": "ModelInput", "values": values["prompt"], "bytes": count}


def main() -> None:
    """Record the release that is installed here."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    requests = asyncio.run(record_requests(f"http://127.0.0.1:{server.server_port}"))
    found = {
        "sdk": tinker.__version__,
        "requests": requests,
        "results": list(record_results()),
        "calls": calls.record(),
        "estimates": list(estimates()),
    }
    path = Path(__file__).with_name(f"sdk-{tinker.__version__}.json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{path.name}: { ({name: len(rows) for name, rows in found.items()}) }", file=sys.stderr)
    os._exit(0)  # the SDK's threads go on


if __name__ == "__main__":
    main()
