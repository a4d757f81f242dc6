"""What a scenario of an official SDK's public call has at hand, and how it makes the call."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import tinker
from tinker import types

__all__ = ["SCENARIOS", "TOKENS", "Call", "World", "batch", "logprobs", "scenario"]

TOKENS = [5, 9, 13, 17, 21, 25, 29, 6, 10]
RATE = 0.02

Scenario: TypeAlias = Callable[["World", "Call"], Any]
SCENARIOS: dict[str, Scenario] = {}
"""The scenario of each public call. A call's name with ``_async`` has the scenario of the name without."""


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    """The decorated function drives the call ``name``, and returns what it saw."""

    def add(run: Scenario) -> Scenario:
        assert name not in SCENARIOS, name
        SCENARIOS[name] = run
        return run

    return add


class Call:
    """One public call, made as the variant under test has it."""

    def __init__(self, method: str, *, awaited: bool, holder: Any = None) -> None:
        self._method = method
        self._awaited = awaited
        self._holder = holder

    def on_loop(self, holder: Any) -> Call:
        """The call, awaited on the SDK's own loop: up to 0.25, get_audit_log_async answers nowhere else."""
        return Call(self._method, awaited=self._awaited, holder=holder)

    def __call__(self, owner: Any, *args: Any, **kwargs: Any) -> Any:
        """The finished result of the call on ``owner``."""
        method = getattr(owner, self._method)
        if self._awaited and self._holder is not None:
            return self._holder.run_coroutine_threadsafe(_awaited(method, args, kwargs)).result()
        if self._awaited:
            return asyncio.run(_awaited(method, args, kwargs))
        value = method(*args, **kwargs)
        return value.result() if hasattr(value, "result") else value


async def _awaited(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = method(*args, **kwargs)
    while inspect.isawaitable(value):  # some async methods return a future, which is awaited in turn
        value = await value
    return value


def batch(count: int = 1) -> list[types.Datum]:
    """``count`` times the same example."""
    return [
        types.Datum(
            model_input=types.ModelInput.from_ints(TOKENS[:-1]),
            loss_fn_inputs={"target_tokens": TOKENS[1:], "weights": [1.0] * (len(TOKENS) - 1)},
        )
        for _ in range(count)
    ]


def logprobs(client: tinker.TrainingClient) -> list[float]:
    """Of the example's targets, as the client's model has them."""
    return client.forward(batch(), "cross_entropy").result().loss_fn_outputs[0]["logprobs"].tolist()


class World:
    """A server, the clients that scenarios share, and names that nobody else has taken."""

    def __init__(self, url: str, key: str, model: str, folder: Path) -> None:
        self.url = url
        self.key = key
        self.model = model
        self.folder = folder
        self.version = tinker.__version__
        self._numbers = itertools.count()

    def name(self, stem: str) -> str:
        """A name of its own."""
        return f"{stem}-{next(self._numbers)}"

    def open_service(self, **more: Any) -> tinker.ServiceClient:
        """A session of its own."""
        return tinker.ServiceClient(base_url=self.url, api_key=self.key, **more)

    @cached_property
    def service(self) -> tinker.ServiceClient:
        """The session that scenarios share."""
        return self.open_service(user_metadata={"purpose": "conformance"})

    @property
    def session_id(self) -> str:
        """Its id."""
        return self.service.holder.get_session_id()

    @cached_property
    def rest(self) -> Any:
        """The client for runs, checkpoints and sessions."""
        return self.service.create_rest_client()

    @property
    def recent(self) -> bool:
        """Whether this SDK is younger than 0.25, and so has everything of 0.38."""
        return tuple(map(int, self.version.split("."))) > (0, 25, 0)

    def untrained(self) -> tinker.TrainingClient:
        """A model that nobody has trained."""
        return _client(self.service.create_lora_training_client(base_model=self.model, rank=4, seed=1))

    def trained(self) -> tinker.TrainingClient:
        """A model one step away from its base."""
        client = self.untrained()
        self.step(client)
        return client

    def step(self, client: tinker.TrainingClient) -> None:
        """One training step."""
        client.forward_backward(batch(), "cross_entropy").result()
        client.optim_step(types.AdamParams(learning_rate=RATE)).result()

    @cached_property
    def run(self) -> tinker.TrainingClient:
        """A run whose checkpoints nobody deletes."""
        return self.trained()

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.run.model_id

    @cached_property
    def kept(self) -> str:
        """The path of a saved state of ``run``."""
        return self.run.save_state("kept").result().path

    @cached_property
    def kept_sampler(self) -> str:
        """The path of sampler weights of ``run``."""
        return self.run.save_weights_for_sampler("kept").result().path

    def saved(self, **more: Any) -> str:
        """The path of a saved state that the scenario may delete or change."""
        return self.run.save_state(self.name("passing"), **more).result().path

    @cached_property
    def sampler(self) -> tinker.SamplingClient:
        """A sampling client of ``run``'s weights."""
        return _client(self.run.save_weights_and_get_sampling_client())


def _client(made: Any) -> Any:
    """0.38 gives a future of a client where older ones give the client."""
    return made.result() if hasattr(made, "result") else made
