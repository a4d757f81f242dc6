from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.processes import COMMAND, environment
from tests.local.harness import TINY, Caller, Stage, play
from tinker_actors.local.endpoints.table import ENDPOINTS
from tinker_actors.local.openapi import openapi
from tinker_actors.ports import Request

DOCUMENT: Any = msgspec.json.decode(msgspec.json.encode(openapi()))


def operation(method: str, path: str) -> Any:
    return DOCUMENT["paths"][f"/api/v1{path}"][method.lower()]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_endpoint_is_in_the_document_and_nothing_else() -> None:
    told = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    served = {(e.method, "/api/v1" + re.sub(r":\w+}", "}", e.path)) for e in ENDPOINTS}
    assert told == served
    assert len(told) == len(ENDPOINTS)
    ids = [each["operationId"] for methods in DOCUMENT["paths"].values() for each in methods.values()]
    assert len(set(ids)) == len(ids)
    for methods in DOCUMENT["paths"].values():
        for each in methods.values():
            assert len(each["summary"]) > 8
            assert "default" in each["responses"]


def test_the_document_is_whole() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    components = DOCUMENT["components"]["schemas"]
    for reference in references(DOCUMENT):
        assert reference.removeprefix("#/components/schemas/") in components
    for path, methods in DOCUMENT["paths"].items():
        for each in methods.values():
            named = {parameter["name"] for parameter in each["parameters"] if parameter["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


def test_what_it_says_of_some_endpoints() -> None:
    query = {p["name"]: p for p in operation("GET", "/checkpoints")["parameters"]}
    assert query["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert query["offset"]["in"] == "query"
    assert not query["offset"]["required"]
    usage = {p["name"]: p["required"] for p in operation("GET", "/billing/usage/events")["parameters"]}
    assert usage == {"starting_on": True, "ending_before": True}
    forward = operation("POST", "/forward_backward")["requestBody"]["content"]
    assert set(forward) == {"application/json", "application/x-protobuf"}
    assert operation("GET", "/healthz")["security"] == []
    assert operation("POST", "/asample")["security"] == [{"key": []}]
    assert "204" in operation("DELETE", "/training_runs/{run_id}/checkpoints/{checkpoint_id}")["responses"]
    assert set(operation("POST", "/stream_sample")["responses"]["200"]["content"]) == {"text/event-stream"}
    promise = operation("POST", "/optim_step")["responses"]["200"]["content"]["application/json"]["schema"]
    assert DOCUMENT["components"]["schemas"][promise["$ref"].rpartition("/")[2]]["required"] == ["request_id"]
    sample = operation("POST", "/asample")["requestBody"]["content"]["application/json"]["schema"]
    assert "prompt" in DOCUMENT["components"]["schemas"][sample["$ref"].rpartition("/")[2]]["required"]


def test_the_server_serves_it_without_a_key() -> None:
    async def scenario(stage: Stage) -> None:
        request = Request(method="GET", url="http://server/openapi.json", headers=(), body=(), timeout=10.0)
        response = await Caller(stage.network.transport(), key=None).transport.send(request)
        assert response.headers["content-type"] == "application/json"
        assert msgspec.json.decode(await response.read(1 << 22)) == DOCUMENT

    play(scenario)


@pytest.mark.process
def test_serve_prints_it() -> None:
    command = [*COMMAND, "serve", "--openapi", "--base-model", TINY]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, check=True)
    assert msgspec.json.decode(done.stdout.encode()) == DOCUMENT


def test_the_guide_names_every_endpoint_and_no_other() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "endpoints.md").read_text("utf-8")
    rows = [re.match(r"\| ([A-Z]+) `(/\S*)` \|", line) for line in guide.splitlines()]
    told = [(row[1], row[2]) for row in rows if row is not None]
    served = [(e.method, re.sub(r":\w+}", "}", e.path)) for e in ENDPOINTS]
    assert sorted(told) == sorted(served)
