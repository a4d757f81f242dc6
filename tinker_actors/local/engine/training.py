"""Forward and backward over a request's data, and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.adapter import Adapter
from tinker_actors.local.engine.head import HeadPass
from tinker_actors.local.engine.losses import Objective, read_inputs, reduced
from tinker_actors.local.engine.transformer import Weights, backward, bucket, forward
from tinker_actors.types.datum import Datum
from tinker_actors.types.tensor import FloatArray, TensorData
from tinker_actors.types.training import AdamParams, ForwardBackwardOutput

__all__ = ["adamw", "forward_backward"]

_WINDOW = 32
"""Data whose gradients are held at one time; they are summed in the order of the data, whatever their lengths."""
_WINDOW_BYTES = 1 << 27
"""What those gradients may take. Of a large adapter fewer are held, which changes no bit of their sum."""
_TOKENS_AT_A_TIME = 160
"""Padded tokens in one set of numpy calls. Measured: with more, arrays leave the cache and malloc's reach, and fresh
pages cost a fifth of the time; with fewer, calls cost more than they do."""


class _Result(NamedTuple):
    """One datum's log-probabilities, loss and metrics."""

    logprobs: FloatArray
    loss: float
    metrics: Mapping[str, float]


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused by name, not by a warning
def forward_backward(
    weights: Weights,
    adapter: Adapter,
    data: Sequence[Datum],
    objective: Objective,
    gradient: FloatArray | None,
) -> ForwardBackwardOutput:
    """Losses of ``data``; adds their gradients, datum by datum in order, to ``gradient`` [size] if there is one.

    The gradient of one datum depends on nothing but itself, so data split over several calls give the same bits.
    Raises InvalidInput when a loss or the gradient is not finite; ``gradient`` is then of no use any more.
    """
    results: list[_Result] = []
    most_held = min(max(_WINDOW_BYTES // adapter.flat.nbytes, 1), _WINDOW)
    for start in range(0, len(data), most_held):
        window = data[start : start + most_held]
        gradients = None if gradient is None else np.empty((len(window), adapter.layout.size), gradient.dtype)
        shapes = [(bucket(datum.model_input.length), _targets_of(datum)) for datum in window]
        order = sorted(range(len(window)), key=lambda index: shapes[index])  # stable: equal shapes side by side
        found: dict[int, _Result] = {}
        place: dict[int, int] = {}
        at = 0
        while at < len(order):
            shape = shapes[order[at]]
            most = max(_TOKENS_AT_A_TIME // shape[0], 1)
            group = [index for index in order[at : at + most] if shapes[index] == shape]
            part = None if gradients is None else gradients[at : at + len(group)]
            chosen = [window[index] for index in group]
            members = _group(weights, adapter, chosen, shape, objective=objective, gradients=part)
            for row, (index, result) in enumerate(zip(group, members, strict=True)):
                if not math.isfinite(result.loss):
                    field, cure = f"data[{start + index}]", "Check its inputs and the learning rate"
                    raise InvalidInput(field, f"its {objective.name} loss is {result.loss}", cure)
                found[index], place[index] = result, at + row
            at += len(group)
        for index in range(len(window)):
            results.append(found[index])
            if gradient is not None and gradients is not None:
                gradient += gradients[place[index]]
    if gradient is not None and not np.isfinite(gradient).all():
        raise InvalidInput("data", "their gradient is not finite", "Check the inputs and the learning rate")
    return ForwardBackwardOutput(
        loss_fn_output_type="TorchLossReturn",
        loss_fn_outputs=tuple({"logprobs": TensorData(result.logprobs)} for result in results),
        metrics={
            "loss:sum": math.fsum(result.loss for result in results),
            "tokens:sum": float(sum(len(result.logprobs) for result in results)),
            **reduced([result.metrics for result in results]),
        },
    )


def _targets_of(datum: Datum) -> int:
    """How many targets a position has."""
    dims = datum.tensor("target_tokens").dims
    return dims[1] if len(dims) == 2 else 1


def _group(
    weights: Weights,
    adapter: Adapter,
    data: Sequence[Datum],
    shape: tuple[int, int],
    *,
    objective: Objective,
    gradients: FloatArray | None,
) -> list[_Result]:
    """The results of ``data``, all padded to ``shape``: positions, and targets of each of them."""
    n, (length, _) = len(data), shape
    tokens = np.zeros((n, length), np.int64)
    targets = np.zeros((n, *shape), np.int64)
    inputs: list[dict[str, FloatArray]] = []
    for row, datum in enumerate(data):
        size = datum.model_input.length
        tokens[row, :size] = datum.model_input.to_array()
        given, others = read_inputs(objective.loss, datum, weights.embed.dtype)
        targets[row, :size] = given.reshape(size, -1)
        inputs.append(others)
    tape = forward(weights, tokens)
    head = HeadPass(tape.hidden, weights.head, targets)
    lp = head.logprobs
    slopes = np.zeros_like(lp)  # padding has none
    results: list[_Result] = []
    for row, datum in enumerate(data):
        size = datum.model_input.length
        own = lp[row, :size].reshape(datum.tensor("target_tokens").dims)
        terms = objective.loss.terms(own, inputs[row], objective.settings)
        slopes[row, :size] = terms.slope.reshape(size, -1)
        total = float(np.add.reduce(terms.loss, axis=None, dtype=np.float64))
        results.append(_Result(own.copy(), total, terms.metrics))
    if gradients is not None:
        backward(weights, adapter, tape, head.backward(slopes, adapter, gradients), gradients)
    return results


def adamw(
    flat: FloatArray, moments: tuple[FloatArray, FloatArray], step: int, gradient: FloatArray, params: AdamParams
) -> float:
    """AdamW (Loshchilov & Hutter 2019) in place; ``step`` counts from 1. Returns the gradient's norm before clipping.

    ``weight_decay`` is decoupled and scaled by the learning rate, as in torch.optim.AdamW.
    """
    first, second = moments
    norm = math.sqrt(float(np.add.reduce(np.square(gradient, dtype=np.float64))))
    if params.grad_clip_norm > 0.0 and norm > params.grad_clip_norm:
        gradient = gradient * (params.grad_clip_norm / norm)
    first *= params.beta1
    first += (1.0 - params.beta1) * gradient
    second *= params.beta2
    second += (1.0 - params.beta2) * np.square(gradient)
    scale = np.sqrt(second)
    scale *= 1.0 / math.sqrt(1.0 - params.beta2**step)
    scale += params.eps
    change = np.divide(first, scale, out=np.zeros_like(first), where=scale != 0.0)
    change *= params.learning_rate / (1.0 - params.beta1**step)
    if params.weight_decay:
        flat *= 1.0 - params.learning_rate * params.weight_decay
    flat -= change
    return norm
