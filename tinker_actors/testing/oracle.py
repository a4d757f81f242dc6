"""What a program should have done: the same list applied to the engine alone, without client, network or server."""

from __future__ import annotations

from typing import final

import msgspec

from tinker_actors.local.engine import CreateModel, Engine, SaveSampler
from tinker_actors.local.engine import ForwardBackward as ApplyForwardBackward
from tinker_actors.local.engine import OptimStep as ApplyOptimStep
from tinker_actors.testing.operations import (
    ADAPTER_SEED,
    BASE_MODEL,
    PROMPT,
    RANK,
    Await,
    ForwardBackward,
    OptimStep,
    Program,
    ProgramResults,
    Sample,
    SaveState,
    SaveWeightsForSampler,
    data_of,
    plain,
    sampling_params,
)
from tinker_actors.types import AdamParams, LoraConfig, SampleRequest

__all__ = ["Expected", "expected"]

_MODEL = "oracle"


@final
class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The digest of the weights at the end, and what each operation gives."""

    digest: str
    results: ProgramResults


def expected(program: Program) -> Expected:
    """Apply ``program`` to a fresh engine."""
    engine = Engine()
    engine.apply(CreateModel(_MODEL, BASE_MODEL, LoraConfig(rank=RANK, seed=ADAPTER_SEED)))
    results = ProgramResults(losses={}, samples={})
    for place, step in enumerate(program.steps):
        match step:
            case ForwardBackward():
                operation = ApplyForwardBackward(
                    _MODEL, tuple(data_of(step)), step.loss_fn, {}, forward_only=step.forward_only
                )
                results.losses[place] = engine.apply(operation).metrics["loss:sum"]
            case OptimStep():
                engine.apply(ApplyOptimStep(_MODEL, AdamParams(learning_rate=step.learning_rate)))
            case Sample():
                snapshot = engine.apply(SaveSampler(_MODEL))
                request = SampleRequest(prompt=PROMPT, sampling_params=sampling_params(step))
                results.samples[place] = plain(engine.sample(BASE_MODEL, snapshot, request))
            case SaveState() | SaveWeightsForSampler() | Await():
                pass
    return Expected(digest=engine.digest(_MODEL), results=results)
