"""The base model in torch, used for pretraining only; the package runs it in numpy.

Blocks as in Llama 2 (Touvron et al. 2023): RMSNorm, rotary positions (Su et al. 2021, half-split pairs),
causal multi-head attention, SwiGLU (Shazeer 2020), no biases, embedding tied to the output head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Config", "Model"]


@dataclass(frozen=True)
class Config:
    vocab_size: int = 259
    d_model: int = 96
    n_layers: int = 4
    n_heads: int = 3
    d_ff: int = 256
    rope_theta: float = 1000.0
    norm_eps: float = 1e-5


class Norm(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.weight = nn.Parameter(torch.ones(config.d_model))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        d, f = config.d_model, config.d_ff
        self.n_heads = config.n_heads
        self.attn_norm = Norm(config)
        self.q_proj = nn.Linear(d, d, bias=False)
        self.k_proj = nn.Linear(d, d, bias=False)
        self.v_proj = nn.Linear(d, d, bias=False)
        self.o_proj = nn.Linear(d, d, bias=False)
        self.mlp_norm = Norm(config)
        self.gate_proj = nn.Linear(d, f, bias=False)
        self.up_proj = nn.Linear(d, f, bias=False)
        self.down_proj = nn.Linear(f, d, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, d = x.shape
        h = self.attn_norm(x)
        split = (rows, length, self.n_heads, d // self.n_heads)
        q = rotate(self.q_proj(h).view(split).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(h).view(split).transpose(1, 2), cos, sin)
        v = self.v_proj(h).view(split).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(mixed.transpose(1, 2).reshape(rows, length, d))
        h = self.mlp_norm(x)
        return x + self.down_proj(functional.silu(self.gate_proj(h)) * self.up_proj(h))


class Model(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = Norm(config)
        nn.init.normal_(self.embed.weight, std=config.d_model**-0.5)
        residual = (2 * config.n_layers) ** -0.5
        for name, weight in self.layers.named_parameters():
            if weight.ndim == 2:
                scale = residual if "o_proj" in name or "down_proj" in name else 1.0
                nn.init.normal_(weight, std=scale * weight.shape[1] ** -0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits, shape [rows, length, vocab_size]."""
        config = self.config
        half = config.d_model // config.n_heads // 2
        frequency = config.rope_theta ** (-torch.arange(half) / half)
        angle = torch.arange(tokens.shape[1])[:, None] * frequency[None, :]
        cos, sin = angle.cos(), angle.sin()
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x) @ self.embed.weight.T
