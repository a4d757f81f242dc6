"""Operations are accepted in the order of the calls: in each thread, in each asyncio coroutine, without waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.blocking.served import Served, batch, served, start
from tinker_actors.blocking import BlockingFuture, BlockingRuntime, TrainingClient
from tinker_actors.types import AdamParams

Call: TypeAlias = tuple[Literal["forward", "step", "save"], Literal["waits", "never waits"]]

CALLS: st.SearchStrategy[list[list[Call]]] = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["forward", "step", "save"]), st.sampled_from(["waits", "never waits"])),
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
            data = batch(1000 * owner + number)
            return client.forward_backward(data) if waits else client.forward_backward_async(data)  # type: ignore[return-value]
        case "step":
            params = AdamParams(learning_rate=mark)
            return client.optim_step(params) if waits else client.optim_step_async(params)  # type: ignore[return-value]
        case "save":
            name = f"{owner}-{number}"
            return client.save_state(name) if waits else client.save_state_async(name)  # type: ignore[return-value]


def _accepted(made: dict[tuple[int, int], BlockingFuture[object]]) -> list[tuple[int, int]]:
    """Owners and numbers of the calls, in the order of the op_nos that stand in their futures' descriptions."""
    for future in made.values():
        future.result(60)
    return sorted(made, key=lambda mark: int(made[mark]._describe().partition("#")[2].partition(" ")[0]))


@settings(max_examples=15)
@given(programs=CALLS)
def test_in_each_thread_the_order_of_calls_is_the_order_of_acceptance(
    runtime: BlockingRuntime, server: Served, programs: list[list[Call]]
) -> None:
    _, client = start(runtime)
    made: dict[tuple[int, int], BlockingFuture[object]] = {}

    def play(owner: int) -> None:
        for number, call in enumerate(programs[owner]):
            made[owner, number] = _call(client, owner, number, call)

    threads = [threading.Thread(target=play, args=(owner,)) for owner in range(len(programs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    order = _accepted(made)
    for one, program in enumerate(programs):
        assert [number for owner, number in order if owner == one] == list(range(len(program)))
    digests = [digest for operation in client.accepted for digest in operation.digests]
    assert server.applied(client.model_id) == digests


@settings(max_examples=15)
@given(programs=CALLS)
def test_asyncio_coroutines_that_never_wait_are_accepted_in_the_order_of_their_calls(
    runtime: BlockingRuntime, server: Served, programs: list[list[Call]]
) -> None:
    _, client = start(runtime)
    made: dict[tuple[int, int], BlockingFuture[object]] = {}
    called: list[tuple[int, int]] = []

    async def play(owner: int) -> None:
        for number, call in enumerate(programs[owner]):
            called.append((owner, number))
            made[owner, number] = _call(client, owner, number, call)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*[play(owner) for owner in range(len(programs))])
        await asyncio.gather(*made.values())

    asyncio.run(main())
    assert _accepted(made) == called
    digests = [digest for operation in client.accepted for digest in operation.digests]
    assert server.applied(client.model_id) == digests
