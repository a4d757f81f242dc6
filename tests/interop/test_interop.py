"""All operations of our public clients against a server: one of our own, or the one that --server-url names."""

from __future__ import annotations

import inspect
import os
import uuid
from typing import Any

import pytest
import trio

import tinker_actors
from tests.interop.conftest import REASONS, TABLE
from tests.interop.generations import json_only
from tests.interop.operation import OPERATIONS, Call, tools_for
from tests.interop.scenarios import refusals, rest, sampling, training
from tests.verdicts import note
from tinker_actors import APIStatusError, NotStreamed, RequestFailedError, ServerSettings
from tinker_actors.local.server import open_server

_MODULES = (refusals, rest, sampling, training)  # importing them fills OPERATIONS
_CLASSES = ("ServiceClient", "TrainingClient", "SamplingClient", "RestClient")  # and what makes them
_SUFFIX = "_async"
_GENERATIONS = {"protobuf": None, "json": json_only}
_PATIENCE = {"local": 60.0, "server": 1800.0}  # seconds for one operation; a large model takes its time


def _public_methods() -> set[str]:
    return {
        f"{class_}.{name}"
        for class_ in _CLASSES
        for name, found in inspect.getmembers(getattr(tinker_actors, class_), callable)
        if not name.startswith("_")
    } | {f"Runtime.{name}" for name in dir(tinker_actors.Runtime) if name.startswith("create_")}


def _variants() -> list[str]:
    methods = _public_methods()
    return [name for base in OPERATIONS for name in (base, base + _SUFFIX) if name == base or name in methods]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "generation" in metafunc.fixturenames:
        url = metafunc.config.getoption("--server-url", default=None)
        metafunc.parametrize("generation", ["server"] if url else list(_GENERATIONS))


def _refusal(error: BaseException | None) -> BaseException | None:
    """The server's own no in ``error``: that it does not offer, or does not take, what was asked."""
    while error is not None:
        if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
            continue
        if isinstance(error, RequestFailedError | NotStreamed) or (
            isinstance(error, APIStatusError) and error.status < 500
        ):
            return error
        error = error.__cause__
    return None


@pytest.mark.parametrize("name", _variants())
async def test_an_operation(request: pytest.FixtureRequest, generation: str, name: str) -> None:
    config = request.config
    url, key = (config.getoption(f"--server-{what}", default=None) for what in ("url", "key"))
    run = OPERATIONS[name if name in OPERATIONS else name.removesuffix(_SUFFIX)]
    note(request.node, TABLE, name, generation, "works")
    if url is None:
        settings = ServerSettings(base_model="tinker-actors/tiny", fwdbwd_max_chunk_len=2)
        async with open_server(settings, around=_GENERATIONS[generation]) as server:
            with trio.fail_after(_PATIENCE["local"]):
                await _drive(run, Call(name), server.url, "tml-interop", "tinker-actors/tiny")
        return
    try:
        with trio.fail_after(_PATIENCE["server"]):
            key = key or os.environ["TINKER_API_KEY"]
            await _drive(run, Call(name), url, key, config.getoption("--server-model"))
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        said = " ".join(str(refusal).split())
        what = refusal.status if isinstance(refusal, APIStatusError) else "its operation failed"
        note(request.node, TABLE, name, generation, f"refused by server ({what})")
        note(request.node, REASONS, name, generation, said)
        pytest.skip(said)


async def _drive(run: Any, call: Call, url: str, key: str, model: str | None) -> None:
    async with tools_for(url, key, model, uuid.uuid4().hex[:8]) as tools:
        await run(tools, call)


def test_every_public_method_has_a_scenario() -> None:
    """Add one to tests/interop/scenarios: one function under ``@operation("Class.method")``."""
    assert _public_methods() - set(_variants()) == set()
    unknown = {name for name in OPERATIONS if name.split(".")[0] in (*_CLASSES, "Runtime")} - _public_methods()
    assert unknown == set()
