"""Operations are accepted in the order of the calls: in each thread, in each asyncio coroutine, without waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.blocking.programs import batch, start
from tests.blocking.served import Served, served
from tinker_actors.blocking import BlockingFuture, BlockingRuntime, TrainingClient
from tinker_actors.types import AdamParams

Call: TypeAlias = tuple[Literal["forward", "step", "save", "sampler"], Literal["waits", "never waits"]]

CALLS: st.SearchStrategy[list[list[Call]]] = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["forward", "step", "save", "sampler"]), st.sampled_from(["waits", "never waits"])),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as server:
        yield server


@pytest.fixture(scope="module")
def runtime(server: Served) -> Generator[BlockingRuntime]:
    with server.runtime() as runtime:
        yield runtime


def _call(client: TrainingClient, owner: int, number: int, call: Call) -> BlockingFuture[object]:
    """One operation; which one it was stands in its digest."""
    kind, how = call
    mark = 1e-6 * (1 + 100 * owner + number)
    waits = how == "waits"
    match kind:
        case "forward":
            data = batch(100 * owner + number)
            return client.forward_backward(data) if waits else client.forward_backward_async(data)  # type: ignore[return-value]
        case "step":
            params = AdamParams(learning_rate=mark)
            return client.optim_step(params) if waits else client.optim_step_async(params)  # type: ignore[return-value]
        case "save":
            name = f"{owner}-{number}"
            return client.save_state(name) if waits else client.save_state_async(name)  # type: ignore[return-value]
        case "sampler":
            name = f"{owner}-{number}"
            if waits:
                return client.save_weights_for_sampler(name)  # type: ignore[return-value]
            return client.save_weights_and_get_sampling_client_async(name)  # type: ignore[return-value]


def _digests(client: TrainingClient) -> list[str]:
    return [digest for operation in client.accepted for digest in operation.digests]


def _one_by_one(runtime: BlockingRuntime, programs: list[list[Call]], order: list[tuple[int, int]]) -> list[str]:
    """The digests of the same calls in this order, each made when the one before has its result."""
    _, client = start(runtime)
    for owner, number in order:
        _call(client, owner, number, programs[owner][number]).result(60)
    return _digests(client)


@settings(max_examples=15)
@given(programs=CALLS)
def test_in_each_thread_the_order_of_calls_is_the_order_of_acceptance(
    runtime: BlockingRuntime, server: Served, programs: list[list[Call]]
) -> None:
    _, client = start(runtime)
    made: list[BlockingFuture[object]] = []

    def play(owner: int) -> None:
        for number, call in enumerate(programs[owner]):
            made.append(_call(client, owner, number, call))

    threads = [threading.Thread(target=play, args=(owner,)) for owner in range(len(programs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for future in made:
        future.result(60)
    done = server.applied(client.model_id)
    assert done == _digests(client)
    for owner, program in enumerate(programs):
        mine = _one_by_one(runtime, programs, [(owner, number) for number in range(len(program))])
        assert [digest for digest in done if digest in mine] == mine


@settings(max_examples=15)
@given(programs=CALLS)
def test_asyncio_coroutines_that_never_wait_are_accepted_in_the_order_of_their_calls(
    runtime: BlockingRuntime, server: Served, programs: list[list[Call]]
) -> None:
    _, client = start(runtime)
    called: list[tuple[int, int]] = []

    async def play(owner: int) -> list[BlockingFuture[object]]:
        futures: list[BlockingFuture[object]] = []
        for number, call in enumerate(programs[owner]):
            called.append((owner, number))
            futures.append(_call(client, owner, number, call))
            if number % 2:
                await asyncio.sleep(0)
        return futures

    async def main() -> None:
        for futures in await asyncio.gather(*[play(owner) for owner in range(len(programs))]):
            await asyncio.gather(*futures)

    asyncio.run(main())
    assert _digests(client) == _one_by_one(runtime, programs, called)
    assert server.applied(client.model_id) == _digests(client)
