"""What the engine can be told to do with a model, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from tinker_actors.local.engine.snapshots import Snapshot
from tinker_actors.types.datum import Datum
from tinker_actors.types.training import AdamParams, LoraConfig

__all__ = [
    "CreateModel",
    "ForwardBackward",
    "LoadState",
    "Operation",
    "OptimStep",
    "SaveSampler",
    "SaveState",
    "UnloadModel",
]


class CreateModel(msgspec.Struct, frozen=True, eq=False):
    """A new LoRA adapter on ``base_model``; without ``lora.seed`` its start is drawn from ``model_id``."""

    model_id: str
    base_model: str
    lora: LoraConfig


class ForwardBackward(msgspec.Struct, frozen=True, eq=False):
    """Losses of ``data`` and, unless ``forward_only``, their gradients added to the model's pending ones."""

    model_id: str
    data: tuple[Datum, ...]
    loss_fn: str
    loss_fn_config: Mapping[str, float | str] = {}
    forward_only: bool = False


class OptimStep(msgspec.Struct, frozen=True, eq=False):
    """One AdamW step with the pending gradients (zeros if there are none), which are cleared."""

    model_id: str
    adam_params: AdamParams


class SaveState(msgspec.Struct, frozen=True, eq=False):
    """A snapshot of adapter and optimizer. Pending gradients are no part of it."""

    model_id: str


class SaveSampler(msgspec.Struct, frozen=True, eq=False):
    """A snapshot of the adapter alone, to sample from."""

    model_id: str


class LoadState(msgspec.Struct, frozen=True, eq=False):
    """Replace the adapter by ``snapshot``'s, drop pending gradients; the optimizer is loaded or starts anew."""

    model_id: str
    snapshot: Snapshot
    optimizer: bool


class UnloadModel(msgspec.Struct, frozen=True, eq=False):
    """Forget the model."""

    model_id: str


Operation: TypeAlias = CreateModel | ForwardBackward | OptimStep | SaveState | SaveSampler | LoadState | UnloadModel
