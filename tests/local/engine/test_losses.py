"""Losses are the documented sums of the returned log-probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from tests.local.engine.scenes import make_datum, trained
from tinker_actors.local.engine import TINY, Engine, ForwardBackward
from tinker_actors.types import Datum, FloatArray, ModelInput


def results(data: tuple[Datum, ...], loss_fn: str) -> tuple[float, list[FloatArray]]:
    engine = Engine()
    trained(engine)
    output = engine.apply(ForwardBackward("m", data, loss_fn, {}, forward_only=True))
    assert all(key.count(":") == 1 for key in output.metrics)
    assert output.metrics["tokens:sum"] == sum(datum.model_input.length for datum in data)
    logprobs = [record["logprobs"].to_numpy() for record in output.loss_fn_outputs]
    for datum, lp in zip(data, logprobs, strict=True):
        assert lp.shape == (datum.model_input.length,)
        assert lp.dtype == np.float32
        assert (lp < 0).all()
    return output.metrics["loss:sum"], [lp.astype(np.float64) for lp in logprobs]


def of(datum: Datum, key: str) -> FloatArray:
    return datum.tensor(key).to_numpy().astype(np.float64)


def test_cross_entropy_is_a_weighted_sum() -> None:
    data = tuple(make_datum(4 + seed, seed, vocabulary=32) for seed in range(5))
    assert any((of(datum, "weights") < 0).any() for datum in data), "negative weights are part of the test"
    loss, logprobs = results(data, "cross_entropy")
    expected = -sum((of(datum, "weights") * lp).sum() for datum, lp in zip(data, logprobs, strict=True))
    assert loss == pytest.approx(expected, rel=1e-6)


def test_importance_sampling_is_the_ratio_times_the_advantage() -> None:
    data = tuple(make_datum(4 + seed, seed, vocabulary=32, loss_fn="importance_sampling") for seed in range(5))
    loss, logprobs = results(data, "importance_sampling")
    expected = -sum(
        (np.exp(lp - of(datum, "logprobs")) * of(datum, "advantages")).sum()
        for datum, lp in zip(data, logprobs, strict=True)
    )
    assert loss == pytest.approx(expected, rel=1e-5)


def test_logprobs_are_those_of_the_target_under_the_model() -> None:
    """All targets' probabilities after one prefix add up to one."""
    engine = Engine()
    trained(engine)
    prefix = [5, 9, 3]
    data = tuple(_asking(prefix, token) for token in range(engine.base(TINY).config.vocab_size))
    output = engine.apply(ForwardBackward("m", data, "cross_entropy", {}, forward_only=True))
    last = np.array([record["logprobs"].to_numpy()[-1] for record in output.loss_fn_outputs], np.float64)
    assert np.exp(last).sum() == pytest.approx(1.0, abs=1e-5)


def _asking(prefix: list[int], token: int) -> Datum:
    return Datum(
        model_input=ModelInput.from_ints(prefix),
        loss_fn_inputs={"target_tokens": [*prefix[1:], token], "weights": [0.0, 0.0, 1.0]},
    )
