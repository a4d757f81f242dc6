"""How fast is the engine of the local server, and how much of its time are matrix products?

It runs alone in this process, on base-s, with the demo's own work: training steps of 32 words (rank 16, attention
and MLP; forward_backward and optim_step), and sampling of 100 held-out words' prompts, 16 tokens each, greedily and
never stopped early. One BLAS thread, as always in the engine; a second is one of this thread's CPU time (on a machine
with nothing else to do, of wall time), and the best of the repeats counts.
How the share of matrix products is taken is told in ``matrix_products``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from benchmarks.demo_work import RANK, prompts, training_data
from benchmarks.matrix_products import Products, watched_products
from benchmarks.rows import Row
from tinker_actors.local.engine import BASE_S, CreateModel, Engine, ForwardBackward, OptimStep
from tinker_actors.local.engine.threads import fixed_blas_threads
from tinker_actors.types import AdamParams, Datum, LoraConfig, SampleRequest, SamplingParams

__all__ = ["run", "step_seconds", "trainer"]

STEPS: Final = 2
PROMPTS: Final = 100
NEW_TOKENS: Final = 16
REPEATS: Final = 8
_LARGE: Final = 512
_MODEL: Final = "model"


class _Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The best run's ``seconds``; what a run spends in matrix products, ``in_place`` and ``replayed`` alone."""

    seconds: float
    slowest: float
    in_place: float
    replayed: float
    products: int
    operations: int


def run(steps: int = STEPS, count: int = PROMPTS, repeats: int = REPEATS) -> list[Row]:
    """The rows: ``repeats`` of ``steps`` training steps, then of ``count`` prompts."""
    engine = Engine()
    batches = training_data(steps)
    train = trainer(engine, batches)
    requests = [
        SampleRequest(
            prompt=prompt,
            num_samples=1,
            sampling_params=SamplingParams(max_tokens=NEW_TOKENS, temperature=0.0, stop=[], seed=0),
        )
        for prompt in prompts(count)
    ]

    def sample() -> None:
        responses = engine.sample_many(BASE_S, None, requests)
        assert all(len(response.sequences[0].tokens) == NEW_TOKENS for response in responses)

    large = _large_product(repeats)
    trained = sum(datum.model_input.length for data in batches for datum in data)
    read = sum(request.prompt.length for request in requests)
    training, sampling = _timed(train, repeats), _timed(sample, repeats)
    return [
        Row(
            figure="engine_training_tokens_per_s",
            value=trained / training.seconds,
            unit="tokens/s",
            note=f"{trained / len(batches):.0f} tokens a step, not counting padding; {_spread(training, repeats)}",
        ),
        Row(figure="engine_step_ms", value=1000 * training.seconds / len(batches), unit="ms"),
        *_product_rows("training", training, large),
        Row(
            figure="engine_sampling_tokens_per_s",
            value=count * NEW_TOKENS / sampling.seconds,
            unit="tokens/s",
            note=f"{count} x {NEW_TOKENS} new tokens; the {read} tokens of the prompts are read in the same time; "
            + _spread(sampling, repeats),
        ),
        *_product_rows("sampling", sampling, large),
    ]


def trainer(engine: Engine, batches: Sequence[Sequence[Datum]]) -> Callable[[], None]:
    """What trains one model of ``engine`` on ``batches``, a step each, as often as it is called."""
    engine.apply(CreateModel(_MODEL, BASE_S, LoraConfig(rank=RANK, seed=0, train_unembed=False)))
    adam = AdamParams(learning_rate=1e-4, eps=1e-8)

    def train() -> None:
        for data in batches:
            engine.apply(ForwardBackward(_MODEL, tuple(data), "cross_entropy"))
            engine.apply(OptimStep(_MODEL, adam))

    return train


def step_seconds(batches: Sequence[Sequence[Datum]], repeats: int) -> float:
    """What a training step takes in the engine alone: the mean over ``batches``, the best of ``repeats``."""
    train = trainer(Engine(), batches)
    train()
    return min(_seconds(train) for _ in range(repeats)) / len(batches)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def _timed(work: Callable[[], None], repeats: int) -> _Timing:
    work()
    seconds: list[float] = []
    watched: list[Products] = []
    replayed: list[float] = []
    for _ in range(repeats):
        seconds.append(_seconds(work))
        with watched_products() as products:
            work()
        watched.append(products)
        with fixed_blas_threads():
            replay = products.replay()
            replay.seconds()
            replayed.append(replay.seconds())
    best = min(watched, key=lambda products: products.seconds)
    return _Timing(
        seconds=min(seconds),
        slowest=max(seconds),
        in_place=best.seconds,
        replayed=min(replayed),
        products=best.count,
        operations=best.operations,
    )


def _large_product(repeats: int) -> float:
    """Operations a second of one large product on one thread: what BLAS can do here."""
    a = np.ones((_LARGE, _LARGE), np.float32)
    out = np.empty_like(a)
    with fixed_blas_threads():
        return 2 * _LARGE**3 / min(_seconds(lambda: np.matmul(a, a, out=out)) for _ in range(3 + repeats))


def _product_rows(name: str, timing: _Timing, large: float) -> list[Row]:
    rate = timing.operations / timing.in_place
    replayed = 100 * timing.replayed / timing.seconds
    return [
        Row(
            figure=f"engine_{name}_matmul_share",
            value=100 * timing.in_place / timing.seconds,
            unit="%",
            note=f"{timing.products} products in place; replayed alone {replayed:.0f} %",
        ),
        Row(
            figure=f"engine_{name}_matmul_gflops",
            value=rate / 1e9,
            unit="GFLOP/s",
            versus=f"one product of {_LARGE} x {_LARGE}",
            ratio=rate / large,
            note=f"there {large / 1e9:.3g}; what many small products lose is in the share",
        ),
    ]


def _spread(timing: _Timing, repeats: int) -> str:
    return f"best of {repeats}, slowest {timing.slowest / timing.seconds:.2f} times as long"
