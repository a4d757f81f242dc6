"""The gradients are true: against finite differences in float64, and against torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.local.engine.formulas import formula, torch_formula
from tests.local.engine.scenes import CONFIGS, MANY_TARGETS, SMALL, double, lively_adapter, make_datum, small_base
from tests.local.engine.torch_model import torch_logprobs
from tinker_actors.local.engine.adapter import Adapter
from tinker_actors.local.engine.head import target_logprobs
from tinker_actors.local.engine.losses import objective
from tinker_actors.local.engine.training import forward_backward
from tinker_actors.local.engine.transformer import Weights, forward, merge
from tinker_actors.types import Datum, FloatArray, LoraConfig

PARTS = [
    LoraConfig(rank=3, train_unembed=True, train_mlp=True, train_attn=True),
    LoraConfig(rank=3, train_unembed=False, train_mlp=True, train_attn=False),
    LoraConfig(rank=3, train_unembed=False, train_mlp=False, train_attn=True),
    LoraConfig(rank=3, train_unembed=True, train_mlp=False, train_attn=False),
]
NAMES = ["all", "mlp", "attn", "unembed"]


def logprobs_of(base: Weights, adapter: Adapter, datum: Datum) -> FloatArray:
    """The targets' log-probabilities as they are computed, before they become float32."""
    targets = datum.tensor("target_tokens").to_numpy()
    weights = merge(base, adapter)
    tape = forward(weights, datum.model_input.to_array()[None])
    found = target_logprobs(tape.hidden, weights.head, targets.reshape(1, len(targets), -1))[0]
    return found.reshape(targets.shape)


def loss_of(
    base: Weights, adapter: Adapter, data: tuple[Datum, ...], loss_fn: str, frozen: Sequence[FloatArray]
) -> float:
    """The loss as its formula has it; ``frozen`` are the log-probabilities that do not move."""
    found = [logprobs_of(base, adapter, datum) for datum in data]
    return sum(
        formula(loss_fn, lp, kept, datum, CONFIGS[loss_fn])
        for lp, kept, datum in zip(found, frozen, data, strict=True)
    )


CASES = [pytest.param(lora, "cross_entropy", id=name) for lora, name in zip(PARTS, NAMES, strict=True)]
CASES += [pytest.param(PARTS[0], loss_fn, id=loss_fn) for loss_fn in CONFIGS if loss_fn != "cross_entropy"]
CASES += [pytest.param(PARTS[0], MANY_TARGETS, id="many-targets")]


@pytest.mark.parametrize(("lora", "loss_fn"), CASES)
def test_gradient_is_the_slope_of_the_loss(lora: LoraConfig, loss_fn: str) -> None:
    base = double(small_base().weights)
    adapter = lively_adapter(SMALL, lora, np.float64)
    data = tuple(make_datum(length, length, loss_fn=loss_fn) for length in (5, 11, 7))
    loss_fn = loss_fn.partition(" ")[0]
    frozen = [logprobs_of(base, adapter, datum) for datum in data]
    gradient = np.zeros_like(adapter.flat)
    chosen = objective(loss_fn, CONFIGS[loss_fn])
    output = forward_backward(merge(base, adapter), adapter, data, chosen, gradient)
    assert output.metrics["loss:sum"] == pytest.approx(loss_of(base, adapter, data, loss_fn, frozen), rel=1e-12)
    if "clipped:sum" in output.metrics:
        assert 0 < output.metrics["clipped:sum"] < output.metrics["tokens:sum"], "both are part of the test"
    rng = np.random.default_rng(0)
    for segment in adapter.layout.segments:
        stop = segment.offset + segment.rows * segment.columns
        for at in rng.choice(np.arange(segment.offset, stop), 4, replace=False):
            step = 1e-5
            kept = adapter.flat[at]
            adapter.flat[at] = kept + step
            above = loss_of(base, adapter, data, loss_fn, frozen)
            adapter.flat[at] = kept - step
            below = loss_of(base, adapter, data, loss_fn, frozen)
            adapter.flat[at] = kept
            slope = (above - below) / (2 * step)
            assert gradient[at] == pytest.approx(slope, rel=1e-5, abs=1e-7), segment.name
        # random directions see what single entries may miss
        direction = np.zeros_like(adapter.flat)
        direction[segment.offset : stop] = rng.normal(size=stop - segment.offset)
        kept_all = adapter.flat.copy()
        adapter.flat[:] = kept_all + 1e-6 * direction
        above = loss_of(base, adapter, data, loss_fn, frozen)
        adapter.flat[:] = kept_all - 1e-6 * direction
        below = loss_of(base, adapter, data, loss_fn, frozen)
        adapter.flat[:] = kept_all
        assert gradient @ direction == pytest.approx((above - below) / 2e-6, rel=1e-5, abs=1e-6), segment.name


def test_float32_gradient_is_close_to_float64() -> None:
    lora = PARTS[0]
    data = tuple(make_datum(3 + seed, seed) for seed in range(12))
    found = []
    for dtype in (np.float32, np.float64):
        base = small_base().weights if dtype is np.float32 else double(small_base().weights)
        adapter = lively_adapter(SMALL, lora, dtype)
        gradient = np.zeros_like(adapter.flat)
        forward_backward(merge(base, adapter), adapter, data, objective("cross_entropy", {}), gradient)
        assert gradient.dtype == dtype
        found.append(gradient)
    assert np.abs(found[0] - found[1]).max() < 1e-5 * np.abs(found[1]).max()


@pytest.mark.parametrize("loss_fn", CONFIGS)
def test_gradient_is_torchs(loss_fn: str) -> None:
    torch = pytest.importorskip("torch")
    base = small_base()
    adapter = lively_adapter(SMALL, PARTS[0], np.float32)
    parameters = {
        segment.name: adapter.layout.view(adapter.flat, segment.name) for segment in adapter.layout.segments
    }
    leaves, logprobs = torch_logprobs(torch, base, parameters, adapter.scale)
    data = tuple(make_datum(3 + 2 * seed, seed, loss_fn=loss_fn) for seed in range(8))
    total = torch.zeros(())
    expected = []
    for datum in data:
        lp = logprobs(datum)
        expected.append(lp.detach().numpy())
        total = total + torch_formula(torch, loss_fn, lp, datum, CONFIGS[loss_fn])
    total.backward()
    gradient = np.zeros_like(adapter.flat)
    chosen = objective(loss_fn, CONFIGS[loss_fn])
    output = forward_backward(merge(base.weights, adapter), adapter, data, chosen, gradient)
    assert output.metrics["loss:sum"] == pytest.approx(float(total.detach()), rel=1e-5)
    for record, lp in zip(output.loss_fn_outputs, expected, strict=True):
        np.testing.assert_allclose(record["logprobs"].to_numpy(), lp, atol=2e-6, rtol=2e-6)
    worst = 0.0
    for segment in adapter.layout.segments:
        ours = adapter.layout.view(gradient, segment.name)
        theirs = leaves[segment.name].grad.numpy()
        worst = max(worst, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    print(f"worst relative difference to torch, {loss_fn}: {worst:.1e}")
    assert worst < 2e-5
