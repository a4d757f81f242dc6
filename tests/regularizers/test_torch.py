"""The same formulas on torch tensors, where torch is installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.regularizers.test_formulas import _all, _smooth, rows
from tinker_actors.errors import GradientUnavailable
from tinker_actors.regularizers import GradientPenalty, RegularizerPipeline, evaluate, regularizer, with_regularizers

torch: Any = pytest.importorskip("torch")

SHAPES = [(2, 3), (2, 3)]


def smooth(x: Any) -> Any:
    return sum(torch.sum(torch.exp(each) * each) if torch.is_tensor(each) else _smooth([each]) for each in x)


@pytest.mark.parametrize("index", range(len(_all(SHAPES, 3))))
def test_torch_and_numpy_agree(index: int):
    regularizer = _all(SHAPES, 3)[index]
    if isinstance(regularizer, GradientPenalty):
        regularizer = GradientPenalty(loss_fn=smooth)
    x = [rows(3 + n, *shape) for n, shape in enumerate(SHAPES)]
    plain = evaluate("t", regularizer, (), x, gradients=True)
    tensors = [torch.tensor(each, dtype=torch.float64) for each in x]
    found = evaluate("t", regularizer, (), tensors, gradients=True)
    assert found.value == pytest.approx(plain.value)
    assert found.metrics == pytest.approx(dict(plain.metrics))
    for ours, theirs in zip(plain.gradients or (), found.gradients or (), strict=True):
        assert theirs == pytest.approx(ours)


def test_a_regularized_loss_is_differentiated_by_torch():
    loss = with_regularizers(
        lambda data, lp: (sum(torch.sum(each) for each in lp), {}),
        [regularizer(GradientPenalty(loss_fn=lambda lp: (lp[0] ** 2).sum(), target_norm=0.0), 0.25, name="gp")],
    )
    leaf = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    value, metrics = loss((), [leaf])
    value.backward()
    assert leaf.grad.tolist() == pytest.approx([3, 5, 7])
    assert metrics["gp/gradient_norm"] == pytest.approx(math.sqrt(56))


async def test_a_pipeline_takes_tensors_and_leaves_them_alone():
    leaf = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    found = await RegularizerPipeline(lambda data, lp: (lp[0] ** 2).sum()).run((), [leaf], gradients=True)
    assert found.output.total_grad_norm == pytest.approx(math.sqrt(56))
    assert leaf.grad is None


def test_lost_gradients_are_told():
    x = [torch.tensor([1.0, 2.0])]
    for lost in (lambda data, lp: lp[0].detach().sum(), lambda data, lp: float(lp[0].sum().item())):
        with pytest.raises(GradientUnavailable, match="with torch"):
            evaluate("t", lost, (), x, gradients=True)
    assert not np.any(evaluate("t", lambda data, lp: 3.0, (), x, gradients=True).gradients)
