"""Forward and backward over a request's data, and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.adapter import Adapter
from tinker_actors.local.engine.losses import LOSS_INPUTS, loss_and_slope, target_logprobs
from tinker_actors.local.engine.transformer import Weights, backward, bucket, forward
from tinker_actors.types.datum import Datum
from tinker_actors.types.tensor import FloatArray, TensorData
from tinker_actors.types.training import AdamParams, ForwardBackwardOutput

__all__ = ["adamw", "forward_backward"]

_WINDOW = 32
"""Data whose gradients are held at one time; they are summed in the order of the data, whatever their lengths."""
_TOKENS_AT_A_TIME = 160
"""Padded tokens in one set of numpy calls. Measured: with more, arrays leave the cache and malloc's reach, and fresh
pages cost a fifth of the time; with fewer, calls cost more than they do."""


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused by name, not by a warning
def forward_backward(
    weights: Weights, adapter: Adapter, data: Sequence[Datum], loss_fn: str, gradient: FloatArray | None
) -> ForwardBackwardOutput:
    """Losses of ``data``; adds their gradients, datum by datum in order, to ``gradient`` [size] if there is one.

    The gradient of one datum depends on nothing but itself, so data split over several calls give the same bits.
    Raises InvalidInput when a loss or the gradient is not finite; ``gradient`` is then of no use any more.
    """
    logprobs: list[FloatArray] = []
    losses: list[float] = []
    for start in range(0, len(data), _WINDOW):
        window = data[start : start + _WINDOW]
        gradients = None if gradient is None else np.empty((len(window), adapter.layout.size), gradient.dtype)
        lengths = [bucket(datum.model_input.length) for datum in window]
        order = sorted(range(len(window)), key=lambda index: lengths[index])  # stable: equal lengths side by side
        found: dict[int, tuple[FloatArray, float]] = {}
        place: dict[int, int] = {}
        at = 0
        while at < len(order):
            length = lengths[order[at]]
            most = max(_TOKENS_AT_A_TIME // length, 1)
            group = [index for index in order[at : at + most] if lengths[index] == length]
            part = None if gradients is None else gradients[at : at + len(group)]
            results = _group(
                weights, adapter, [window[index] for index in group], length, loss_fn=loss_fn, gradients=part
            )
            for row, (index, result) in enumerate(zip(group, results, strict=True)):
                if not math.isfinite(result[1]):
                    field, cure = f"data[{start + index}]", "Check its inputs and the learning rate"
                    raise InvalidInput(field, f"its {loss_fn} loss is {result[1]}", cure)
                found[index], place[index] = result, at + row
            at += len(group)
        for index in range(len(window)):
            logprobs.append(found[index][0])
            losses.append(found[index][1])
            if gradient is not None and gradients is not None:
                gradient += gradients[place[index]]
    if gradient is not None and not np.isfinite(gradient).all():
        raise InvalidInput("data", "their gradient is not finite", "Check the inputs and the learning rate")
    return ForwardBackwardOutput(
        loss_fn_output_type="TorchLossReturn",
        loss_fn_outputs=tuple({"logprobs": TensorData(array)} for array in logprobs),
        metrics={"loss:sum": sum(losses), "tokens:sum": float(sum(array.size for array in logprobs))},
    )


def _group(
    weights: Weights,
    adapter: Adapter,
    data: Sequence[Datum],
    length: int,
    *,
    loss_fn: str,
    gradients: FloatArray | None,
) -> list[tuple[FloatArray, float]]:
    """Log-probabilities and loss of each of ``data``, all padded to ``length``."""
    n = len(data)
    tokens = np.zeros((n, length), np.int64)
    targets = np.zeros((n, length), np.int64)
    inputs = {
        key: np.zeros((n, length), weights.embed.dtype) for key in LOSS_INPUTS[loss_fn] if key != "target_tokens"
    }
    for row, datum in enumerate(data):
        size = datum.model_input.length
        tokens[row, :size] = datum.model_input.to_array()
        targets[row, :size] = datum.tensor("target_tokens").to_numpy()
        for key, array in inputs.items():
            array[row, :size] = datum.tensor(key).to_numpy()
    tape = forward(weights, tokens)
    lp, probabilities = target_logprobs(tape.hidden, weights.head, targets)
    loss, slope = loss_and_slope(loss_fn, lp, inputs)
    for row, datum in enumerate(data):
        slope[row, datum.model_input.length :] = 0.0
    if gradients is not None:
        d_logits = probabilities
        d_logits *= -slope[..., None]
        rows, columns = np.ogrid[:n, :length]
        d_logits[rows, columns, targets] += slope
        backward(weights, adapter, tape, d_logits, gradients)
    results: list[tuple[FloatArray, float]] = []
    for row, datum in enumerate(data):
        size = datum.model_input.length
        results.append((lp[row, :size].copy(), float(np.add.reduce(loss[row, :size], dtype=np.float64))))
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
