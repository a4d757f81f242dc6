"""AdamW as written down: against the formula in plain float64, and against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.local.engine.scenes import tiny_data, trained
from tinker_actors.local.engine import TINY, CreateModel, Engine, ForwardBackward, OptimStep, SaveState
from tinker_actors.local.engine.training import adamw
from tinker_actors.types import AdamParams, LoraConfig


def by_hand(start: list[float], gradients: list[list[float]], p: AdamParams) -> list[float]:
    """AdamW, one number at a time."""
    values, first, second = list(start), [0.0] * len(start), [0.0] * len(start)
    for step, gradient in enumerate(gradients, 1):
        norm = math.sqrt(sum(g * g for g in gradient))
        factor = p.grad_clip_norm / norm if p.grad_clip_norm and norm > p.grad_clip_norm else 1.0
        for at in range(len(values)):
            g = gradient[at] * factor
            first[at] = p.beta1 * first[at] + (1 - p.beta1) * g
            second[at] = p.beta2 * second[at] + (1 - p.beta2) * g * g
            values[at] *= 1 - p.learning_rate * p.weight_decay
            corrected = math.sqrt(second[at] / (1 - p.beta2**step)) + p.eps
            values[at] -= p.learning_rate * first[at] / (1 - p.beta1**step) / corrected
    return values


def by_engine(start: list[float], gradients: list[list[float]], p: AdamParams) -> np.ndarray:
    flat = np.array(start, np.float32)
    moments = np.zeros_like(flat), np.zeros_like(flat)
    for step, gradient in enumerate(gradients, 1):
        adamw(flat, moments, step, np.array(gradient, np.float32), p)
    return flat


sizes = st.floats(0.01, 10.0).flatmap(lambda size: st.sampled_from([size, -size]))


@settings(max_examples=60)
@given(
    start=st.lists(sizes, min_size=3, max_size=3),
    gradients=st.lists(st.lists(sizes, min_size=3, max_size=3), min_size=1, max_size=5),
    params=st.builds(
        AdamParams,
        learning_rate=st.floats(1e-4, 0.1),
        beta1=st.sampled_from([0.0, 0.9]),
        beta2=st.sampled_from([0.5, 0.95, 0.999]),
        eps=st.sampled_from([1e-12, 1e-8, 0.1]),
        weight_decay=st.sampled_from([0.0, 0.1]),
        grad_clip_norm=st.sampled_from([0.0, 0.5, 100.0]),
    ),
)
def test_adamw_is_the_formula(start: list[float], gradients: list[list[float]], params: AdamParams) -> None:
    np.testing.assert_allclose(
        by_engine(start, gradients, params), by_hand(start, gradients, params), rtol=2e-5, atol=2e-5
    )


def test_adamw_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=50), rng.normal(size=(20, 50))
    p = AdamParams(learning_rate=0.01, eps=1e-8, weight_decay=0.1, grad_clip_norm=3.0)
    value = torch.tensor(start.astype(np.float32), requires_grad=True)
    optimizer = torch.optim.AdamW([value], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for gradient in gradients:
        value.grad = torch.tensor(gradient.astype(np.float32))
        torch.nn.utils.clip_grad_norm_([value], 3.0)
        optimizer.step()
    found = by_engine(list(start), [list(g) for g in gradients], p)
    worst = np.abs(found - value.detach().numpy()).max()
    print(f"worst difference to torch: {worst:.1e}")
    assert worst < 1e-5


def test_zero_gradient_and_zero_eps_give_no_nan() -> None:
    flat, moments = np.ones(3, np.float32), (np.zeros(3, np.float32), np.zeros(3, np.float32))
    adamw(flat, moments, 1, np.zeros(3, np.float32), AdamParams(learning_rate=0.1, eps=0.0))
    assert flat.tolist() == [1.0, 1.0, 1.0]


def test_gradients_add_up_until_the_step_and_are_gone_after_it() -> None:
    data = tiny_data(range(4))
    params = AdamParams(learning_rate=1e-2)
    norms = []
    for passes in (1, 2):
        engine = Engine()
        trained(engine)
        for _ in range(passes):
            engine.apply(ForwardBackward("m", data, "cross_entropy"))
        metrics = engine.apply(OptimStep("m", params)).metrics
        assert metrics is not None
        norms.append(metrics["grad_norm:mean"])
        assert metrics["step:max"] == 4.0
        after = engine.apply(OptimStep("m", params)).metrics
        assert after is not None
        assert after["grad_norm:mean"] == 0.0
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-6)


def test_a_step_moves_the_moments_and_counts() -> None:
    engine = Engine()
    engine.apply(CreateModel("m", TINY, LoraConfig(rank=4, seed=1)))
    fresh = engine.apply(SaveState("m"))
    assert fresh.optimizer is not None
    assert fresh.optimizer.step == 0
    assert not any(array.any() for array in fresh.optimizer.first.values())
    engine.apply(ForwardBackward("m", tiny_data(range(4)), "cross_entropy"))
    engine.apply(OptimStep("m", AdamParams()))
    stepped = engine.apply(SaveState("m"))
    assert stepped.optimizer is not None
    assert stepped.optimizer.step == 1
    assert any(array.any() for array in stepped.optimizer.second.values())


def test_training_lowers_the_loss() -> None:
    engine = Engine()
    engine.apply(CreateModel("m", TINY, LoraConfig(rank=4, seed=1)))
    data = tuple(
        type(datum)(model_input=datum.model_input, loss_fn_inputs={**datum.tensors(), "weights": [1.0] * length})
        for datum in tiny_data(range(6))
        for length in [datum.model_input.length]
    )
    losses = []
    for _ in range(40):
        losses.append(engine.apply(ForwardBackward("m", data, "cross_entropy")).metrics["loss:sum"])
        engine.apply(OptimStep("m", AdamParams(learning_rate=2e-2)))
    assert losses[-1] < 0.5 * losses[0]
