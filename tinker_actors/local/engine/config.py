"""The shape of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

__all__ = ["ModelConfig", "TextOf"]

TextOf: TypeAlias = Callable[[Sequence[int]], str]
"""The text of some tokens, special ones included."""


class ModelConfig(msgspec.Struct, frozen=True):
    """The shape of a model; ``max_context`` counts prompt and generated tokens. An id of -1 is that of no token."""

    name: str
    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    rope_theta: float
    norm_eps: float
    max_context: int
    pad_id: int
    bos_id: int
    eos_id: int
