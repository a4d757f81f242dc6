"""Log-probabilities of targets under the head, and the way back from their slopes to the logits."""

from __future__ import annotations

import numpy as np

from tinker_actors.types.tensor import FloatArray, IntArray

__all__ = ["logit_slopes", "target_logprobs"]


def target_logprobs(hidden: FloatArray, head: FloatArray, targets: IntArray) -> tuple[FloatArray, FloatArray]:
    """Log-probabilities of ``targets`` [n, length, K], and all probabilities [n, length, vocabulary]."""
    logits = np.matmul(hidden, head.T)
    logits -= logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, targets, axis=-1)
    np.exp(logits, out=logits)
    total = np.add.reduce(logits, axis=-1, keepdims=True)
    logits /= total
    return chosen - np.log(total), logits


def logit_slopes(probabilities: FloatArray, targets: IntArray, slopes: FloatArray) -> FloatArray:
    """The loss's slopes by the logits, from those by the targets' log-probabilities; ``probabilities`` is used up.

    A token may be a target of one position several times.
    """
    d_logits = probabilities
    d_logits *= -np.add.reduce(slopes, axis=-1, keepdims=True)
    rows, columns = np.ogrid[: targets.shape[0], : targets.shape[1]]
    for k in range(targets.shape[-1]):  # one after the other, so that those of one token add up
        d_logits[rows, columns, targets[..., k]] += slopes[..., k]
    return d_logits
