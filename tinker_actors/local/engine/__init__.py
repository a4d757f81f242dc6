"""The engine of the local server: a small language model with LoRA, trained and sampled in numpy."""

from tinker_actors.local.engine.adapter import ALPHA, MAX_RANK
from tinker_actors.local.engine.base import BASE_MODELS, BASE_S, TINY, BaseModel, load_base, random_base
from tinker_actors.local.engine.config import ModelConfig
from tinker_actors.local.engine.engine import Engine, cost
from tinker_actors.local.engine.operations import (
    CreateModel,
    ForwardBackward,
    LoadState,
    Operation,
    OptimStep,
    SaveSampler,
    SaveState,
    UnloadModel,
)
from tinker_actors.local.engine.snapshots import (
    OptimizerState,
    Snapshot,
    snapshot_from_safetensors,
    snapshot_to_safetensors,
)
from tinker_actors.local.engine.states import ModelState, state_from_bytes, state_to_bytes

__all__ = [
    "ALPHA",
    "BASE_MODELS",
    "BASE_S",
    "BaseModel",
    "cost",
    "CreateModel",
    "Engine",
    "ForwardBackward",
    "load_base",
    "LoadState",
    "MAX_RANK",
    "ModelConfig",
    "ModelState",
    "Operation",
    "OptimizerState",
    "OptimStep",
    "random_base",
    "SaveSampler",
    "SaveState",
    "Snapshot",
    "state_from_bytes",
    "state_to_bytes",
    "snapshot_from_safetensors",
    "snapshot_to_safetensors",
    "TINY",
    "UnloadModel",
]
