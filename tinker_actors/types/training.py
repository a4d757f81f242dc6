"""Parameters and results of training operations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from tinker_actors.checks import flag, integer, number
from tinker_actors.errors import InvalidInput
from tinker_actors.types.futures import Id
from tinker_actors.types.tensor import TensorData

__all__ = [
    "LOSS_FNS",
    "AdamParams",
    "CreateModelResponse",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "LoadWeightsResponse",
    "LoraConfig",
    "LossFn",
    "ModelData",
    "OptimStepResponse",
    "SaveWeightsForSamplerResponse",
    "SaveWeightsResponse",
    "UnloadModelResponse",
    "WeightsInfoResponse",
]

LossFn: TypeAlias = Literal[
    "cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo", "stable_reinforce", "custom"
]
LOSS_FNS: tuple[str, ...] = (
    "cross_entropy",
    "importance_sampling",
    "ppo",
    "cispo",
    "dro",
    "gspo",
    "stable_reinforce",
    "custom",
)


class LoraConfig(msgspec.Struct, frozen=True):
    """The shape of a LoRA adapter. ``seed`` fixes its random start; without one the client draws it."""

    rank: int = 32
    seed: int | None = None
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True

    def __post_init__(self) -> None:
        keep = msgspec.structs.force_setattr
        keep(self, "rank", integer("rank", self.rank, "Use a rank of at least 1, such as 32", low=1))
        if self.seed is not None:
            keep(self, "seed", integer("seed", self.seed, "Use an integer of 64 bits, or None"))
        for name in ("train_unembed", "train_mlp", "train_attn"):
            flag(name, getattr(self, name))
        if not (self.train_unembed or self.train_mlp or self.train_attn):
            raise InvalidInput("train_*", "all are False", "Let at least one part of the model be trained")


class AdamParams(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of one AdamW step; ``weight_decay`` is decoupled, ``grad_clip_norm`` 0 means no clipping."""

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("learning_rate", 0.0, math.inf),
            ("beta1", 0.0, 1.0),
            ("beta2", 0.0, 1.0),
            ("eps", 0.0, math.inf),
            ("weight_decay", 0.0, math.inf),
            ("grad_clip_norm", 0.0, math.inf),
        ):
            value = number(name, getattr(self, name), f"Use a number from {low:g}")
            if not math.isfinite(value):
                raise InvalidInput(name, f"{value} is not finite", f"Use a number from {low:g}")
            if value < low or (high == 1.0 and value >= 1.0):
                raise InvalidInput(name, f"{value} is out of range", f"Use a number in [{low:g}, {high:g})")
            msgspec.structs.force_setattr(self, name, value)


class CreateModelResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A model was created."""

    model_id: Id


class ForwardBackwardOutput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of forward or forward_backward.

    ``loss_fn_outputs`` has one record for each datum, in order, at least with ``logprobs`` (float32, the
    shape of ``target_tokens``). ``metrics`` has keys "name:reduction"; ``loss:sum`` is the summed loss.
    ``unreduced`` names the metrics of a batch sent in several chunks whose reduction is unknown here: each has the
    first chunk's value, which does not speak for the others.
    """

    loss_fn_output_type: str
    loss_fn_outputs: tuple[Mapping[str, TensorData], ...]
    metrics: Mapping[str, float]
    unreduced: tuple[str, ...] = ()


class OptimStepResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The result of optim_step; ``metrics`` is None where the server reports none."""

    metrics: Mapping[str, float] | None = None


class SaveWeightsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Where a training checkpoint was saved: tinker://<run>/weights/<name>."""

    path: str


class SaveWeightsForSamplerResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Where sampler weights went: a path when they were named, a sampling session when ephemeral."""

    path: str | None = None
    sampling_session_id: str | None = None


class UnloadModelResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A model's memory was given back (servers up to SDK 0.25)."""

    model_id: str


class LoadWeightsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The result of load_state."""

    path: str | None = None
    model_id: str | None = None


class ModelData(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of a model's base; the local server adds ``vocab_size``."""

    arch: str | None = None
    model_name: str | None = None
    tokenizer_id: str | None = None
    vocab_size: int | None = None


class GetInfoResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of one model."""

    model_id: str
    model_data: ModelData
    is_lora: bool | None = None
    lora_rank: int | None = None
    model_name: str | None = None
    optimizer_config: Mapping[str, Any] | None = None

    @property
    def tokenizer_id(self) -> str | None:
        """The tokenizer's name without the revision that may follow after a colon."""
        name = self.model_data.tokenizer_id
        return None if name is None else name.partition(":")[0]


class WeightsInfoResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of a saved checkpoint: how the model that it came from was made."""

    base_model: str
    is_lora: bool
    lora_rank: int | None = None
    train_unembed: bool | None = None
    train_mlp: bool | None = None
    train_attn: bool | None = None
    optimizer_config: Mapping[str, Any] | None = None
