"""A LoRA adapter: low-rank changes of a frozen model's matrices (Hu et al. 2021), in one flat array.

A matrix W [out, in] acts as ``W + (ALPHA / rank) * B A`` with A [rank, in] and B [out, rank]. ``train_attn`` covers
q, k, v and o, ``train_mlp`` gate, up and down, ``train_unembed`` the output head (``lm_head``; the embedding that
it is tied to stays as it is where tokens are read).
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec
import numpy as np

from tinker_actors.local.engine.config import ModelConfig
from tinker_actors.types.tensor import FloatArray
from tinker_actors.types.training import LoraConfig

__all__ = ["ALPHA", "MAX_RANK", "Adapter", "Layout", "start_values"]

ALPHA: Final = 32.0
MAX_RANK: Final = 128


class Segment(msgspec.Struct, frozen=True):
    """Where one parameter lies in the flat array."""

    name: str
    offset: int
    rows: int
    columns: int


class Layout:
    """The order of an adapter's parameters. The A matrices of modules with one input lie next to each other."""

    def __init__(self, config: ModelConfig, lora: LoraConfig) -> None:
        segments: list[Segment] = []
        d, f, rank = config.d_model, config.d_ff, lora.rank
        size = 0

        def add(columns: int, *modules: tuple[str, int]) -> None:
            nonlocal size
            for name, _ in modules:
                segments.append(Segment(f"{name}.lora_A", size, rank, columns))
                size += rank * columns
            for name, rows in modules:
                segments.append(Segment(f"{name}.lora_B", size, rows, rank))
                size += rows * rank

        for index in range(config.n_layers):
            prefix = f"layers.{index}"
            if lora.train_attn:
                add(d, (f"{prefix}.q_proj", d), (f"{prefix}.k_proj", d), (f"{prefix}.v_proj", d))
                add(d, (f"{prefix}.o_proj", d))
            if lora.train_mlp:
                add(d, (f"{prefix}.gate_proj", f), (f"{prefix}.up_proj", f))
                add(f, (f"{prefix}.down_proj", d))
        if lora.train_unembed:
            add(d, ("lm_head", config.vocab_size))
        self.lora: LoraConfig = lora
        self.size: int = size
        self.segments: tuple[Segment, ...] = tuple(segments)
        self._by_name = {segment.name: segment for segment in segments}

    def view(self, flat: FloatArray, name: str, stacked: int = 1) -> FloatArray:
        """The parameter ``name`` of ``flat`` [..., size], with the ``stacked - 1`` that follow it below it."""
        segment = self._by_name[name]
        rows = segment.rows * stacked
        cut = flat[..., segment.offset : segment.offset + rows * segment.columns]
        return cut.reshape(*flat.shape[:-1], rows, segment.columns)

    def split(self, flat: FloatArray) -> dict[str, FloatArray]:
        """Read-only copies of all parameters of ``flat`` [size], by name."""
        result: dict[str, FloatArray] = {}
        for segment in self.segments:
            array = self.view(flat, segment.name).copy()
            array.flags.writeable = False
            result[segment.name] = array
        return result


def start_values(layout: Layout, seed: int | str) -> FloatArray:
    """An adapter's start: A uniform in +-1/sqrt(in), B zero. ``seed`` fixes it on every machine."""
    flat = np.zeros(layout.size, np.float32)
    # raw bits of a generator whose stream numpy promises to keep
    bits = np.random.PCG64(int.from_bytes(sha256(str(seed).encode()).digest()[:16], "little"))
    for segment in layout.segments:
        if segment.name.endswith(".lora_A"):
            raw = bits.random_raw(segment.rows * segment.columns) >> np.uint64(40)
            unit = raw.astype(np.float64) / 2**23 - 1.0
            stop = segment.offset + segment.rows * segment.columns
            flat[segment.offset : stop] = (unit * segment.columns**-0.5).astype(np.float32)
    return flat


class Adapter:
    """The parameters ``flat`` in ``layout``; methods work on the caller's arrays."""

    def __init__(self, layout: Layout, flat: FloatArray) -> None:
        self.layout = layout
        self.flat = flat
        self.lora = layout.lora
        self.scale: float = ALPHA / layout.lora.rank

    def added(self, matrix: FloatArray, *modules: str) -> FloatArray:
        """``matrix`` plus the modules' scaled products B A, stacked along the rows."""
        result = matrix.copy()
        start = 0
        for module in modules:
            b = self.layout.view(self.flat, f"{module}.lora_B")
            a = self.layout.view(self.flat, f"{module}.lora_A")
            product = np.matmul(b, a)
            product *= self.scale
            result[start : start + product.shape[0]] += product
            start += product.shape[0]
        return result

    def module_gradient(
        self, gradients: FloatArray, x: FloatArray, d_outputs: tuple[FloatArray, ...], *modules: str
    ) -> None:
        """Write the gradients of ``modules``, which all read ``x`` [n, length, in], into ``gradients`` [n, size].

        ``d_outputs`` are the loss's gradients by each module's output, [n, length, out].
        """
        layout, rank = self.layout, self.lora.rank
        a = layout.view(self.flat, f"{modules[0]}.lora_A", len(modules))
        down = np.matmul(x, a.T)
        down *= self.scale
        up = np.empty_like(down)
        for index, (module, d_output) in enumerate(zip(modules, d_outputs, strict=True)):
            cut = slice(index * rank, (index + 1) * rank)
            np.matmul(d_output, layout.view(self.flat, f"{module}.lora_B"), out=up[..., cut])
            target = layout.view(gradients, f"{module}.lora_B")
            np.matmul(d_output.transpose(0, 2, 1), down[..., cut], out=target)
        up *= self.scale
        target = layout.view(gradients, f"{modules[0]}.lora_A", len(modules))
        np.matmul(up.transpose(0, 2, 1), x, out=target)
