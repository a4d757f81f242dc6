"""The decoder-only transformer in numpy: forward, and backward down to the adapter's gradients.

Blocks as in Llama 2 (Touvron et al. 2023): RMSNorm, rotary positions (Su et al. 2021, half-split pairs), causal
multi-head attention, SwiGLU (Shazeer 2020), no biases, head tied to the embedding. The same model in torch is
recipes/base_model/model.py.

Bits. Every matrix product here is a stack of products, one for each sequence, of shapes that depend on nothing
but that sequence's padded length. BLAS gives a row other last bits in another place of one larger product (its
kernels differ at block edges); so no product ever spans two sequences, and everything else works element by
element or along a row. Hence a sequence's result never depends on its neighbours, their number or its place.
Computations follow the weights' dtype: float32 in use, float64 where tests compare with finite differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from tinker_actors.local.engine.adapter import Adapter
from tinker_actors.types.tensor import FloatArray, IntArray

__all__ = [
    "BUCKETS",
    "Cache",
    "Layer",
    "Tape",
    "Weights",
    "backward",
    "bucket",
    "decode",
    "forward",
    "merge",
    "rotary_tables",
]

BUCKETS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256)
"""The lengths that sequences are padded to, so that equal lengths can share numpy calls."""


def bucket(length: int) -> int:
    """The padded length of a sequence of ``length`` tokens."""
    for size in BUCKETS:
        if length <= size:
            return size
    return -(-length // 64) * 64


class Layer(NamedTuple):
    """One block's weights, matrices as [out, in]; q, k, v and gate, up are stacked along out."""

    attn_norm: FloatArray
    qkv: FloatArray
    o: FloatArray
    mlp_norm: FloatArray
    gate_up: FloatArray
    down: FloatArray


class Weights(NamedTuple):
    """A whole model's weights, an adapter merged in or not. ``cos`` and ``sin`` are of ``rotary_tables``."""

    n_heads: int
    norm_eps: float
    cos: FloatArray
    sin: FloatArray
    embed: FloatArray
    layers: tuple[Layer, ...]
    norm: FloatArray
    head: FloatArray


@np.errstate(over="ignore", invalid="ignore")  # the loss, then, is not finite, and that is refused by name
def merge(base: Weights, adapter: Adapter) -> Weights:
    """``base`` with ``W + scale * B A`` in place of each matrix W that ``adapter`` changes."""
    layers: list[Layer] = []
    for index, layer in enumerate(base.layers):
        prefix = f"layers.{index}"
        if adapter.lora.train_attn:
            layer = layer._replace(  # noqa: PLW2901
                qkv=adapter.added(layer.qkv, *(f"{prefix}.{name}_proj" for name in "qkv")),
                o=adapter.added(layer.o, f"{prefix}.o_proj"),
            )
        if adapter.lora.train_mlp:
            layer = layer._replace(  # noqa: PLW2901
                gate_up=adapter.added(layer.gate_up, f"{prefix}.gate_proj", f"{prefix}.up_proj"),
                down=adapter.added(layer.down, f"{prefix}.down_proj"),
            )
        layers.append(layer)
    head = adapter.added(base.head, "lm_head") if adapter.lora.train_unembed else base.head
    return base._replace(layers=tuple(layers), head=head)


@dataclass(slots=True)
class _LayerTape:
    """What backward needs of one block; [n, length, ...] or, in attention, [n, heads, length, ...]."""

    normed: FloatArray
    attn_inverse: FloatArray
    attn_input: FloatArray
    q: FloatArray
    k: FloatArray
    v: FloatArray
    attention: FloatArray
    mixed: FloatArray
    mixed_flat: FloatArray
    mlp_normed: FloatArray
    mlp_inverse: FloatArray
    mlp_input: FloatArray
    gate_up: FloatArray
    sigmoid: FloatArray
    swish: FloatArray
    product: FloatArray


@dataclass(slots=True)
class Tape:
    """A forward pass: ``hidden`` is the head's input, [n, length, d_model]."""

    hidden: FloatArray
    normed: FloatArray
    inverse: FloatArray
    layers: list[_LayerTape]

    def keys_and_values(self, length: int, row: int = 0) -> list[tuple[FloatArray, FloatArray]]:
        """Copies of those of one sequence's first positions: of each layer, [head, position, head size]."""
        return [(layer.k[row, :, :length].copy(), layer.v[row, :, :length].copy()) for layer in self.layers]


def _norm(x: FloatArray, weight: FloatArray, eps: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """RMSNorm: the result, x without the weight, and 1 / rms."""
    inverse = np.add.reduce(x * x, axis=-1, keepdims=True)
    inverse *= 1.0 / x.shape[-1]
    inverse += eps
    np.sqrt(inverse, out=inverse)
    np.divide(1.0, inverse, out=inverse)
    normed = x * inverse
    return normed * weight, normed, inverse


def _norm_backward(grad: FloatArray, weight: FloatArray, normed: FloatArray, inverse: FloatArray) -> FloatArray:
    grad = grad * weight
    shared = np.add.reduce(grad * normed, axis=-1, keepdims=True)
    shared *= 1.0 / grad.shape[-1]
    grad -= normed * shared
    grad *= inverse
    return grad


def rotary_tables(max_context: int, d_model: int, n_heads: int, theta: float) -> tuple[FloatArray, FloatArray]:
    """What ``_rotate`` multiplies q and k with, [max_context, 2 * d_model] each, in float32.

    As wide as q and k together, since numpy is slow at short rows. Attention's 1 / sqrt(head size) is in q's half;
    the sine's sign is that of the place that it lands in.
    """
    half = d_model // n_heads // 2
    frequency = theta ** (-np.arange(half) / half)
    angle = np.arange(max_context)[:, None] * frequency[None, :]
    cos, sin = np.cos(angle), np.sin(angle)
    one_head_cos, one_head_sin = np.concatenate((cos, cos), axis=1), np.concatenate((-sin, sin), axis=1)
    scale = np.repeat(((2 * half) ** -0.5, 1.0), d_model)
    return (
        (np.tile(one_head_cos, 2 * n_heads) * scale).astype(np.float32),
        (np.tile(one_head_sin, 2 * n_heads) * scale).astype(np.float32),
    )


def _rotate(x: FloatArray, cos: FloatArray, sin: FloatArray, half: int) -> FloatArray:
    """Rotate the half-split pairs of each head in ``x`` [n, length, 2 * d_model]; with ``-sin``, backwards."""
    n, length, width = x.shape
    swapped = np.ascontiguousarray(x.reshape(n, length, -1, 2, half)[:, :, :, ::-1]).reshape(n, length, width)
    swapped *= sin
    swapped += x * cos
    return swapped


def _causal(length: int, dtype: np.dtype[np.float32]) -> FloatArray:
    return np.triu(np.full((length, length), -np.inf, dtype), 1)


def forward(weights: Weights, tokens: IntArray) -> Tape:
    """Run ``tokens`` [n, length]; padding belongs at the end, where causal attention never looks."""
    n, length = tokens.shape
    heads, d = weights.n_heads, weights.embed.shape[1]
    size, half = d // heads, d // heads // 2
    cos, sin = weights.cos[:length], weights.sin[:length]
    mask = _causal(length, weights.embed.dtype)
    x = weights.embed[tokens]
    layers: list[_LayerTape] = []
    for layer in weights.layers:
        attn_input, normed, attn_inverse = _norm(x, layer.attn_norm, weights.norm_eps)
        qkv = np.matmul(attn_input, layer.qkv.T)
        qk = _rotate(qkv[..., : 2 * d], cos, sin, half).reshape(n, length, 2, heads, size)
        q, k = np.ascontiguousarray(qk.transpose(2, 0, 3, 1, 4))
        v = np.ascontiguousarray(qkv[..., 2 * d :].reshape(n, length, heads, size).transpose(0, 2, 1, 3))
        attention = np.matmul(q, k.transpose(0, 1, 3, 2))
        attention += mask
        _softmax(attention)
        mixed = np.matmul(attention, v)
        mixed_flat = mixed.transpose(0, 2, 1, 3).reshape(n, length, d)
        x = x + np.matmul(mixed_flat, layer.o.T)
        mlp_input, mlp_normed, mlp_inverse = _norm(x, layer.mlp_norm, weights.norm_eps)
        gate_up = np.matmul(mlp_input, layer.gate_up.T)
        width = gate_up.shape[-1] // 2
        sigmoid = _sigmoid(gate_up[..., :width])
        swish = gate_up[..., :width] * sigmoid
        product = swish * gate_up[..., width:]
        x = x + np.matmul(product, layer.down.T)
        layers.append(
            _LayerTape(
                normed, attn_inverse, attn_input, q, k, v, attention, mixed, mixed_flat,
                mlp_normed, mlp_inverse, mlp_input, gate_up, sigmoid, swish, product,
            )
        )  # fmt: skip
    hidden, normed, inverse = _norm(x, weights.norm, weights.norm_eps)
    return Tape(hidden, normed, inverse, layers)


def _softmax(scores: FloatArray) -> None:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= np.add.reduce(scores, axis=-1, keepdims=True)


def _sigmoid(x: FloatArray) -> FloatArray:
    out = np.negative(x)
    with np.errstate(over="ignore"):  # exp of a large number is inf, and 1 / inf is the right 0
        np.exp(out, out=out)
    out += 1.0
    np.divide(1.0, out, out=out)
    return out


def backward(weights: Weights, adapter: Adapter, tape: Tape, d_hidden: FloatArray, gradients: FloatArray) -> None:
    """Write the loss's gradient by each parameter of the blocks into ``gradients`` [n, adapter size], per sequence.

    ``weights`` are the merged ones that ``tape`` was made with; ``d_hidden`` is the loss's gradient by
    ``tape.hidden``, and is used up.
    """
    lora = adapter.lora
    if not (lora.train_attn or lora.train_mlp):
        return
    n, length, d = tape.hidden.shape
    heads = weights.n_heads
    half = d // heads // 2
    cos, backwards = weights.cos[:length], -weights.sin[:length]
    dx = _norm_backward(d_hidden, weights.norm, tape.normed, tape.inverse)
    for index in reversed(range(len(weights.layers))):
        layer, kept, prefix = weights.layers[index], tape.layers[index], f"layers.{index}"
        # SwiGLU
        if lora.train_mlp:
            adapter.module_gradient(gradients, kept.product, (dx,), f"{prefix}.down_proj")
        if index == 0 and not lora.train_attn and not lora.train_mlp:
            return
        d_product = np.matmul(dx, layer.down)
        width = d_product.shape[-1]
        d_gate_up = np.empty_like(kept.gate_up)
        np.multiply(d_product, kept.swish, out=d_gate_up[..., width:])
        slope = 1.0 - kept.sigmoid
        slope *= kept.swish
        slope += kept.sigmoid  # d swish / d gate
        d_product *= kept.gate_up[..., width:]
        np.multiply(d_product, slope, out=d_gate_up[..., :width])
        if lora.train_mlp:
            adapter.module_gradient(
                gradients,
                kept.mlp_input,
                (d_gate_up[..., :width], d_gate_up[..., width:]),
                f"{prefix}.gate_proj",
                f"{prefix}.up_proj",
            )
            if index == 0 and not lora.train_attn:
                return
        dx += _norm_backward(np.matmul(d_gate_up, layer.gate_up), layer.mlp_norm, kept.mlp_normed, kept.mlp_inverse)
        # attention
        if lora.train_attn:
            adapter.module_gradient(gradients, kept.mixed_flat, (dx,), f"{prefix}.o_proj")
        d_mixed = np.ascontiguousarray(np.matmul(dx, layer.o).reshape(n, length, heads, -1).transpose(0, 2, 1, 3))
        d_v = np.matmul(kept.attention.transpose(0, 1, 3, 2), d_mixed)
        d_scores = np.matmul(d_mixed, kept.v.transpose(0, 1, 3, 2))
        d_scores -= np.add.reduce(d_mixed * kept.mixed, axis=-1, keepdims=True)
        d_scores *= kept.attention
        d_qkv = np.empty((n, length, 3, heads, 2 * half), dx.dtype)
        d_qkv[:, :, 0] = np.matmul(d_scores, kept.k).transpose(0, 2, 1, 3)
        d_qkv[:, :, 1] = np.matmul(d_scores.transpose(0, 1, 3, 2), kept.q).transpose(0, 2, 1, 3)
        d_qkv[:, :, 2] = d_v.transpose(0, 2, 1, 3)
        flat = d_qkv.reshape(n, length, 3 * d)
        flat[..., : 2 * d] = _rotate(flat[..., : 2 * d], cos, backwards, half)
        if lora.train_attn:
            grads = (flat[..., :d], flat[..., d : 2 * d], flat[..., 2 * d :])
            names = (f"{prefix}.{name}_proj" for name in "qkv")
            adapter.module_gradient(gradients, kept.attn_input, grads, *names)
        if index > 0:
            dx += _norm_backward(np.matmul(flat, layer.qkv), layer.attn_norm, kept.normed, kept.attn_inverse)


class Cache:
    """Keys and values of up to ``slots`` sequences: [layer, k or v, slot, head, position, head size]."""

    def __init__(self, weights: Weights, slots: int) -> None:
        heads = weights.n_heads
        size = weights.embed.shape[1] // heads
        shape = (len(weights.layers), 2, slots, heads, weights.cos.shape[0], size)
        self.array: FloatArray = np.zeros(shape, weights.embed.dtype)

    def fill(self, slot: int, keys_and_values: Sequence[tuple[FloatArray, FloatArray]]) -> None:
        """Put those of a prompt into ``slot``."""
        for index, (keys, values) in enumerate(keys_and_values):
            length = keys.shape[1]
            self.array[index, 0, slot, :, :length] = keys
            self.array[index, 1, slot, :, :length] = values

    def move(self, source: int, target: int) -> None:
        """Copy one slot over another."""
        self.array[:, :, target] = self.array[:, :, source]


def decode(weights: Weights, cache: Cache, tokens: IntArray, positions: IntArray) -> FloatArray:
    """Run one token for each of the first n slots at its own position; return the head's input [n, 1, d_model]."""
    n = tokens.size
    heads, d = weights.n_heads, weights.embed.shape[1]
    size, half = d // heads, d // heads // 2
    cos, sin = weights.cos[positions][:, None, :], weights.sin[positions][:, None, :]
    spans: list[tuple[slice, int]] = []
    first = 0
    for length, alike in groupby(bucket(position + 1) for position in positions.tolist()):
        last = first + sum(1 for _ in alike)
        spans.append((slice(first, last), length))
        first = last
    masks: list[FloatArray] = []
    for slots, length in spans:
        hidden = np.arange(length)[None, :] > positions[slots, None]
        masks.append(np.where(hidden, -np.inf, 0.0).astype(weights.embed.dtype)[:, None, None, :])
    rows = np.arange(n)
    x = weights.embed[tokens][:, None, :]
    for index, layer in enumerate(weights.layers):
        keys, values = cache.array[index]
        h = _norm(x, layer.attn_norm, weights.norm_eps)[0]
        qkv = np.matmul(h, layer.qkv.T)
        qk = _rotate(qkv[..., : 2 * d], cos, sin, half).reshape(n, 2, heads, 1, size)
        keys[rows, :, positions] = qk[:, 1, :, 0]
        values[rows, :, positions] = qkv[:, 0, 2 * d :].reshape(n, heads, size)
        mixed = np.empty((n, heads, 1, size), x.dtype)
        for (slots, length), mask in zip(spans, masks, strict=True):
            scores = np.matmul(qk[slots, 0], keys[slots, :, :length].transpose(0, 1, 3, 2))
            scores += mask
            _softmax(scores)
            mixed[slots] = np.matmul(scores, values[slots, :, :length])
        x = x + np.matmul(mixed.reshape(n, 1, d), layer.o.T)
        h = _norm(x, layer.mlp_norm, weights.norm_eps)[0]
        gate_up = np.matmul(h, layer.gate_up.T)
        width = gate_up.shape[-1] // 2
        product = gate_up[..., :width] * _sigmoid(gate_up[..., :width])
        product *= gate_up[..., width:]
        x = x + np.matmul(product, layer.down.T)
    return _norm(x, weights.norm, weights.norm_eps)[0]
