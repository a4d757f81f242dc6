"""The local server's base model with LoRA in plain PyTorch, to measure the engine against: eager, on the CPU.

As one writes it there: the batch padded to its longest, adapters beside the frozen matrices, autograd, fused scaled
dot-product attention, ``torch.optim.AdamW``; sampling with a cache of keys and values, all prompts side by side.
Only imported where torch is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch.nn import functional

from tinker_actors.local.engine import ALPHA, BaseModel
from tinker_actors.types import Datum, ModelInput

__all__ = ["TorchEngine"]


@final
class TorchEngine:
    """``base`` and one adapter of rank ``rank`` on attention and MLP, whose values are ``start``, by name."""

    def __init__(self, base: BaseModel, rank: int, start: Mapping[str, Any]) -> None:
        weights = base.weights
        self._config = base.config
        self._scale = ALPHA / rank
        self._embed = torch.tensor(weights.embed)
        self._norm = torch.tensor(weights.norm)
        self._layers: list[dict[str, torch.Tensor]] = []
        for layer in weights.layers:
            q, k, v = np.split(layer.qkv, 3)
            gate, up = np.split(layer.gate_up, 2)
            named = {"q_proj": q, "k_proj": k, "v_proj": v, "o_proj": layer.o, "gate_proj": gate, "up_proj": up}
            named |= {"down_proj": layer.down, "attn_norm": layer.attn_norm, "mlp_norm": layer.mlp_norm}
            self._layers.append({name: torch.tensor(np.ascontiguousarray(array)) for name, array in named.items()})
        self._adapter = {name: torch.tensor(np.array(array), requires_grad=True) for name, array in start.items()}
        self._optimizer = torch.optim.AdamW(
            self._adapter.values(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0
        )
        half = base.config.d_model // base.config.n_heads // 2
        frequency = base.config.rope_theta ** (-torch.arange(half) / half)
        angle = torch.arange(base.config.max_context)[:, None] * frequency[None, :]
        self._cos, self._sin = angle.cos(), angle.sin()

    def step(self, data: Sequence[Datum]) -> float:
        """Loss, gradient and one step of AdamW; the loss before it."""
        longest = max(datum.model_input.length for datum in data)
        tokens = torch.zeros(len(data), longest, dtype=torch.int64)
        targets = torch.zeros_like(tokens)
        weights = torch.zeros(len(data), longest)
        for row, datum in enumerate(data):
            size = datum.model_input.length
            tokens[row, :size] = torch.from_numpy(datum.model_input.to_array().astype(np.int64))
            targets[row, :size] = torch.from_numpy(datum.tensor("target_tokens").to_numpy().astype(np.int64))
            weights[row, :size] = torch.from_numpy(np.array(datum.tensor("weights").to_numpy()))
        hidden, _ = self._forward(tokens)
        logits = hidden @ self._embed.T
        losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    @torch.inference_mode()
    def sample(self, prompts: Sequence[ModelInput], count: int) -> list[list[int]]:
        """``count`` greedy tokens after each of ``prompts``, from the base model."""
        lengths = torch.tensor([prompt.length for prompt in prompts])
        longest = int(lengths.max())
        tokens = torch.zeros(len(prompts), longest, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, : prompt.length] = torch.from_numpy(prompt.to_array().astype(np.int64))
        hidden, cache = self._forward(tokens, room=longest + count, adapted=False)
        rows = torch.arange(len(prompts))
        last, positions = hidden[rows, lengths - 1], lengths
        found: list[torch.Tensor] = []
        for _ in range(count):
            found.append((last @ self._embed.T).argmax(-1))
            last = self._next(found[-1], positions, cache)
            positions = positions + 1
        return torch.stack(found, 1).tolist()

    def _linear(self, x: torch.Tensor, index: int, name: str, *, adapted: bool = True) -> torch.Tensor:
        out = functional.linear(x, self._layers[index][name])
        if not adapted:
            return out
        prefix = f"layers.{index}.{name}"
        down = functional.linear(x, self._adapter[f"{prefix}.lora_A"])
        return out + self._scale * functional.linear(down, self._adapter[f"{prefix}.lora_B"])

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (x.shape[-1],), weight, self._config.norm_eps)

    def _forward(
        self, tokens: torch.Tensor, *, room: int | None = None, adapted: bool = True
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        rows, length = tokens.shape
        heads = self._config.n_heads
        cos, sin = self._cos[:length], self._sin[:length]
        x = self._embed[tokens]
        cache: list[tuple[torch.Tensor, torch.Tensor]] = []
        for index, layer in enumerate(self._layers):
            h = self._normed(x, layer["attn_norm"])
            q, k, v = (
                self._linear(h, index, f"{name}_proj", adapted=adapted).view(rows, length, heads, -1).transpose(1, 2)
                for name in "qkv"
            )
            q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
            if room is not None:
                kept = torch.zeros(2, rows, heads, room, q.shape[-1])
                kept[0, :, :, :length], kept[1, :, :, :length] = k, v
                cache.append((kept[0], kept[1]))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self._linear(mixed.transpose(1, 2).reshape(rows, length, -1), index, "o_proj", adapted=adapted)
            x = x + self._mlp(self._normed(x, layer["mlp_norm"]), index, adapted=adapted)
        return self._normed(x, self._norm), cache

    def _mlp(self, h: torch.Tensor, index: int, *, adapted: bool) -> torch.Tensor:
        gate = self._linear(h, index, "gate_proj", adapted=adapted)
        up = self._linear(h, index, "up_proj", adapted=adapted)
        return self._linear(functional.silu(gate) * up, index, "down_proj", adapted=adapted)

    def _next(
        self, tokens: torch.Tensor, positions: torch.Tensor, cache: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> torch.Tensor:
        rows, heads = tokens.shape[0], self._config.n_heads
        cos, sin = self._cos[positions][:, None, None], self._sin[positions][:, None, None]
        span = int(positions.max()) + 1
        seen = (torch.arange(span)[None, :] <= positions[:, None])[:, None, None, :]
        every = torch.arange(rows)
        x = self._embed[tokens][:, None]
        for index, layer in enumerate(self._layers):
            h = self._normed(x, layer["attn_norm"])
            q, k, v = (
                self._linear(h, index, f"{name}_proj", adapted=False).view(rows, 1, heads, -1).transpose(1, 2)
                for name in "qkv"
            )
            q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
            keys, values = cache[index]
            keys[every, :, positions], values[every, :, positions] = k[:, :, 0], v[:, :, 0]
            mixed = functional.scaled_dot_product_attention(q, keys[:, :, :span], values[:, :, :span], attn_mask=seen)
            x = x + self._linear(mixed.transpose(1, 2).reshape(rows, 1, -1), index, "o_proj", adapted=False)
            x = x + self._mlp(self._normed(x, layer["mlp_norm"]), index, adapted=False)
        return self._normed(x, self._norm)[:, 0]


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
