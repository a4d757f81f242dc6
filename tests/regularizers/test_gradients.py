"""Gradients are real, or their lack is an error: never silently 0."""

from __future__ import annotations

import math
import threading
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from tinker_actors.errors import GradientUnavailable, LossTermError
from tinker_actors.regularizers import (
    L2,
    GradientPenalty,
    GradientTracker,
    KLDivergence,
    evaluate,
    evaluate_async,
    gradient_norm,
    regularizer,
    with_regularizers,
)

X = np.array([1.0, 2.0, 3.0])


def test_norms_of_known_functions():
    assert gradient_norm(anp.sum, X) == pytest.approx(math.sqrt(3))
    assert gradient_norm(lambda lp: anp.sum(lp**2), X) == pytest.approx(math.sqrt(56))
    assert gradient_norm(anp.mean, X) == pytest.approx(math.sqrt(1 / 3))
    assert gradient_norm(lambda lp: lp**2, 3.0) == pytest.approx(6)
    assert gradient_norm(anp.sum, np.ones((2, 3))) == pytest.approx(math.sqrt(6))
    assert gradient_norm(lambda lp: 2 * lp, X) == pytest.approx(math.sqrt(12))  # a vector is summed first
    assert gradient_norm(lambda lp: 3.0, X) == 0
    assert gradient_norm(lambda lp: anp.sum(lp[0]) + anp.sum(lp[1] ** 2), [X, X]) == pytest.approx(math.sqrt(3 + 56))
    assert gradient_norm(lambda lp: anp.sum(lp[1]), [X, X]) == pytest.approx(math.sqrt(3))


def test_a_tracker_adds_up_what_it_is_given():
    tracker = GradientTracker()
    assert tracker.total_norm == 0
    assert tracker.add("base", (np.ones(3),)) == pytest.approx(math.sqrt(3))
    assert tracker.total_norm == pytest.approx(math.sqrt(3))
    assert tracker.add("squares", (2 * X,), 0.5) == pytest.approx(math.sqrt(56))
    assert tracker.total[0].tolist() == [2, 3, 4]
    assert tracker.total_norm == pytest.approx(math.sqrt(29))
    assert dict(tracker.norms) == {"base": pytest.approx(math.sqrt(3)), "squares": pytest.approx(math.sqrt(56))}


LOST = {
    "a float of its own": lambda _, lp: float(np.sum([float(each) for each in lp])),
    "what is taken out of the trace": lambda _, lp: float(np.sum(getattr(lp, "_value", lp))),
    "a copy": lambda _, lp: sum(getattr(each, "_value", each) for each in lp),
}


@pytest.mark.parametrize("function", LOST.values(), ids=LOST)
def test_a_gradient_that_is_lost_is_an_error_and_not_nothing(function: Any):
    assert evaluate("t", function, (), X).value == 6
    with pytest.raises(GradientUnavailable, match=r"^t: .*autograd\.numpy"):
        evaluate("t", function, (), X, gradients=True)


def test_what_fails_both_ways_is_a_failure_and_not_a_lost_gradient():
    def broken(data: Any, logprobs: Any) -> Any:
        raise KeyError("x")

    for gradients in (False, True):
        with pytest.raises(LossTermError, match="t: raised KeyError: 'x'") as caught:
            evaluate("t", broken, (), X, gradients=gradients)
        assert not isinstance(caught.value, GradientUnavailable)
        assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (math.nan, "its value is nan"),
        (-math.inf, "its value is -inf"),
        ("much", "no number"),
        (None, "no number"),
        ((1.0,), "neither a scalar"),
        ((1.0, 2.0), "neither a scalar"),
        ((1.0, {"m": "high"}), "no number"),
    ],
)
def test_a_term_gives_a_finite_number(result: Any, words: str):
    for gradients in (False, True):
        with pytest.raises(LossTermError, match=words):
            evaluate("t", lambda data, lp: result, (), X, gradients=gradients)


def test_a_gradient_that_is_not_finite_is_a_failure():
    with np.errstate(all="ignore"), pytest.raises(LossTermError, match="gradient is not finite"):
        evaluate("t", lambda data, lp: anp.sum(anp.sqrt(lp)), (), 0 * X, gradients=True)


def test_an_async_function_in_a_plain_ones_place_is_told():
    async def late(data: Any, logprobs: Any) -> float:
        return 1.0

    with pytest.raises(LossTermError, match="async def"):
        evaluate("t", late, (), X)


async def test_async_functions_have_gradients():
    async def square(data: Any, logprobs: Any) -> Any:
        return anp.sum(logprobs**2)

    async def lost(data: Any, logprobs: Any) -> Any:
        return float(np.sum(getattr(logprobs, "_value", logprobs)))

    found = await evaluate_async("t", square, (), X, gradients=True)
    assert found.gradients is not None
    assert found.gradients[0].tolist() == [2, 4, 6]
    with pytest.raises(GradientUnavailable):
        await evaluate_async("t", lost, (), X, gradients=True)


def test_the_sum_of_a_loss_and_its_regularizers_can_be_differentiated_by_whoever_takes_it():
    loss = with_regularizers(
        lambda data, lp: (anp.sum(lp[0]), {"tokens": 3.0}),
        [
            regularizer(L2(), 0.5, name="l2"),
            regularizer(GradientPenalty(loss_fn=lambda lp: anp.sum(lp[0] ** 2), target_norm=0.0), 0.25, name="gp"),
        ],
    )
    value, metrics = loss((), [X])
    assert value == pytest.approx(6 + 7 + 14)
    assert metrics == {
        "base_loss": 6,
        "tokens": 3,
        "l2": 14,
        "l2/l2_raw": 14,
        "l2/l2_mean": pytest.approx(14 / 3),
        "gp": pytest.approx(56),
        "gp/gradient_norm": pytest.approx(math.sqrt(56)),
        "regularizer_total": pytest.approx(21),
    }
    # by a trace of autograd's own, which that of the penalty is nested in
    assert autograd.grad(lambda lp: loss((), [lp])[0])(X) == pytest.approx(1 + X + 2 * X)
    assert gradient_norm(lambda lp: loss((), [lp])[0], X) == pytest.approx(float(np.linalg.norm(1 + 3 * X)))


def test_nested_gradients_of_many_threads_do_not_mix():
    # autograd's own numbers of traces, counted over all threads, get out of order here
    expected = 16 * X**3
    wrong: list[Any] = []
    entered, leave = threading.Barrier(3, timeout=20), threading.Barrier(2, timeout=20)

    def slowly(data: Any, lp: Any) -> Any:
        entered.wait()
        if threading.current_thread().name == "first":
            leave.wait()  # the others' traces are over before the inner one begins
        return GradientPenalty(loss_fn=lambda x: anp.sum(x * x * lp), target_norm=0.0)(data, lp)

    def work() -> None:
        found = evaluate("t", slowly, (), X, gradients=True).gradients
        assert found is not None
        if not np.allclose(found[0], expected):
            wrong.append(found)

    threads = [threading.Thread(target=work, name=name) for name in ("other", "another", "first")]
    for thread in threads:
        thread.start()
    for thread in threads[:2]:
        thread.join()
    leave.wait()
    threads[2].join()
    assert not wrong


def test_shapes_come_back_as_they_went():
    for logprobs in ([X, np.ones((2, 2))], [X], X, np.ones((2, 3)), [1.0, 2.0], 3.0, [[1.0, 2.0], [3.0]]):
        found = evaluate("t", L2(), (), logprobs, gradients=True).gradients
        parts = logprobs if isinstance(logprobs, list) and not isinstance(logprobs[0], float) else [logprobs]
        assert found is not None
        assert [each.shape for each in found] == [np.shape(part) for part in parts]
    for function in (lambda _, lp: anp.sum(lp[0]), lambda _, lp: 3.0):  # what does not count has zeros
        found = evaluate("t", function, (), [X, np.ones((2, 2))], gradients=True).gradients
        assert found is not None
        assert [each.shape for each in found] == [(3,), (2, 2)]
        assert not found[1].any()


def test_a_function_gets_logprobs_as_they_were_given():
    seen: list[Any] = []

    def look(data: Any, logprobs: Any) -> float:
        seen.append(type(logprobs).__name__ if not isinstance(logprobs, list) else len(logprobs))
        return 0.0

    for logprobs in (X, [X], [X, X], [1.0, 2.0], [[1.0, 2.0]]):
        evaluate("t", look, (), logprobs)
    assert seen == ["ndarray", 1, 2, "ndarray", 1]


def test_a_reference_is_a_constant_also_where_it_was_made_of_the_logprobs():
    lp = np.log([0.25, 0.75])
    found = evaluate("t", lambda _, x: KLDivergence(reference_logprobs=0.5 * x)((), x), (), lp, gradients=True)
    assert found.gradients is not None
    assert found.gradients[0] == pytest.approx(np.exp(lp) * (lp - 0.5 * lp + 1))
