"""The engine's transformer with its adapter, in torch: what it computes and its gradients, by another hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinker_actors.local.engine.base import BaseModel
from tinker_actors.types import Datum, FloatArray

__all__ = ["torch_logprobs"]


def torch_logprobs(
    torch: Any, base: BaseModel, parameters: Mapping[str, FloatArray], scale: float
) -> tuple[dict[str, Any], Callable[[Datum], Any]]:
    """The adapter's ``parameters`` as leaves of torch by name, and what gives a datum's log-probabilities of them."""
    folder = str(Path(__file__).parents[3] / "recipes" / "base_model")
    sys.path.insert(0, folder)
    try:
        from model import Config, Model
    finally:
        sys.path.remove(folder)
    c = base.config
    model = Model(Config(c.vocab_size, c.d_model, c.n_layers, c.n_heads, c.d_ff, c.rope_theta, c.norm_eps))
    values = {"embed.weight": base.weights.embed, "norm.weight": base.weights.norm}
    for index, layer in enumerate(base.weights.layers):
        q, k, v = np.split(layer.qkv, 3)
        gate, up = np.split(layer.gate_up, 2)
        named = {"attn_norm": layer.attn_norm, "mlp_norm": layer.mlp_norm, "o_proj": layer.o, "down_proj": layer.down}
        named |= {"q_proj": q, "k_proj": k, "v_proj": v, "gate_proj": gate, "up_proj": up}
        values |= {f"layers.{index}.{name}.weight": array for name, array in named.items()}
    fixed = {name: torch.tensor(array) for name, array in values.items()}
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in parameters.items()}
    kept: dict[str, Any] = {}
    model.norm.register_forward_hook(lambda _module, _inputs, output: kept.__setitem__("hidden", output))

    def change(module: str) -> Any:
        return scale * (leaves[f"{module}.lora_B"] @ leaves[f"{module}.lora_A"])

    def logprobs(datum: Datum) -> Any:
        merged = dict(fixed)
        for name, value in fixed.items():
            module = name.removesuffix(".weight")
            if f"{module}.lora_A" in leaves:
                merged[name] = value + change(module)
        head = fixed["embed.weight"] + change("lm_head")
        torch.func.functional_call(model, merged, (torch.tensor(datum.model_input.to_ints())[None],))
        logits = kept["hidden"] @ head.T  # the model's own head is tied and knows no adapter
        targets = torch.tensor(datum.tensor("target_tokens").to_numpy().copy())
        return torch.log_softmax(logits[0], -1)[torch.arange(len(targets)), targets]

    return leaves, logprobs
