"""Each loss by itself, on any numbers: what is finite has a finite slope, and that is the true one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.local.engine.formulas import formula
from tests.local.engine.scenes import CONFIGS
from tinker_actors.local.engine.losses import LOSSES, Terms, objective, read_inputs
from tinker_actors.types import Datum, ModelInput, PromptProvenanceSpan, SampledProvenanceSpan

LENGTH = 5


def column(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    return st.lists(values, min_size=LENGTH, max_size=LENGTH)


def datum_of(loss_fn: str, columns: dict[str, list[float]]) -> Datum:
    names = (*LOSSES[loss_fn].inputs, "target_tokens")
    datum = Datum(ModelInput.from_ints([1] * LENGTH), {name: columns[name] for name in names})
    spans = [PromptProvenanceSpan(sequence_id="a", length=2), SampledProvenanceSpan(sequence_id="a", length=3)]
    return datum.with_provenance(model_input=spans, loss_fn_inputs=spans)


def terms_of(loss_fn: str, datum: Datum, lp: list[float], dtype: Any) -> Terms:
    chosen = objective(loss_fn, CONFIGS[loss_fn])
    with np.errstate(all="ignore"):
        return chosen.loss.terms(
            np.array(lp, dtype), read_inputs(chosen.loss, datum, np.dtype(dtype))[1], chosen.settings
        )


def columns_of(draw: Any, logprobs: st.SearchStrategy[float], size: float) -> dict[str, list[float]]:
    signed = st.sampled_from([0.0, -0.0]) | st.floats(-size, size, width=32)
    return {
        "target_tokens": [1] * LENGTH,
        "logprobs": draw(column(logprobs)),
        "advantages": draw(column(signed)),
        "weights": draw(column(signed)),
        "sequence_ratio_mask": [1.0, *draw(column(st.sampled_from([0.0, 1.0])))[1:]],
    }


@pytest.mark.parametrize("loss_fn", CONFIGS)
@given(data=st.data())
def test_a_finite_loss_has_a_finite_slope_whatever_the_numbers(loss_fn: str, data: st.DataObject) -> None:
    wild = st.floats(-1e4, 0.0, width=32) | st.floats(-3.0, 0.0, width=32)
    columns = columns_of(data.draw, wild, 1e6)
    terms = terms_of(loss_fn, datum_of(loss_fn, columns), data.draw(column(wild)), np.float32)
    assert terms.loss.dtype == terms.slope.dtype == np.float32
    assert terms.loss.shape == terms.slope.shape == (LENGTH,)
    assert not np.isnan(terms.loss).any()
    if np.isfinite(terms.loss).all():
        assert np.isfinite(terms.slope).all()
    assert np.isfinite(list(terms.metrics.values())).all()


@pytest.mark.parametrize("loss_fn", CONFIGS)
@given(data=st.data())
def test_the_slope_is_that_of_the_formula(loss_fn: str, data: st.DataObject) -> None:
    usual = st.floats(-4.0, -0.125, width=32)
    columns = columns_of(data.draw, usual, 2.0)
    lp = np.array(data.draw(column(usual)), np.float64)
    datum, config = datum_of(loss_fn, columns), CONFIGS[loss_fn]
    terms = terms_of(loss_fn, datum, lp.tolist(), np.float64)
    assert float(terms.loss.sum()) == pytest.approx(formula(loss_fn, lp, lp, datum, config), rel=1e-9, abs=1e-9)
    step = 1e-6
    for at in range(LENGTH):
        moved = np.zeros(LENGTH)
        moved[at] = step
        above = formula(loss_fn, lp + moved, lp, datum, config)
        below = formula(loss_fn, lp - moved, lp, datum, config)
        here = formula(loss_fn, lp, lp, datum, config)
        rising, falling = (above - here) / step, (here - below) / step
        # at a bound there are two slopes, and either will do
        low, high = min(rising, falling) - 1e-4, max(rising, falling) + 1e-4
        assert low <= terms.slope[at] <= high
