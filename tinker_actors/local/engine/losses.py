"""Losses over target tokens: sums over positions, never means. ``lp`` is a target's log-probability.

cross_entropy          -sum(weights * lp)
importance_sampling    -sum(exp(lp - logprobs) * advantages)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.types.datum import Datum
from tinker_actors.types.tensor import FloatArray, IntArray

__all__ = ["LOSS_INPUTS", "check_loss", "check_loss_inputs", "loss_and_slope", "target_logprobs"]

LOSS_INPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cross_entropy": ("target_tokens", "weights"),
    "importance_sampling": ("target_tokens", "logprobs", "advantages"),
}
"""The losses that there are, and the tensors that each needs."""


def check_loss(loss_fn: str, config: Mapping[str, float | str]) -> None:
    """Raise InvalidInput for a loss or a setting that there is not."""
    if loss_fn not in LOSS_INPUTS:
        raise InvalidInput("loss_fn", f"{loss_fn[:60]!r} is not offered here", f"Use one of {', '.join(LOSS_INPUTS)}")
    if config:
        raise InvalidInput("loss_fn_config", f"{loss_fn} has no setting {min(config)!r}", "Leave it out")


def check_loss_inputs(datum: Datum, loss_fn: str, vocab_size: int, where: str) -> None:
    """Raise InvalidInput unless ``datum`` has what ``loss_fn`` needs: one finite number for each position."""
    needed = LOSS_INPUTS[loss_fn]
    for key in needed:
        if key not in datum.loss_fn_inputs:
            raise InvalidInput(
                f"{where}.loss_fn_inputs", f"{key!r} is missing", f"{loss_fn} needs {', '.join(needed)}"
            )
    length = datum.model_input.length
    for key in datum.loss_fn_inputs:
        field = f"{where}.loss_fn_inputs[{key!r}]"
        if key not in needed:
            raise InvalidInput(field, f"is no input of {loss_fn}", f"Give only {', '.join(needed)}")
        tensor = datum.tensor(key)
        dimensions = len(tensor.dims)
        if dimensions != 1:  # so none is sparse, and none is made dense here
            raise InvalidInput(
                field, f"has {dimensions} dimensions", "This server takes one value for each position, as a flat list"
            )
        array = tensor.to_numpy()
        if array.size != length:
            raise InvalidInput(field, f"has {array.size} values for {length} tokens", "Give one for each position")
        if key == "target_tokens":
            if array.dtype != np.int64:
                raise InvalidInput(field, "is not a tensor of integers", "Give token ids as int64")
            if int(array.min()) < 0 or int(array.max()) >= vocab_size:
                bad = int(array[(array < 0) | (array >= vocab_size)][0])
                raise InvalidInput(
                    field, f"token {bad} is outside the vocabulary of {vocab_size}", "Check the tokenizer"
                )
        elif array.dtype != np.float32:
            raise InvalidInput(field, "is a tensor of integers", "Give numbers as float32")
        elif not np.isfinite(array).all():
            raise InvalidInput(field, "holds a value that is not finite", "Give finite numbers")


def target_logprobs(hidden: FloatArray, head: FloatArray, targets: IntArray) -> tuple[FloatArray, FloatArray]:
    """Log-probabilities of ``targets`` [n, length], and all probabilities [n, length, vocabulary]."""
    logits = np.matmul(hidden, head.T)
    logits -= logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    np.exp(logits, out=logits)
    total = np.add.reduce(logits, axis=-1, keepdims=True)
    logits /= total
    return chosen - np.log(total[..., 0]), logits


def loss_and_slope(loss_fn: str, lp: FloatArray, inputs: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """The loss at each position and its derivative by ``lp``; all arrays of one shape."""
    if loss_fn == "cross_entropy":
        weights = inputs["weights"]
        return -weights * lp, -weights
    loss = -np.exp(lp - inputs["logprobs"]) * inputs["advantages"]
    return loss, loss.copy()
