"""Models and data for the engine's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinker_actors.local.engine import TINY, CreateModel, Engine, ForwardBackward, ModelConfig, OptimStep
from tinker_actors.local.engine.adapter import Adapter, Layout, start_values
from tinker_actors.local.engine.base import BaseModel, random_base
from tinker_actors.local.engine.transformer import Weights
from tinker_actors.types import (
    AdamParams,
    Datum,
    LoraConfig,
    ModelInput,
    PromptProvenanceSpan,
    SampledProvenanceSpan,
    TensorData,
)

SMALL = ModelConfig(
    name="small", vocab_size=29, d_model=12, n_layers=2, n_heads=3, d_ff=20, rope_theta=1000.0, norm_eps=1e-5,
    max_context=64, pad_id=0, bos_id=1, eos_id=2,
)  # fmt: skip


def small_base() -> BaseModel:
    """Two layers, three heads: what one layer or one head would hide shows."""
    return random_base(SMALL, 11)


MANY_TARGETS = "cross_entropy with four targets for each position"

CONFIGS: Mapping[str, Mapping[str, float]] = {
    "cross_entropy": {},
    "importance_sampling": {},
    "ppo": {"clip_low_threshold": 0.7, "clip_high_threshold": 1.1},
    "cispo": {"clip_low_threshold": 0.6, "clip_high_threshold": 1.1},
    "dro": {"beta": 0.3},
    "gspo": {"clip_low_threshold": 0.6, "clip_high_threshold": 0.8},
    "stable_reinforce": {"kl_coeff": 0.3},
}
"""A configuration for each loss, under which ``make_datum``'s data are cut at both bounds, and between them."""


def make_datum(length: int, seed: int, *, vocabulary: int = 29, loss_fn: str = "cross_entropy") -> Datum:
    """Random tokens; weights or advantages of both signs, zeros among them."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, vocabulary, length + 1)
    uneven = np.where(rng.random(length) < 0.2, 0.0, rng.normal(size=length)).astype(np.float32)
    inputs = {"target_tokens": TensorData(tokens[1:])}
    if loss_fn == MANY_TARGETS:
        targets = rng.integers(0, vocabulary, (length, 4))
        targets[:, 3] = targets[:, 1]  # one token may be a target twice
        inputs["target_tokens"] = TensorData(targets)
        inputs["weights"] = TensorData(rng.normal(size=(length, 4)).astype(np.float32))
    elif loss_fn == "cross_entropy":
        inputs["weights"] = TensorData(uneven)
    else:
        inputs["advantages"] = TensorData(uneven)
        inputs["logprobs"] = TensorData(rng.uniform(-4.0, -2.0, length).astype(np.float32))
        if loss_fn == "gspo":
            inputs["sequence_ratio_mask"] = TensorData((np.arange(length) >= length // 3).astype(np.float32))
    datum = Datum(model_input=ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)
    if loss_fn != "stable_reinforce":
        return datum
    prompt = max(length // 3, 1)
    return datum.with_provenance(
        model_input=[PromptProvenanceSpan(sequence_id="a", length=length)],
        loss_fn_inputs=[
            PromptProvenanceSpan(sequence_id="a", length=prompt),
            SampledProvenanceSpan(sequence_id="a", length=length - prompt),
        ],
    )


def double(weights: Weights) -> Weights:
    """The weights in float64, for comparisons that float32 is too coarse for."""

    def cast(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return array.astype(np.float64)  # pyright: ignore[reportReturnType]

    layers = tuple(layer._make(map(cast, layer)) for layer in weights.layers)
    return weights._replace(
        cos=cast(weights.cos),
        sin=cast(weights.sin),
        embed=cast(weights.embed),
        norm=cast(weights.norm),
        head=cast(weights.head),
        layers=layers,
    )


def lively_adapter(config: ModelConfig, lora: LoraConfig, dtype: type[np.floating]) -> Adapter:
    """An adapter whose B is not zero, so that every gradient is of some size."""
    layout = Layout(config, lora)
    flat = start_values(layout, 5)
    flat += np.random.default_rng(9).normal(scale=0.1, size=layout.size).astype(np.float32)
    return Adapter(layout, flat.astype(dtype))


def trained(
    engine: Engine, model_id: str = "m", *, steps: int = 3, base: str = TINY, lora: LoraConfig | None = None
) -> str:
    """Create a model and train it a little; its digest."""
    engine.apply(CreateModel(model_id, base, lora or LoraConfig(rank=4, seed=1)))
    data = tiny_data(range(6))
    for _ in range(steps):
        engine.apply(ForwardBackward(model_id, data, "cross_entropy"))
        engine.apply(OptimStep(model_id, AdamParams(learning_rate=1e-2)))
    return engine.digest(model_id)


def tiny_data(seeds: Sequence[int]) -> tuple[Datum, ...]:
    """Data of several lengths (of three paddings) for the tiny model."""
    return tuple(make_datum(3 + (seed * 7) % 20, seed, vocabulary=32) for seed in seeds)
