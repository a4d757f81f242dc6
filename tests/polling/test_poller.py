"""The Poller: what each answer to a poll means, one after another."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from tests.wire.scripted import Answer, scripted
from tinker_actors.config import RetryConfig
from tinker_actors.errors import APIResponseError, RequestFailedError
from tinker_actors.flow.bytes_semaphore import BytesSemaphore
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.pending import PendingTable
from tinker_actors.flow.retry import RetryHandler
from tinker_actors.metrics import Metrics
from tinker_actors.polling import Poller
from tinker_actors.ports import NoPoints
from tinker_actors.types import OptimStepResponse, QueueState

GOOD = Answer({"metrics": {"a:sum": 1.0}})
WAITING = Answer({"type": "try_again", "queue_state": "paused_capacity", "queue_state_reason": "busy"})
FAILED = Answer({"error": "no", "category": "user"})
DONE = OptimStepResponse(metrics={"a:sum": 1.0})


class Polled:
    """What came of polling, after how many polls and seconds."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.states: list[tuple[QueueState, str | None]] = []
        self.reasons: list[str | None] = []
        self.seconds = 0.0

    async def result(self, *answers: Answer, **options: Any) -> OptimStepResponse:
        table = PendingTable()
        failure: Exception | None = None
        async with scripted(*answers) as (api, script):
            self.asked = script.asked
            handler = RetryHandler(RetryConfig(), random.Random(1), outage_bound=60.0)
            options = {"results": BytesSemaphore(100), "poll_timeout": 45.0} | options
            poller = Poller(api, handler, Metrics(), NoPoints(), **options)
            start = trio.current_time()
            try:
                with table.track("m", "optim_step", "promised") as entry:
                    return await poller.result(
                        "r-1",
                        OptimStepResponse,
                        entry,
                        request_type="OptimStep",
                        point="poll",
                        on_queue_state=lambda state, reason: self.states.append((state, reason)),
                    )
            except Exception as error:
                failure = error
            finally:
                self.seconds = trio.current_time() - start
        assert failure is not None
        raise failure


async def test_a_result_is_returned_and_polls_are_counted_for_the_server(autojump_clock: trio.testing.MockClock):
    polled = Polled()
    assert await polled.result(WAITING, WAITING, GOOD) == DONE
    assert [asked.headers["x-tinker-request-iteration"] for asked in polled.asked] == ["0", "1", "2"]
    assert polled.states == [(QueueState.PAUSED_CAPACITY, "busy")] * 2 + [(QueueState.ACTIVE, None)]
    assert all(asked.json["allow_metadata_only"] is True for asked in polled.asked)


async def test_a_pause_is_a_state_of_its_own(autojump_clock: trio.testing.MockClock):
    table, rows = PendingTable(), list[str]()
    silent = Answer({"type": "try_again", "queue_state": "paused_rate_limit"})
    working = Answer({"type": "try_again", "queue_state": "active"})
    queued = Answer({"type": "try_again", "queue_state_reason": "two before it"})
    async with scripted(WAITING, WAITING, silent, working, queued, GOOD) as (api, _):
        handler = RetryHandler(RetryConfig(), random.Random(1), outage_bound=60.0)
        poller = Poller(api, handler, Metrics(), NoPoints(), results=BytesSemaphore(1), poll_timeout=45.0)
        with table.track("m", "optim_step", "promised") as entry:
            await poller.result(
                "r-1",
                OptimStepResponse,
                entry,
                request_type="OptimStep",
                point="poll",
                on_queue_state=lambda *_: rows.append(f"{table.snapshot()[0]} {table.snapshot()[0].expected}"),
            )
    assert rows[:-1] == [
        "m optim_step: server paused_capacity for 0.0 s (busy) False",
        "m optim_step: server paused_capacity for 0.1 s (busy) False",
        "m optim_step: server paused_rate_limit for 0.0 s (it gives no reason) False",
        "m optim_step: promised for 0.0 s (the server works on it) True",
        "m optim_step: promised for 0.1 s (the server has it queued: two before it) True",
    ]


async def test_a_server_that_says_not_yet_at_once_is_not_asked_in_a_tight_loop(
    autojump_clock: trio.testing.MockClock,
):
    polled = Polled()
    await polled.result(*[WAITING] * 50, GOOD)
    assert polled.seconds >= 4.9


async def test_what_may_pass_is_asked_again_whatever_its_order(autojump_clock: trio.testing.MockClock):
    polled = Polled()
    statuses = (408, 500, 502, 408, 503, 504, 429)
    assert await polled.result(*[Answer(b"", status) for status in statuses], WAITING, GOOD) == DONE
    assert len(polled.asked) == len(statuses) + 2
    assert polled.seconds > 10.0  # each with a wait of its own


@pytest.mark.parametrize("status", [408, 500, 503])
async def test_what_never_passes_ends_with_its_own_error(status: int, autojump_clock: trio.testing.MockClock):
    polled = Polled()
    with pytest.raises(OutOfPatience) as gone:
        await polled.result(Answer(b"", status))
    assert gone.value.error.status == status  # pyright: ignore[reportAttributeAccessIssue]
    assert 59.0 <= polled.seconds <= 71.0


@pytest.mark.parametrize("status", [408, 503])
async def test_a_back_off_of_the_users_gives_the_waits(status: int, autojump_clock: trio.testing.MockClock):
    polled, tries = Polled(), [0]

    def backoff(failed: int) -> float:
        tries.append(failed)
        return 8.0

    assert await polled.result(Answer(b"", status), Answer(b"", status), GOOD, backoff=backoff) == DONE
    assert tries[1:] == [0, 1]
    assert 11.0 <= polled.seconds <= 16.1


@pytest.mark.parametrize("category", ["user", "server", "unknown"])
async def test_a_failure_is_final_and_names_whose_it_is(category: str, autojump_clock: trio.testing.MockClock):
    polled = Polled()
    with pytest.raises(RequestFailedError, match="boom") as failed:
        await polled.result(Answer({"error": "boom", "category": category}), GOOD)
    assert (failed.value.category, failed.value.request_id, len(polled.asked)) == (category, "r-1", 1)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_400_of_a_proxy_passes_and_one_that_lasts_is_final(
    status: int, autojump_clock: trio.testing.MockClock
):
    blank, polled = Answer({"detail": "no"}, status), Polled()
    assert await polled.result(blank, blank, GOOD) == DONE
    assert len(polled.asked) == 3
    with pytest.raises(OutOfPatience):
        await polled.result(blank)
    assert len(polled.asked) == 4


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"status": "complete_metadata", "response_payload_size": 5}),
        Answer(b"garbage"),
        Answer({"metrics": {"a": "b"}}),
    ],
)
async def test_an_answer_that_makes_no_sense_ends_in_its_error(
    answer: Answer, autojump_clock: trio.testing.MockClock
):
    polled = Polled()
    with pytest.raises(OutOfPatience) as gone:
        await polled.result(answer)
    assert isinstance(gone.value.error, APIResponseError)
    assert len([asked for asked in polled.asked if asked.body == polled.asked[-1].body]) <= 4


def withheld(size: int) -> Answer:
    return Answer({"status": "complete_metadata", "response_payload_size": size})


async def test_a_result_that_is_withheld_for_its_size_is_asked_for_whole_from_then_on(
    autojump_clock: trio.testing.MockClock,
):
    polled, room = Polled(), BytesSemaphore(100)
    assert await polled.result(WAITING, withheld(70), WAITING, Answer(b"", 503), GOOD, results=room) == DONE
    assert [asked.json["allow_metadata_only"] for asked in polled.asked] == [True, True, False, False, False]
    assert room.statistics().held == 0


async def test_a_withheld_result_waits_for_room_and_holds_it_until_it_is_decoded(
    autojump_clock: trio.testing.MockClock,
):
    room, polled = BytesSemaphore(100), Polled()
    await room.acquire(101)
    got: list[OptimStepResponse] = []

    async def poll() -> None:
        got.append(await polled.result(withheld(70), WAITING, GOOD, results=room))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await trio.sleep(50.0)
        assert len(polled.asked) == 1
        assert room.statistics().waiting == 1
        room.release(101)
        await trio.sleep(0.05)
        assert room.statistics().held == 70
    assert got == [DONE]
    assert room.statistics().held == 0


async def test_who_leaves_while_a_result_is_fetched_gives_its_room_back(autojump_clock: trio.testing.MockClock):
    room = BytesSemaphore(100)
    for answers in ((withheld(70), WAITING), (withheld(70), FAILED)):
        with trio.move_on_after(5.0):
            try:
                await Polled().result(*answers, results=room)
            except RequestFailedError:
                assert answers[1] is FAILED
        assert room.statistics().held == 0


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_what_can_not_be_mended_is_final(status: int, autojump_clock: trio.testing.MockClock):
    polled = Polled()
    with pytest.raises(OutOfPatience):
        await polled.result(Answer({"detail": "gone"}, status), GOOD)
    assert len(polled.asked) == 1
