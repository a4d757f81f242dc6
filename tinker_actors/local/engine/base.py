"""The frozen models that adapters are trained on."""

from __future__ import annotations

import math
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import msgspec
import numpy as np
import safetensors.numpy

from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.local.engine.config import ModelConfig, TextOf
from tinker_actors.local.engine.transformer import Layer, Weights, rotary_tables
from tinker_actors.types.tensor import FloatArray

__all__ = ["BASE_S", "BASE_MODELS", "TINY", "BaseModel", "assemble", "load_base", "random_base", "read_base"]

BASE_S: Final = "tinker-actors/base-s"
TINY: Final = "tinker-actors/tiny"
BASE_MODELS: Final = (BASE_S, TINY)


_TINY_CONFIG: Final = ModelConfig(
    name=TINY, vocab_size=32, d_model=8, n_layers=1, n_heads=2, d_ff=16, rope_theta=1000.0, norm_eps=1e-5,
    max_context=64, pad_id=0, bos_id=1, eos_id=2,
)  # fmt: skip


class BaseModel(msgspec.Struct, frozen=True, eq=False):
    """A frozen model: its configuration and float32 weights.

    ``text_of`` reads its tokens where the packaged tokenizer does not.
    """

    config: ModelConfig
    weights: Weights
    text_of: TextOf | None = None

    @property
    def name(self) -> str:
        """The name that requests use."""
        return self.config.name

    @property
    def eos_id(self) -> int:
        """The end-of-text token."""
        return self.config.eos_id


class _File(msgspec.Struct, frozen=True):
    bytes: int
    sha256: str


class _Manifest(msgspec.Struct, frozen=True):
    name: str
    files: dict[str, _File]


def load_base(name: str) -> BaseModel:
    """Load the base model ``name`` (some milliseconds; the engine keeps what it has loaded).

    Raises InvalidInput for an unknown name, DecodeError when packaged files are not those of the manifest.
    """
    if name == TINY:
        return random_base(_TINY_CONFIG, 20_240_229)
    if name == BASE_S:
        return read_base(files("tinker_actors.local") / "base")
    raise InvalidInput("base_model", f"{name!r} is not known here", f"Use one of {', '.join(BASE_MODELS)}")


def read_base(folder: Traversable) -> BaseModel:
    """The model in ``folder``; DecodeError when a file's sha256 is not that of manifest.json."""
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=_Manifest)
    contents: dict[str, bytes] = {}
    for name, expected in manifest.files.items():
        contents[name] = (folder / name).read_bytes()
        if sha256(contents[name]).hexdigest() != expected.sha256:
            raise DecodeError(f"{name} of {manifest.name} is damaged: its sha256 is not the manifest's. Reinstall")
    config = msgspec.json.decode(contents["config.json"], type=ModelConfig)
    halves = safetensors.numpy.load(contents["model.safetensors"])
    return assemble(config, {key: value.astype(np.float32) for key, value in halves.items()})


def assemble(config: ModelConfig, arrays: dict[str, FloatArray]) -> BaseModel:
    """A model of ``arrays``, named as recipes/base_model/model.py names its parameters."""

    def stack(prefix: str, *names: str) -> FloatArray:
        return np.concatenate([arrays[f"{prefix}.{name}.weight"] for name in names])

    layers: list[Layer] = []
    for index in range(config.n_layers):
        prefix = f"layers.{index}"
        layers.append(
            Layer(
                attn_norm=arrays[f"{prefix}.attn_norm.weight"],
                qkv=stack(prefix, "q_proj", "k_proj", "v_proj"),
                o=arrays[f"{prefix}.o_proj.weight"],
                mlp_norm=arrays[f"{prefix}.mlp_norm.weight"],
                gate_up=stack(prefix, "gate_proj", "up_proj"),
                down=arrays[f"{prefix}.down_proj.weight"],
            )
        )
    cos, sin = rotary_tables(config.max_context, config.d_model, config.n_heads, config.rope_theta)
    embed = arrays["embed.weight"]
    return BaseModel(
        config,
        Weights(
            n_heads=config.n_heads,
            norm_eps=config.norm_eps,
            cos=cos,
            sin=sin,
            embed=embed,
            layers=tuple(layers),
            norm=arrays["norm.weight"],
            head=embed,
        ),
    )


def random_base(config: ModelConfig, seed: int) -> BaseModel:
    """An untrained model of any shape: matrices uniform with a standard deviation of in**-0.5, norms one."""
    bits = np.random.PCG64(seed)

    def matrix(rows: int, columns: int) -> FloatArray:
        # of raw bits, whose stream numpy promises to keep
        unit = (bits.random_raw(rows * columns) >> np.uint64(40)).astype(np.float64) / 2**23 - 1.0
        return (unit * math.sqrt(3 / columns)).astype(np.float32).reshape(rows, columns)

    d, f = config.d_model, config.d_ff
    arrays: dict[str, FloatArray] = {"embed.weight": matrix(config.vocab_size, d)}
    arrays["norm.weight"] = np.ones(d, np.float32)
    shapes = {"q_proj": (d, d), "k_proj": (d, d), "v_proj": (d, d), "o_proj": (d, d)}
    shapes |= {"gate_proj": (f, d), "up_proj": (f, d), "down_proj": (d, f)}
    for index in range(config.n_layers):
        for name, (rows, columns) in shapes.items():
            arrays[f"layers.{index}.{name}.weight"] = matrix(rows, columns)
        for name in ("attn_norm", "mlp_norm"):
            arrays[f"layers.{index}.{name}.weight"] = np.ones(d, np.float32)
    return assemble(config, arrays)
