"""A loss and its regularizers as one."""

from __future__ import annotations

import logging
import math
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest

from tinker_actors.errors import InvalidInput, LossTermError
from tinker_actors.regularizers import EVENTS, L1, L2, LossEvent, LossEventLog, RegularizerPipeline, with_regularizers
from tinker_actors.types import RegularizerSpec

X = np.array([1.0, 2.0, 3.0])


def base(data: Any, logprobs: Any) -> Any:
    return anp.sum(logprobs), {"tokens": 3.0}


def spec(function: Any, name: str, weight: float) -> RegularizerSpec:
    return RegularizerSpec(fn=function, weight=weight, name=name)


SPECS = [spec(L2(), "l2", 0.5), spec(L1(), "l1", 0.1)]


async def test_without_regularizers_the_total_is_the_loss():
    loss = await RegularizerPipeline(base).run((), X, gradients=True)
    assert loss.output.loss_total == 6
    assert loss.output.base_loss.custom == {"tokens": 3}
    assert loss.output.total_grad_norm == loss.output.base_loss.grad_norm == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize("parallel", [True, False])
async def test_each_adds_its_weight_times_its_value(parallel: bool):
    for count, expected in ((1, 6 + 7), (2, 6 + 7 + 0.6)):
        loss = await RegularizerPipeline(base, SPECS[:count], parallel=parallel).run((), X)
        assert loss.output.loss_total == pytest.approx(expected)
        assert list(loss.output.regularizers) == ["l2", "l1"][:count]
        assert loss.gradients is None
        assert loss.output.total_grad_norm is None


async def test_gradients_are_those_of_the_total():
    loss = await RegularizerPipeline(base, [spec(L2(), "squares", 0.5)]).run((), [X, X], gradients=True)
    assert loss.gradients is None or [each.tolist() for each in loss.gradients] == [[2, 3, 4], [2, 3, 4]]
    assert loss.output.total_grad_norm == pytest.approx(math.sqrt(2 * 29))
    assert loss.output.base_loss.grad_norm == pytest.approx(math.sqrt(6))
    assert loss.output.regularizers["squares"].grad_norm == pytest.approx(math.sqrt(112))


async def test_a_failing_regularizer_is_left_out_of_value_and_gradient_or_raises():
    def bad(data: Any, logprobs: Any) -> float:
        raise ValueError("bad")

    specs = [spec(bad, "bad", 1.0), spec(L2(), "l2", 0.5)]
    loss = await RegularizerPipeline(base, specs).run((), X, gradients=True)
    assert loss.output.loss_total == 13
    assert loss.output.total_grad_norm == pytest.approx(math.sqrt(29))
    assert [failure.term for failure in loss.failures] == ["bad"]
    with pytest.raises(LossTermError, match="bad: raised ValueError"):
        await RegularizerPipeline(base, specs, on_failure="raise").run((), X)
    for gradients in (False, True):
        with pytest.raises(LossTermError, match="base loss: raised ValueError"):
            await RegularizerPipeline(bad, SPECS).run((), X, gradients=gradients)


def test_what_can_not_be_a_pipeline_is_refused():
    for function in (5, lambda data: 0):
        with pytest.raises(InvalidInput, match="base_loss"):
            RegularizerPipeline(function)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidInput, match="base_loss"):
            with_regularizers(function, [])  # pyright: ignore[reportArgumentType]
    for bad in ([L2()], [SPECS[0], SPECS[0]]):
        with pytest.raises(InvalidInput, match="regularizers"):
            RegularizerPipeline(base, bad)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidInput, match="regularizers"):
            with_regularizers(base, bad)  # pyright: ignore[reportArgumentType]

    async def late(data: Any, logprobs: Any) -> float:
        return 0.0

    with pytest.raises(InvalidInput, match="l: is an async function"):
        with_regularizers(base, [spec(late, "l", 1.0)])
    for weight in (math.nan, math.inf, -0.5):
        with pytest.raises(InvalidInput, match="weight"):
            spec(L2(), "l2", weight)


async def test_an_async_base_loss_and_bad_logprobs():
    async def late(data: Any, logprobs: Any) -> Any:
        return anp.sum(logprobs)

    assert (await RegularizerPipeline(late, SPECS).run((), X)).output.base_loss.value == 6
    with pytest.raises(InvalidInput, match="logprobs"):
        await RegularizerPipeline(base, SPECS).run((), ["a"])


async def test_events_of_the_whole():
    events: list[LossEvent] = []
    await RegularizerPipeline(base, SPECS, on_event=events.append).run((), X)
    names = [event.name for event in events]
    assert set(names) == set(EVENTS) - {"custom_loss.exception", "regularizer.compute.exception"}
    assert (names[0], names[-1]) == ("custom_loss.start", "custom_loss.stop")
    assert events[0].metadata == {"regularizer_count": 2, "track_grad_norms": False}
    assert events[-1].measurements["loss_total"] == pytest.approx(13.6)
    assert events[-1].measurements["regularizer_total"] == pytest.approx(7.6)
    events.clear()
    with pytest.raises(LossTermError):
        await RegularizerPipeline(lambda data, lp: math.nan, SPECS, on_event=events.append).run((), X)
    assert [event.name for event in events] == ["custom_loss.start", "custom_loss.exception"]
    assert "nan" in events[-1].metadata["reason"]
    assert len(EVENTS) == 6


async def test_the_log_is_for_people_until_it_is_detached(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    log = LossEventLog(level=logging.DEBUG)

    def bad(data: Any, logprobs: Any) -> float:
        raise ValueError("bad")

    pipeline = RegularizerPipeline(base, [*SPECS, spec(bad, "bad", 1.0)], on_event=log)
    await pipeline.run((), X)
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert (logging.DEBUG, "custom loss starts") in lines
    assert any(line.startswith("regularizer l2 done: duration ") and "value 14.0000" in line for _, line in lines)
    assert any(level == logging.WARNING and "bad failed: " in line and "ValueError" in line for level, line in lines)
    assert any("loss_total 13.6000" in line for _, line in lines)
    caplog.clear()
    log.detach()
    await pipeline.run((), X)
    assert not caplog.records
