"""Regularizers side by side: in threads and on the loop, within limits, each failure its own."""

from __future__ import annotations

import math
import threading
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
import trio
import trio.testing

from tinker_actors.errors import InvalidInput, LossTermError, LossTermTimeout
from tinker_actors.ports import InlineOffload, ThreadOffload
from tinker_actors.regularizers import LossEvent, RegularizerExecutor, regularizer
from tinker_actors.types import RegularizerSpec

X = np.array([1.0, 2.0, 3.0])


def total(data: Any, logprobs: Any) -> Any:
    return anp.sum(logprobs), {"n": 3.0}


async def squares(data: Any, logprobs: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return anp.sum(logprobs**2)


def broken(data: Any, logprobs: Any) -> Any:
    raise ValueError("broken")


def spec(function: Any, name: str, weight: float = 0.1, **options: Any) -> RegularizerSpec:
    return RegularizerSpec(fn=function, weight=weight, name=name, **options)


async def test_no_regularizers_give_nothing():
    assert (await RegularizerExecutor([]).run((), X)).outputs == ()


@pytest.mark.parametrize("parallel", [True, False])
async def test_each_has_its_value_and_what_it_adds(parallel: bool):
    specs = [spec(total, "total"), spec(squares, "squares", 2, is_async=True), spec(squares, "again")]
    results = await RegularizerExecutor(specs, parallel=parallel).run((), X)
    assert [output.name for output in results.outputs] == ["total", "squares", "again"]
    assert [output.value for output in results.outputs] == [6, 14, 14]
    assert results.outputs[0].contribution == pytest.approx(0.6)
    assert results.outputs[0].custom == {"n": 3}
    assert [output.grad_norm for output in results.outputs] == [None, None, None]
    results = await RegularizerExecutor(specs, parallel=parallel).run((), X, gradients=True)
    norms = [output.grad_norm for output in results.outputs]
    assert norms == pytest.approx([math.sqrt(3), math.sqrt(56), math.sqrt(56)])
    assert results.outputs[1].grad_norm_weighted == pytest.approx(2 * math.sqrt(56))


async def test_parallel_ones_run_at_once_and_others_in_order():
    meeting = threading.Barrier(2, timeout=20)

    def meets(data: Any, logprobs: Any) -> float:
        return float(meeting.wait() >= 0)

    specs = [spec(meets, "a"), spec(meets, "b")]
    assert len((await RegularizerExecutor(specs, max_concurrency=2).run((), X)).outputs) == 2
    order: list[str] = []
    first = spec(lambda data, lp: order.append("first") or 1.0, "first")
    second = spec(lambda data, lp: order.append("second") or 1.0, "second")
    for _ in range(5):
        await RegularizerExecutor([first, second], parallel=False).run((), X)
    assert order == ["first", "second"] * 5


async def test_no_more_than_allowed_run_at_once():
    running = most = 0

    async def counts(data: Any, logprobs: Any) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.testing.wait_all_tasks_blocked()
        running -= 1
        return 1.0

    await RegularizerExecutor([spec(counts, f"{n}") for n in range(9)], max_concurrency=3).run((), X)
    assert most == 3


@pytest.mark.parametrize("parallel", [True, False])
async def test_a_failing_one_is_named_and_the_others_count(parallel: bool):
    async def also(data: Any, logprobs: Any) -> Any:
        raise KeyError("also")

    specs = [spec(broken, "bad"), spec(total, "good"), spec(also, "worse")]
    results = await RegularizerExecutor(specs, parallel=parallel).run((), X, gradients=True)
    assert [output.name for output in results.outputs] == ["good"]
    assert [(failure.term, failure.problem) for failure in results.failures] == [
        ("bad", "raised ValueError: broken"),
        ("worse", "raised KeyError: 'also'"),
    ]
    with pytest.raises(LossTermError, match="bad: raised ValueError") as caught:
        await RegularizerExecutor(specs, parallel=parallel, on_failure="raise").run((), X)
    assert isinstance(caught.value.__cause__, ValueError)


async def test_one_that_never_ends_runs_out_of_time_and_its_thread_counts_until_it_does():
    release = threading.Event()

    def hangs(data: Any, logprobs: Any) -> float:
        release.wait(20)
        return 1.0

    async def sleeps(data: Any, logprobs: Any) -> float:
        await trio.sleep_forever()
        return 1.0

    offload = ThreadOffload(4, abandon_on_cancel=True)
    executor = RegularizerExecutor(
        [spec(hangs, "hangs"), spec(sleeps, "sleeps"), spec(total, "good")], timeout=0.2, offload=offload
    )
    results = await executor.run((), X)
    assert [failure.term for failure in results.failures] == ["hangs", "sleeps"]
    assert all(isinstance(failure, LossTermTimeout) for failure in results.failures)
    assert [output.name for output in results.outputs] == ["good"]
    assert offload.running == 1
    release.set()
    together = threading.Barrier(4, timeout=20)  # all four can be had again
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(offload.run, together.wait)


async def test_a_caller_that_is_cancelled_leaves_and_a_function_can_hear_of_it():
    begun, heard = trio.Event(), threading.Event()

    def long(data: Any, logprobs: Any) -> float:
        trio.from_thread.run_sync(begun.set)
        try:
            while True:
                trio.from_thread.check_cancelled()
        finally:
            heard.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(RegularizerExecutor([spec(long, "long")], timeout=math.inf).run, (), X)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert await trio.to_thread.run_sync(heard.wait, 20)


async def test_events_say_what_begins_and_how_it_ends():
    events: list[LossEvent] = []
    specs = [spec(total, "good"), spec(broken, "bad")]
    await RegularizerExecutor(specs, parallel=False, on_event=events.append).run((), X, gradients=True)
    assert [(event.name.rpartition(".")[2], event.metadata["regularizer_name"]) for event in events] == [
        ("start", "good"),
        ("stop", "good"),
        ("start", "bad"),
        ("exception", "bad"),
    ]
    stop = events[1].measurements
    assert (stop["value"], stop["contribution"], stop["grad_norm"]) == pytest.approx((6, 0.6, math.sqrt(3)))
    assert events[1].metadata["weight"] == 0.1
    assert events[1].metadata["async"] is False
    assert "broken" in events[3].metadata["reason"]


async def test_a_listener_that_fails_disturbs_nothing(caplog: pytest.LogCaptureFixture):
    def fails(event: LossEvent) -> None:
        raise RuntimeError("listener")

    assert len((await RegularizerExecutor([spec(total, "good")], on_event=fails).run((), X)).outputs) == 1
    assert "a listener failed at regularizer.compute.start" in caplog.text


async def test_in_a_simulation_everything_is_inline(autojump_clock: trio.testing.MockClock):
    async def slow(data: Any, logprobs: Any) -> float:
        await trio.sleep(31)
        return 1.0

    executor = RegularizerExecutor([spec(total, "total"), spec(slow, "slow")], offload=InlineOffload())
    began = trio.current_time()
    results = await executor.run((), X)
    assert trio.current_time() - began == 30
    assert [output.name for output in results.outputs] == ["total"]
    assert "within 30 s" in str(results.failures[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"regularizers": 5}, "is no list"),
        ({"regularizers": [total]}, r"regularizers\[0\]: is of type function"),
        ({"regularizers": [spec(total, "a"), spec(broken, "a")]}, "the second one named 'a'"),
        ({"regularizers": [], "timeout": 0}, "timeout"),
        ({"regularizers": [], "timeout": math.nan}, "timeout"),
        ({"regularizers": [], "max_concurrency": 0}, "max_concurrency"),
        ({"regularizers": [], "on_failure": "ignore"}, "on_failure"),
        ({"regularizers": [], "parallel": 1}, "parallel"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(arguments: dict[str, Any], words: str):
    with pytest.raises(InvalidInput, match=words):
        RegularizerExecutor(**arguments)


async def test_functions_and_objects_of_many_shapes():
    class Compute:
        name = "own"

        def compute(self, data: Any, logprobs: Any, options: Any) -> Any:
            return options["by"] * anp.sum(logprobs)

    class Nameless:
        @staticmethod
        async def compute(data: Any, logprobs: Any) -> Any:
            return anp.sum(logprobs)

    async def with_options(data: Any, logprobs: Any, options: Any) -> Any:
        return options.get("by", 0.0) + anp.sum(logprobs)

    specs = [
        regularizer(total, 1.0),
        regularizer(Compute(), 1.0, options={"by": 2.0}),
        regularizer(Nameless(), 1.0),
        regularizer(with_options, 1.0, options={"by": 3.0}),
        regularizer(with_options, 1.0, name="none given"),
    ]
    assert [each.name for each in specs] == ["total", "own", "Nameless", "with_options", "none given"]
    assert [output.value for output in (await RegularizerExecutor(specs).run((), X)).outputs] == [6, 12, 6, 9, 6]
    with pytest.raises(InvalidInput, match="taken by no third argument"):
        regularizer(total, 1.0, options={"by": 2})
    with pytest.raises(InvalidInput, match="can't be called"):
        regularizer(5, 1.0)
    with pytest.raises(InvalidInput, match=r"RegularizerSpec\.fn"):
        regularizer(lambda data: 0, 1.0)
