"""What plain programs of the tests begin with: a runtime whose chosen requests wait, and a model of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import trio

from tinker_actors.blocking import BlockingRuntime, SamplingClient, ServiceClient, TrainingClient, blocking_runtime
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.types import AdamParams, Datum, ModelInput, SamplingParams
from tinker_actors.wire.transport import HttpTransport

__all__ = [
    "BASE_MODEL",
    "PROMPT",
    "SHORT",
    "AdamParams",
    "Holding",
    "batch",
    "engines",
    "open_here",
    "runtime_at",
    "sample_here",
    "start",
    "until",
]

BASE_MODEL = "tinker-actors/tiny"
PROMPT = ModelInput.from_ints([1, 2])
SHORT = SamplingParams(max_tokens=2, seed=1)


def batch(*seeds: int) -> list[Datum]:
    """A datum of its own for each seed."""
    return [
        Datum(ModelInput.from_ints([1 + seed % 30, 2]), {"target_tokens": [2, 3], "weights": [1.0, 1.0 + seed]})
        for seed in seeds
    ]


class Holding(Transport):
    """HTTP in which requests of the ``held`` purposes are never sent, and so never answered."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self._inner = HttpTransport()

    async def send(self, request: Request) -> Response:
        if request.purpose in self.held:
            await trio.sleep_forever()
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def runtime_at(url: str, key: str, carrier: Transport | None = None, **more: Any) -> BlockingRuntime:
    """A runtime for the server at ``url``, through ``carrier``, which ends with it."""
    known: dict[str, Any] = {} if "config" in more else {"base_url": url, "api_key": key}
    settings = {**known, "seed": 1, **more}
    return blocking_runtime(**settings) if carrier is None else blocking_runtime(transport=carrier, **settings)


def sample_here(sampler: SamplingClient) -> tuple[int, list[int], str | None, int]:
    """For a worker: its process, the tokens of a sample, which sample that was, and how many runtimes are open."""
    sequence = sampler.sample(PROMPT, 1, SHORT).sequences[0]
    return os.getpid(), sequence.tokens.tolist(), sequence.sequence_id, len(engines())


def open_here(url: str) -> None:
    """For a worker: a runtime with a key that the worker itself has got."""
    blocking_runtime(base_url=url, api_key="tml-" + "local")


def start(runtime: BlockingRuntime) -> tuple[ServiceClient, TrainingClient]:
    """A session and a model of it."""
    service = runtime.create_service_client()
    return service, service.create_lora_training_client(BASE_MODEL, rank=2, seed=1)


def until(condition: Callable[[], bool], within: float = 60.0) -> None:
    """Return when ``condition`` holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.002)


def engines() -> list[threading.Thread]:
    """The threads of runtimes that are open."""
    return [thread for thread in threading.enumerate() if thread.name == "tinker-actors"]
