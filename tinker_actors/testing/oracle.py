"""What a program should have done: the same list applied to the engine alone, without client, network or server."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

import msgspec
import numpy as np

from tinker_actors.local.engine import CreateModel, Engine, SaveSampler, Snapshot
from tinker_actors.local.engine import ForwardBackward as ApplyForwardBackward
from tinker_actors.local.engine import LoadState as ApplyLoadState
from tinker_actors.local.engine import OptimStep as ApplyOptimStep
from tinker_actors.local.engine import SaveState as ApplySaveState
from tinker_actors.testing.operations import (
    ADAPTER_SEED,
    BASE_MODEL,
    PROMPT,
    RANK,
    Await,
    CustomLoss,
    ForwardBackward,
    LoadState,
    OptimStep,
    Program,
    ProgramResults,
    Sample,
    SaveState,
    SaveWeightsForSampler,
    data_of,
    plain,
    sampling_params,
    squared_logprobs,
)
from tinker_actors.types import AdamParams, Datum, LoraConfig, SampleRequest

__all__ = ["Expected", "expected"]

_MODEL = "oracle"


@final
class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The digest of the weights at the end, and what each operation gives."""

    digest: str
    results: ProgramResults


def expected(program: Program, *, without: Collection[int] = ()) -> Expected:
    """Apply ``program`` to a fresh engine, leaving out the steps at the places ``without``."""
    engine = Engine()
    engine.apply(CreateModel(_MODEL, BASE_MODEL, LoraConfig(rank=RANK, seed=ADAPTER_SEED)))
    results = ProgramResults(losses={}, samples={})
    saved: dict[int, Snapshot] = {}
    for place, step in enumerate(program.steps):
        if place in without:
            continue
        match step:
            case ForwardBackward():
                operation = ApplyForwardBackward(
                    _MODEL, tuple(data_of(step)), step.loss_fn, {}, forward_only=step.forward_only
                )
                results.losses[place] = engine.apply(operation).metrics["loss:sum"]
            case CustomLoss():
                results.losses[place] = _custom_loss(engine, step)
            case OptimStep():
                engine.apply(ApplyOptimStep(_MODEL, AdamParams(learning_rate=step.learning_rate)))
            case SaveState():
                saved[place] = engine.apply(ApplySaveState(_MODEL))
            case LoadState(place=of, optimizer=optimizer):
                engine.apply(ApplyLoadState(_MODEL, saved[of], optimizer))
            case Sample():
                snapshot = engine.apply(SaveSampler(_MODEL))
                request = SampleRequest(prompt=PROMPT, sampling_params=sampling_params(step))
                results.samples[place] = plain(engine.sample(BASE_MODEL, snapshot, request))
            case SaveWeightsForSampler() | Await():
                pass
    return Expected(digest=engine.digest(_MODEL), results=results)


def _custom_loss(engine: Engine, step: CustomLoss) -> float:
    """Its loss; the gradients are gathered by a cross-entropy whose weights are minus the loss's own (WIRE 9.1)."""
    data = data_of(step)
    forward = engine.apply(ApplyForwardBackward(_MODEL, tuple(data), "cross_entropy", {}, forward_only=True))
    logprobs = [record["logprobs"].data for record in forward.loss_fn_outputs]
    loss, gradients = squared_logprobs(data, logprobs)
    weighted = tuple(
        Datum(
            each.model_input,
            {
                "target_tokens": each.loss_fn_inputs["target_tokens"],
                "weights": (-gradient).astype(np.float32),
            },
        )
        for each, gradient in zip(data, gradients, strict=True)
    )
    engine.apply(ApplyForwardBackward(_MODEL, weighted, "cross_entropy", {}))
    return loss
