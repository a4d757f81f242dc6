"""The shape of a model."""

from __future__ import annotations

import msgspec

__all__ = ["ModelConfig"]


class ModelConfig(msgspec.Struct, frozen=True):
    """The shape of a model; ``max_context`` counts prompt and generated tokens."""

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
