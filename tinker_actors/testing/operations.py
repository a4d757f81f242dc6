"""Programs: random lists of training operations as data, a way to run one, and what it should have done.

A ``Program`` prints as the Python that makes it again. ``run_program`` works it off with a runtime;
``tinker_actors.testing.oracle`` applies the same list to the engine alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from hypothesis import strategies as st

from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.ledger import Future
from tinker_actors.testing.faults import (
    CrashAt,
    Delay,
    DropAfter,
    DropBefore,
    Duplicate,
    Fault,
    FaultPlan,
    Status,
    Truncate,
)
from tinker_actors.types import AdamParams, Datum, ModelInput, SampleResponse, SamplingParams, SaveWeightsResponse

__all__ = [
    "Await",
    "CustomLoss",
    "ForwardBackward",
    "LoadState",
    "OptimStep",
    "Program",
    "ProgramResults",
    "Sample",
    "SaveState",
    "SaveWeightsForSampler",
    "Step",
    "fault_plans",
    "programs",
    "run_program",
]

VOCABULARY = 32
"""Token ids below this exist in the tiny base model."""
MAX_LENGTH = 6
SAMPLED_TOKENS = 3
BASE_MODEL = "tinker-actors/tiny"
RANK = 2
ADAPTER_SEED = 7


class ForwardBackward(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """forward_backward (or forward) of one datum for each of ``seeds``, which say what is in it."""

    seeds: tuple[int, ...]
    loss_fn: str = "cross_entropy"
    forward_only: bool = False


class OptimStep(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """optim_step."""

    learning_rate: float = 1e-2


class CustomLoss(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """forward_backward_custom with ``squared_logprobs``, of one datum for each of ``seeds``."""

    seeds: tuple[int, ...]


class SaveState(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """save_state under a name made of its place in the program."""


class LoadState(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """load_state, or with ``optimizer`` load_state_with_optimizer, of what the SaveState at ``place`` has saved."""

    place: int
    optimizer: bool = False


class SaveWeightsForSampler(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """save_weights_for_sampler under a name made of its place in the program."""


class Sample(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Sample from the weights as they are at this place: an ephemeral sampler, made and awaited."""

    seed: int


class Await(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Await every result so far; without it operations are pipelined."""


Step: TypeAlias = (
    ForwardBackward | CustomLoss | OptimStep | SaveState | LoadState | SaveWeightsForSampler | Sample | Await
)


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What one user does with one model. ``chunk_len`` is the server's fwdbwd_max_chunk_len, in datums."""

    steps: tuple[Step, ...]
    chunk_len: int = 2
    parallel_chunks: bool = True


class ProgramResults(msgspec.Struct, kw_only=True):
    """What the program's operations gave, by their place in it; samples and losses as plain numbers."""

    losses: dict[int, float]
    samples: dict[int, tuple[tuple[int, ...], tuple[float, ...]]]


def datum(seed: int) -> Datum:
    """A random example: 1 to MAX_LENGTH tokens with targets, weights, log-probabilities and advantages."""
    rng = random.Random(seed)
    length = rng.randint(1, MAX_LENGTH)
    tokens = [rng.randrange(VOCABULARY) for _ in range(length + 1)]
    return Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": _floats(rng, length)})


def reward_datum(seed: int) -> Datum:
    """A random example for importance_sampling."""
    rng = random.Random(seed)
    length = rng.randint(1, MAX_LENGTH)
    tokens = [rng.randrange(VOCABULARY) for _ in range(length + 1)]
    return Datum(
        ModelInput.from_ints(tokens[:-1]),
        {
            "target_tokens": tokens[1:],
            "logprobs": [-value for value in _floats(rng, length)],
            "advantages": _floats(rng, length),
        },
    )


def data_of(step: ForwardBackward | CustomLoss) -> list[Datum]:
    """The batch of ``step``."""
    make = datum if isinstance(step, CustomLoss) or step.loss_fn == "cross_entropy" else reward_datum
    return [make(seed) for seed in step.seeds]


def squared_logprobs(_data: Any, logprobs: Sequence[Any]) -> tuple[float, list[Any]]:
    """The loss of every CustomLoss, the sum of squares of the log-probabilities, with its gradients."""
    rows = [np.asarray(row, np.float64) for row in logprobs]
    return float(sum(np.sum(row * row) for row in rows)), [2.0 * row for row in rows]


def checkpoint_name_of(place: int) -> str:
    """The name that the save at ``place`` uses."""
    return f"step-{place}"


async def start_client(service: ServiceClient) -> TrainingClient:
    """The model of every program."""
    return await service.create_lora_training_client(BASE_MODEL, rank=RANK, seed=ADAPTER_SEED)


async def run_program(program: Program, client: TrainingClient) -> ProgramResults:
    """Do what ``program`` says and await all its results."""
    results = ProgramResults(losses={}, samples={})
    waiting: dict[int, Future[Any]] = {}
    saves: dict[int, Future[SaveWeightsResponse]] = {}

    async def gather() -> None:
        for place, future in tuple(waiting.items()):
            result = await future
            if isinstance(program.steps[place], ForwardBackward | CustomLoss):
                results.losses[place] = result.metrics["loss:sum"]
            del waiting[place]

    for place, step in enumerate(program.steps):
        match step:
            case ForwardBackward(forward_only=True):
                waiting[place] = await client.forward(data_of(step), step.loss_fn)
            case ForwardBackward():
                waiting[place] = await client.forward_backward(data_of(step), step.loss_fn)
            case CustomLoss():
                waiting[place] = await client.forward_backward_custom(
                    data_of(step), squared_logprobs, differentiation="own"
                )
            case OptimStep():
                waiting[place] = await client.optim_step(AdamParams(learning_rate=step.learning_rate))
            case SaveState():
                saved = await client.save_state(checkpoint_name_of(place))
                waiting[place] = saves[place] = saved
            case LoadState(place=of, optimizer=optimizer):
                path = (await saves[of]).path
                load = client.load_state_with_optimizer if optimizer else client.load_state
                waiting[place] = await load(path)
            case SaveWeightsForSampler():
                waiting[place] = await client.save_weights_for_sampler(checkpoint_name_of(place))
            case Sample():
                sampler = await client.save_weights_and_get_sampling_client()
                response = await sampler.sample(PROMPT, 1, sampling_params(step))
                results.samples[place] = plain(response)
            case Await():
                await gather()
    await gather()
    return results


PROMPT = ModelInput.from_ints([1, 2, 3])


def sampling_params(step: Sample) -> SamplingParams:
    """How ``step`` samples."""
    return SamplingParams(max_tokens=SAMPLED_TOKENS, seed=step.seed)


def plain(response: SampleResponse) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Tokens and log-probabilities of the one sequence of ``response``, comparable bit for bit."""
    (sequence,) = response.sequences
    assert sequence.logprobs is not None
    return tuple(sequence.tokens.tolist()), tuple(sequence.logprobs.tolist())


def _floats(rng: random.Random, count: int) -> list[float]:
    return [rng.choice((0.25, 0.5, 1.0, 1.5)) for _ in range(count)]


# strategies

_SEEDS = st.integers(0, 999)
_BATCHES = st.lists(_SEEDS, min_size=1, max_size=4).map(tuple)
_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(ForwardBackward, seeds=_BATCHES),
    st.builds(ForwardBackward, seeds=_BATCHES),
    st.builds(ForwardBackward, seeds=_BATCHES, loss_fn=st.just("importance_sampling")),
    st.builds(ForwardBackward, seeds=_BATCHES, forward_only=st.just(True)),
    st.builds(OptimStep, learning_rate=st.sampled_from((1e-3, 1e-2, 0.1))),
    st.builds(OptimStep, learning_rate=st.sampled_from((1e-3, 1e-2, 0.1))),
    st.builds(SaveState),
    st.builds(SaveWeightsForSampler),
    st.builds(Sample, seed=_SEEDS),
    st.builds(Await),
)


def programs(*, max_steps: int = 10) -> st.SearchStrategy[Program]:
    """Programs of 2 to ``max_steps`` steps."""
    return st.builds(
        Program,
        steps=st.lists(_STEPS, min_size=2, max_size=max_steps).map(tuple),
        chunk_len=st.integers(1, 3),
        parallel_chunks=st.booleans(),
    )


_PATHS = st.sampled_from(
    (
        "/forward_backward",
        "/forward_backward",
        "/optim_step",
        "/retrieve_future",
        "/retrieve_future",
        "/save_weights",
        "/save_weights_for_sampler",
        "/asample",
        "/create_model",
        "/create_session",
        "/session_heartbeat",
        "",
    )
)
_NTH = st.integers(1, 6)
_TIMES = st.integers(1, 3)
_POINTS = ("training.before_send", "training.sent", "training.polling", "training.decoded", "session.heartbeat")
_FAULTS: st.SearchStrategy[Fault] = st.one_of(
    st.builds(DropBefore, path=_PATHS, nth=_NTH, times=_TIMES, known=st.booleans()),
    st.builds(DropAfter, path=_PATHS, nth=_NTH, times=_TIMES),
    st.builds(Delay, path=_PATHS, nth=_NTH, seconds=st.sampled_from((0.5, 5.0, 50.0, 90.0)), reply=st.booleans()),
    st.builds(Duplicate, path=_PATHS, nth=_NTH, times=_TIMES),
    st.builds(
        Status,
        path=_PATHS,
        nth=_NTH,
        times=_TIMES,
        status=st.sampled_from((408, 429, 500, 502, 503)),
        retry_after=st.sampled_from((None, 0.5, 3.0)),
        after=st.booleans(),
    ),
    st.builds(Truncate, path=_PATHS, nth=_NTH, keep=st.integers(0, 5)),
    st.builds(CrashAt, point=st.sampled_from(_POINTS), nth=_NTH),
    st.builds(CrashAt, point=st.sampled_from(_POINTS[:-1]), nth=_NTH),
)


def fault_plans(*, max_faults: int = 5) -> st.SearchStrategy[FaultPlan]:
    """Plans of 1 to ``max_faults`` faults that recovery can mend: the outcome must equal the undisturbed run's."""
    return st.builds(FaultPlan, st.lists(_FAULTS, min_size=1, max_size=max_faults).map(tuple))
