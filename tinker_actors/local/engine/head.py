"""The output head: log-probabilities of targets, and the way back from their slopes to the head's input.

With a large vocabulary the logits of a long sequence are larger than everything else together, so they are made for a
block of positions at a time. How many those are depends on the vocabulary alone, so that no bit depends on who else
is in a request; the packaged models need one block at any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

import numpy as np

from tinker_actors.local.engine.adapter import Adapter
from tinker_actors.types.tensor import FloatArray, IntArray

__all__ = ["HeadPass", "logit_slopes", "position_blocks", "target_logprobs"]

_BLOCK: Final = 1 << 24  # logits of one sequence at a time
_MODULE: Final = "lm_head"


def position_blocks(length: int, vocabulary: int) -> Iterator[slice]:
    """Cuts of ``length`` positions, small enough for the logits of one sequence to be held at one time."""
    step = max(_BLOCK // vocabulary, 1)
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


@final
class HeadPass:
    """``hidden`` [n, length, d_model] under ``head``: ``logprobs`` of ``targets`` [n, length, K]."""

    def __init__(self, hidden: FloatArray, head: FloatArray, targets: IntArray) -> None:
        self._hidden = hidden
        self._head = head
        self._targets = targets
        self._blocks = tuple(position_blocks(hidden.shape[1], head.shape[0]))
        self._probabilities: FloatArray | None = None
        parts: list[FloatArray] = []
        for cut in self._blocks:
            logprobs, probabilities = target_logprobs(hidden[:, cut], head, targets[:, cut])
            parts.append(logprobs)
            if len(self._blocks) == 1:
                self._probabilities = probabilities
        self.logprobs: FloatArray = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def backward(self, slopes: FloatArray, adapter: Adapter, gradients: FloatArray) -> FloatArray:
        """The loss's gradient by ``hidden``, from its ``slopes`` by ``logprobs``; to be called once.

        Writes that of the head's own parameters, if ``adapter`` has them, into ``gradients`` [n, adapter size].
        """
        layout = adapter.layout
        d_hidden = np.empty_like(self._hidden)
        spare: FloatArray | None = None
        for index, cut in enumerate(self._blocks):
            hidden, targets = self._hidden[:, cut], self._targets[:, cut]
            probabilities = self._probabilities
            if probabilities is None:
                _, probabilities = target_logprobs(hidden, self._head, targets)
            d_logits = logit_slopes(probabilities, targets, slopes[:, cut])
            if adapter.lora.train_unembed:
                if index == 0:
                    adapter.module_gradient(gradients, hidden, (d_logits,), _MODULE)
                else:
                    spare = np.empty_like(gradients) if spare is None else spare
                    adapter.module_gradient(spare, hidden, (d_logits,), _MODULE)
                    for name in (f"{_MODULE}.lora_A", f"{_MODULE}.lora_B"):
                        layout.view(gradients, name)[...] += layout.view(spare, name)
            if adapter.lora.train_attn or adapter.lora.train_mlp:
                np.matmul(d_logits, self._head, out=d_hidden[:, cut])
        return d_hidden


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
