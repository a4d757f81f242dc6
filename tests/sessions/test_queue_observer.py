"""The QueueObserver: who is told of a client's queue state, how often, and that no observer does harm."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from supervision import ActorRef, ChildSpec, SupervisorRef, open_system
from tests.clients.odd_server import ask
from tests.clients.scenario import train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import ClosedError, InvalidInput
from tinker_actors.flow.queue_state import ClientQueue, QueueStateChange
from tinker_actors.runtime import Runtime
from tinker_actors.sessions.queue_observer import Observe, QueueObserver
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, ModelInput, QueueState, SamplingParams

ACTIVE, CAPACITY, RATE = QueueState.ACTIVE, QueueState.PAUSED_CAPACITY, QueueState.PAUSED_RATE_LIMIT


def watched(story: Callable[[World, TrainingClient, ClientQueue], Awaitable[Any]]) -> Any:
    """What ``story`` returns, given a client and its queue."""

    async def scenario(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        return await story(world, client, client._model.queue)

    return train(scenario).value


def test_an_observer_hears_the_first_change_at_once_and_the_last_of_a_flurry():
    async def story(world: World, client: TrainingClient, queue: ClientQueue) -> list[tuple[float, str]]:
        start, told = trio.current_time(), list[tuple[float, str]]()

        async def observer(change: QueueStateChange) -> None:
            told.append((round(trio.current_time() - start, 3), f"{change.client} {change.state} {change.reason}"))

        with client.on_queue_state_change(observer):
            await trio.sleep(0.1)
            for _ in range(50):
                queue.report(CAPACITY, "busy")
                queue.report(RATE, None)
                queue.report(CAPACITY, "busy")
                await trio.sleep(0.01)
            queue.report(RATE, "many")
            await trio.sleep(5.0)
            queue.report(ACTIVE, None)
            await trio.sleep(5.0)
        queue.report(CAPACITY, None)
        await trio.sleep(5.0)
        return told

    name = "session-0/training-0"
    assert watched(story) == [
        (0.1, f"{name} paused_capacity busy"),
        (1.1, f"{name} paused_rate_limit many"),
        (5.6, f"{name} active "),
    ]


def test_what_came_back_to_what_was_told_is_not_told_again():
    async def story(world: World, client: TrainingClient, queue: ClientQueue) -> int:
        told: list[QueueStateChange] = []

        async def observer(change: QueueStateChange) -> None:
            told.append(change)

        client.on_queue_state_change(observer)
        for _ in range(20):
            queue.report(CAPACITY, "busy")
            await trio.sleep(0.5)
            queue.report(ACTIVE, None)
            queue.report(CAPACITY, "busy")
            await trio.sleep(0.5)
        return len(told)

    assert watched(story) == 1


class Odd:
    """Observers that do what none should."""

    @staticmethod
    async def raises(change: QueueStateChange) -> None:
        raise KeyError(change.reason)

    @staticmethod
    async def hangs(change: QueueStateChange) -> None:
        await trio.sleep_forever()

    @staticmethod
    async def raises_a_group(change: QueueStateChange) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Odd.raises, change)

    async def __call__(self, change: QueueStateChange) -> None:
        raise OSError


@pytest.mark.parametrize(
    ("observer", "said"),
    [
        (Odd.raises, "Odd.raises failed"),
        (Odd.raises_a_group, "failed"),
        (Odd.hangs, "was not through after 10 s"),
        (Odd(), "failed"),
        (functools.partial(Odd.raises), "failed"),
    ],
    ids=["raises", "group", "hangs", "object", "partial"],
)
def test_an_observer_that_fails_or_hangs_is_told_no_more_and_harms_nobody(
    observer: Any, said: str, caplog: pytest.LogCaptureFixture
):
    async def story(world: World, client: TrainingClient, queue: ClientQueue) -> list[QueueState]:
        told: list[QueueState] = []

        async def well(change: QueueStateChange) -> None:
            told.append(change.state)

        odd = client.on_queue_state_change(observer)
        client.on_queue_state_change(well)
        queue.report(CAPACITY, None)
        await trio.sleep(11.0)
        assert not odd.active
        queue.report(ACTIVE, None)
        await trio.sleep(2.0)
        node = world.runtime.tree().find("runtime/sessions/session-0/queue-observer")
        assert node is not None
        assert node.restarts == 0
        return told

    assert watched(story) == [CAPACITY, ACTIVE]
    assert caplog.text.count(f"{said}: it is told no more") == 1


def test_a_crashed_observer_actor_goes_on_with_everybody():
    async def story(world: World, client: TrainingClient, queue: ClientQueue) -> list[QueueState]:
        told: list[QueueState] = []

        async def observer(change: QueueStateChange) -> None:
            told.append(change.state)

        client.on_queue_state_change(observer)
        sessions = world.runtime.system.child("sessions")
        assert isinstance(sessions, SupervisorRef)
        place = sessions.child("session-0")
        assert isinstance(place, SupervisorRef)
        await place.restart_child("queue-observer")
        queue.report(CAPACITY, None)
        await trio.sleep(1.0)
        return told

    assert watched(story) == [CAPACITY]


async def test_a_plain_observer_that_blocks_its_thread_holds_up_neither_the_loop_nor_the_end():
    release, called = threading.Event(), threading.Event()
    seen: list[str] = []

    def blocks(change: QueueStateChange) -> None:
        seen.append(threading.current_thread().name)
        called.set()
        release.wait(10)

    try:
        async with open_system("s", random=random.Random(0)) as system:
            queue, book = ClientQueue("m", "training"), set[Any]()
            ref = await system.start_child(ChildSpec("observer", lambda: QueueObserver(book)))
            subscription = queue.subscribe(blocks)
            book.add(subscription)
            assert isinstance(ref, ActorRef)
            await ref.cast(Observe(subscription))
            queue.report(CAPACITY, None)
            await trio.to_thread.run_sync(called.wait)
        assert seen[0] != threading.main_thread().name
    finally:
        release.set()


@pytest.mark.parametrize("observer", [None, 7, "print"])
def test_what_can_not_be_called(observer: Any):
    async def story(world: World, client: TrainingClient, queue: ClientQueue) -> None:
        with pytest.raises(InvalidInput, match="observer"):
            client.on_queue_state_change(observer)

    watched(story)


def test_a_closed_session_takes_no_observer():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await service.aclose()
        with pytest.raises(ClosedError, match="closed"):
            client.on_queue_state_change(print)

    train(story)


@pytest.mark.parametrize("kind", ["training", "sampling"])
def test_what_the_server_says_of_its_queue_is_the_clients_state_until_the_result_is_there(kind: str):
    paused = {"type": "try_again", "queue_state": "paused_rate_limit"}
    odd: dict[str, Any] = {"result of optim_step": paused, "result of asample": paused}

    async def story(runtime: Runtime) -> list[str]:
        service = await runtime.create_service_client()
        told: list[str] = []

        async def observer(change: QueueStateChange) -> None:
            told.append(f"{change.kind} {change.state}: {change.reason}")

        client: Any
        if kind == "training":
            client = await service.create_lora_training_client("a/b", 2)
            future = await client.optim_step(AdamParams())
            work = future.result
        else:
            client = await service.create_sampling_client(base_model="a/b")

            async def work() -> object:
                return await client.sample(ModelInput.from_ints([1]), 1, SamplingParams(max_tokens=1))

        client.on_queue_state_change(observer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await client.queue_state.wait_value(RATE)
            rows = [str(row) for row in runtime.pending()]
            assert any("server paused_rate_limit" in row for row in rows)
            await trio.sleep(2.0)
            odd.clear()
        assert client.queue_state.value is ACTIVE
        await trio.sleep(2.0)
        return told

    paused_line, active_line = ask(story, odd)
    assert paused_line.startswith(f"{kind} paused_rate_limit: as many ")
    assert active_line == f"{kind} active: "


async def test_many_plain_observers_that_hang_take_nobody_elses_thread():
    release, heard = threading.Event(), threading.Event()

    def hangs(change: QueueStateChange) -> None:
        release.wait(30)

    def well(change: QueueStateChange) -> None:
        heard.set()

    try:
        async with open_system("s", random=random.Random(0)) as system:
            queue = ClientQueue("m", "training")
            book = {queue.subscribe(hangs) for _ in range(30)}
            await system.start_child(ChildSpec("observer", lambda: QueueObserver(book)))
            queue.report(CAPACITY, None)
            book.add(queue.subscribe(well))
            await system.restart_child("observer")
            queue.report(RATE, None)
            assert await trio.to_thread.run_sync(heard.wait, 8.0)  # before any of the others is given up
    finally:
        release.set()


@pytest.mark.parametrize("kind", ["training", "sampling"])
def test_subscriptions_end_with_their_client(kind: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        watched: Any = client if kind == "training" else await service.create_sampling_client(base_model=BASE_MODEL)

        async def observer(change: QueueStateChange) -> None:
            raise AssertionError

        subscription = watched.on_queue_state_change(observer)
        await trio.sleep(1.0)
        await watched.aclose()
        await trio.sleep(1.0)
        assert not subscription.active
        assert service._session.queue_subscriptions == set()
        node = world.runtime.tree().find("runtime/sessions/session-0/queue-observer")
        assert node is not None
        assert node.tasks == 0

    train(story)
