"""What a scenario of an operation has at hand, and how it makes the call."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import pytest

from tinker_actors import (
    AdamParams,
    APIStatusError,
    Datum,
    ModelInput,
    RestClient,
    Runtime,
    SamplingClient,
    ServiceClient,
    TrainingClient,
    open_runtime,
)

__all__ = ["OPERATIONS", "TOKENS", "Call", "Tools", "batch", "operation", "refused", "tools_for"]

TOKENS = [5, 9, 13, 17, 21, 25, 29, 6, 10]
RATE = 0.002

Scenario: TypeAlias = Callable[["Tools", "Call"], Awaitable[None]]
OPERATIONS: dict[str, Scenario] = {}
"""The scenario of each operation: a public method as Class.method, or a sentence on what must be refused.

A method with ``_async`` has the scenario of the name without, which is run once for each.
"""


def operation(*names: str) -> Callable[[Scenario], Scenario]:
    """The decorated function shows that each of ``names`` works: it raises where it doesn't."""

    def add(run: Scenario) -> Scenario:
        for name in names:
            assert name not in OPERATIONS, name
            OPERATIONS[name] = run
        return run

    return add


class Call:
    """The method under test, to be called on whatever has it."""

    def __init__(self, name: str) -> None:
        self.owner, _, self.method = name.partition(".")

    async def __call__(self, owner: Any, *args: Any, **kwargs: Any) -> Any:
        """Its finished result."""
        value = getattr(owner, self.method)(*args, **kwargs)
        while inspect.isawaitable(value):  # a coroutine may give a Future
            value = await value
        return value


@contextmanager
def refused(*statuses: int) -> Iterator[None]:
    """The block must be refused with one of ``statuses``."""
    with pytest.raises(APIStatusError) as caught:
        yield
    assert caught.value.status in statuses, caught.value


def batch(count: int = 1) -> list[Datum]:
    """``count`` times the same example."""
    inputs = {"target_tokens": TOKENS[1:], "weights": [1.0] * (len(TOKENS) - 1)}
    datum = Datum(model_input=ModelInput.from_ints(TOKENS[:-1]), loss_fn_inputs=inputs)
    return [datum] * count


class Tools:
    """A runtime at the server, and what scenarios make with it. All of it is closed when they end."""

    def __init__(self, runtime: Runtime, model: str, mark: str) -> None:
        self.runtime = runtime
        self.model = model
        self._names = (f"interop-{mark}-{number}" for number in itertools.count())

    def name(self) -> str:
        """A name for a checkpoint that nobody else has taken."""
        return next(self._names)

    async def service(self, **more: Any) -> ServiceClient:
        """A session."""
        return await self.runtime.create_service_client(**more)

    async def training(self, service: ServiceClient | None = None) -> TrainingClient:
        """A model that nobody has trained."""
        service = service or await self.service()
        return await service.create_lora_training_client(self.model, rank=4, seed=1)

    async def trained(self, service: ServiceClient | None = None) -> TrainingClient:
        """A model one step away from its base."""
        client = await self.training(service)
        await self.step(client)
        return client

    async def step(self, client: TrainingClient) -> float:
        """One training step; its loss."""
        forward = await client.forward_backward(batch())
        update = await client.optim_step(AdamParams(learning_rate=RATE))
        await update
        return (await forward).metrics["loss:sum"]

    async def logprobs(self, client: TrainingClient) -> list[float]:
        """Of the example's targets."""
        output = await (await client.forward(batch()))
        return output.loss_fn_outputs[0]["logprobs"].tolist()

    async def saved(self, client: TrainingClient, **more: Any) -> str:
        """The path of a saved state."""
        return (await (await client.save_state(self.name(), **more))).path

    async def sampler(self, client: TrainingClient) -> SamplingClient:
        """A sampling client of the weights as they are."""
        return await client.save_weights_and_get_sampling_client()

    async def rest(self) -> RestClient:
        """A client for runs, checkpoints and sessions."""
        return await self.runtime.create_rest_client()


@asynccontextmanager
async def tools_for(url: str, key: str, model: str | None, mark: str) -> AsyncGenerator[Tools]:
    """For a server; without ``model``, with the first that it trains. ``mark`` is in all names of checkpoints."""
    async with open_runtime(base_url=url, api_key=key) as runtime:
        if model is None:
            offered = await (await runtime.create_rest_client()).get_server_capabilities()
            model = next(
                name for each in offered.supported_models if (name := each.model_name) and each.trainable is not False
            )
        yield Tools(runtime, model, mark)
