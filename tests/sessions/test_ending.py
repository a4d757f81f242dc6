"""How a session ends at the server: as what, with which words, and within which time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tests.clients.odd_server import ask
from tinker_actors import InvalidInput
from tinker_actors.runtime import Runtime
from tinker_actors.sessions import SessionEnd, SessionState, end_for
from tinker_actors.testing.faults import Delay, DropBefore, Fault, FaultPlan, Status
from tinker_actors.testing.simulation import World, simulate

FINISH = "sessions/session/finish"


class Stopped(BaseException):
    """No Exception, as KeyboardInterrupt is none."""


def told(asked: list[tuple[str, bytes]]) -> list[tuple[str, str | None]]:
    bodies: list[dict[str, Any]] = [msgspec.json.decode(body) for name, body in asked if name == FINISH]
    return [(body["reason"]["type"], body["detail"]) for body in bodies]


def test_a_session_that_is_closed_has_the_status_and_words_of_its_user():
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        began = trio.Event()

        async def close() -> None:
            began.set()
            await service.close("errored", "the loss went up")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            await began.wait()
            assert service.state is SessionState.ACTIVE
            await service.close("success")
        await service.aclose()
        assert service.state is SessionState.FINISHED

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert told(asked) == [("errored", "the loss went up")]


def test_a_runtime_that_is_left_at_its_end_is_a_success():
    async def story(runtime: Runtime) -> None:
        await runtime.create_service_client()

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert told(asked) == [("success", None)]


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (ValueError("a secret"), ("errored", "ValueError")),
        (Stopped(), ("interrupted", "Stopped")),
        (BaseExceptionGroup("both", [Stopped(), OSError("a secret")]), ("errored", "OSError")),
    ],
    ids=["error", "interruption", "group"],
)
@pytest.mark.parametrize("inner", [True, False], ids=["of the client", "of the runtime"])
def test_a_block_that_is_left_by_an_error_says_what_kind(error: BaseException, end: tuple[str, str], inner: bool):
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        if not inner:
            raise error
        async with service:
            raise error

    asked: list[tuple[str, bytes]] = []
    with pytest.raises(BaseExceptionGroup):  # in the groups of the nurseries around
        ask(story, {}, asked=asked)
    assert told(asked) == [end]


def test_the_end_of_the_client_counts_over_that_of_the_runtime():
    async def story(runtime: Runtime) -> None:
        async with await runtime.create_service_client() as service:
            pass
        assert service.state is SessionState.FINISHED
        raise ValueError

    asked: list[tuple[str, bytes]] = []
    with pytest.raises(ExceptionGroup):
        ask(story, {}, asked=asked)
    assert told(asked) == [("success", None)]


def test_a_block_that_is_cancelled_finishes_its_session_as_interrupted():
    async def story(runtime: Runtime) -> None:
        with trio.move_on_after(1.0):
            async with await runtime.create_service_client() as service:
                await trio.sleep_forever()
        assert service.state is SessionState.FINISHED  # pyright: ignore[reportPossiblyUnboundVariable]

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert told(asked) == [("interrupted", "Cancelled")]


@pytest.mark.parametrize(("status", "detail"), [("done", None), ("success", b"x"), ("errored", "x" * 5000)])
def test_another_status_or_detail_is_refused_and_the_session_goes_on(status: Any, detail: Any):
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        with pytest.raises(InvalidInput, match=r"status|detail"):
            await service.close(status, detail)
        assert service.state is SessionState.ACTIVE

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert told(asked) == [("success", None)]


def test_a_group_that_holds_itself_many_times_is_looked_through_once():
    inner: BaseException = Stopped()
    for _ in range(60):
        inner = BaseExceptionGroup("again", [inner, inner])
    assert end_for(inner) == SessionEnd("interrupted", "Stopped")


def leaving(fault: Fault) -> tuple[float, int]:
    """How long the leaving of three sessions takes, in seconds, and how many of them are then alive at the server."""

    async def scenario(world: World) -> tuple[World, float]:
        for _ in range(3):
            await world.runtime.create_service_client()
        return world, trio.current_time()

    outcome = simulate(scenario, seed=3, plan=FaultPlan((fault,)))
    world, began = outcome.value
    return outcome.seconds - began, len(world.service.sessions.alive())


@pytest.mark.parametrize("fault", [DropBefore(path="/finish"), Status(path="/finish", status=503)], ids=str)
def test_a_finish_that_fails_is_tried_again(fault: Fault):
    assert leaving(fault)[1] == 0


def test_a_session_whose_finish_hangs_delays_no_other():
    seconds, alive = leaving(Delay(path="/finish", seconds=10_000.0))
    assert alive == 1
    assert seconds <= 15.0


def test_a_session_whose_creation_hangs_delays_no_other():
    async def scenario(world: World) -> float:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.runtime.create_service_client)
            await trio.sleep(1.0)
            other = await world.runtime.create_service_client()
            passed = trio.current_time() - began
            assert other.state is SessionState.ACTIVE
            nursery.cancel_scope.cancel()
        return passed

    assert simulate(scenario, seed=3, plan=FaultPlan((Delay(path="/create_session", seconds=15.0),))).value < 3.0
