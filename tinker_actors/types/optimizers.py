"""Families of optimizers: AdamW, Dimuon, and whatever a server offers besides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import msgspec

from tinker_actors.checks import integer, number, text
from tinker_actors.errors import InvalidInput

__all__ = [
    "AdamWConfig",
    "DimuonConfig",
    "DimuonParams",
    "OptimizerConfig",
    "OtherOptimizer",
    "optimizer_config",
    "optimizer_fields",
]


class AdamWConfig(msgspec.Struct, frozen=True, kw_only=True, tag="adamw"):
    """A model trained by AdamW; its steps take AdamParams."""


class DimuonConfig(msgspec.Struct, frozen=True, kw_only=True, tag="dimuon"):
    """A model trained by Dimuon; its steps take DimuonParams."""

    version: int = 1

    def __post_init__(self) -> None:
        integer("DimuonConfig.version", self.version, "Use 1", low=1, high=1)


class DimuonParams(msgspec.Struct, frozen=True, kw_only=True, tag="dimuon"):
    """Parameters of one Dimuon step; ``grad_clip_norm`` of 0 or less means no clipping."""

    learning_rate: float
    grad_clip_norm: float = 0.0
    beta1: float = 0.9

    def __post_init__(self) -> None:
        for name, low, high in (
            ("learning_rate", 0.0, math.inf),
            ("grad_clip_norm", -math.inf, math.inf),
            ("beta1", 0.0, 1.0),
        ):
            cure = "Use a finite number" if low == -math.inf else f"Use a finite number in [{low:g}, {high:g})"
            value = number(f"DimuonParams.{name}", getattr(self, name), cure)
            if not math.isfinite(value) or not low <= value < high:
                raise InvalidInput(f"DimuonParams.{name}", f"{value} is out of range", cure)
            msgspec.structs.force_setattr(self, name, value)


class OtherOptimizer(msgspec.Struct, frozen=True, kw_only=True):
    """A family that this client does not know, or parameters of its steps: sent as it is, and kept as it came."""

    type: str
    fields: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        text("OtherOptimizer.type", self.type, "Give the family's name")
        given: Any = self.fields
        if not isinstance(given, Mapping):
            raise InvalidInput("OtherOptimizer.fields", "is not a mapping", "Give a dict of names and values")
        for key in cast("Mapping[Any, Any]", given):
            if text("OtherOptimizer.fields's keys", key, "Give the names that the server knows") == "type":
                raise InvalidInput("OtherOptimizer.fields", "holds 'type'", "Give it by itself")
        msgspec.structs.force_setattr(self, "fields", dict(cast("Mapping[str, Any]", given)))


OptimizerConfig: TypeAlias = AdamWConfig | DimuonConfig | OtherOptimizer


def optimizer_fields(given: OptimizerConfig | DimuonParams) -> dict[str, Any]:
    """``given`` as it goes into a request: an object with a ``type``."""
    if isinstance(given, OtherOptimizer):
        return {"type": given.type, **given.fields}
    fields: dict[str, Any] = msgspec.to_builtins(given)
    return fields


def optimizer_config(fields: Mapping[str, Any] | None) -> OptimizerConfig:
    """The family that a server names: AdamW where it names none. Raises InvalidInput where there is no ``type``."""
    if fields is None:
        return AdamWConfig()
    family: Any = fields.get("type")
    if family == "adamw":
        return AdamWConfig()
    if family == "dimuon" and fields.get("version", 1) == 1:
        return DimuonConfig()
    rest = {key: value for key, value in fields.items() if key != "type"}
    return OtherOptimizer(type=family, fields=rest)
