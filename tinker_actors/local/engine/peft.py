"""An adapter in the files that the PEFT library reads: what leaves the server for use elsewhere."""

from __future__ import annotations

import json
from typing import Final

import numpy as np
import safetensors.numpy

from tinker_actors.local.engine.adapter import ALPHA
from tinker_actors.local.engine.snapshots import Snapshot
from tinker_actors.types.tensor import FloatArray
from tinker_actors.types.training import LoraConfig

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "peft_config", "peft_weights"]

WEIGHTS_FILE: Final = "adapter_model.safetensors"
CONFIG_FILE: Final = "adapter_config.json"

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
_UNEMBED = ("lm_head",)


def peft_weights(snapshot: Snapshot) -> bytes:
    """WEIGHTS_FILE: the adapter's matrices under PEFT's names; equal adapters give equal bytes."""
    tensors: dict[str, FloatArray] = {
        f"base_model.model.{name}.weight": np.ascontiguousarray(snapshot.weights[name])
        for name in sorted(snapshot.weights)
    }
    return safetensors.numpy.save(tensors, {"format": "np"})


def peft_config(base_model: str, lora: LoraConfig) -> bytes:
    """CONFIG_FILE: the adapter's shape. A matrix acts as W + (lora_alpha / r) B A."""
    wanted = ((lora.train_attn, _ATTENTION), (lora.train_mlp, _MLP), (lora.train_unembed, _UNEMBED))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": lora.rank,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [module for chosen, modules in wanted if chosen for module in modules],
        "inference_mode": True,
    }
    return json.dumps(config, indent=2).encode() + b"\n"
