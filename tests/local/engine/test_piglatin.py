"""The demo's task on the engine alone: from nothing to nearly everything on words never seen."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tinker_actors.cli.piglatin import answer, load_words, prompt
from tinker_actors.local.engine import BASE_S, CreateModel, Engine, ForwardBackward, OptimStep, SaveSampler
from tinker_actors.types import AdamParams, Datum, LoraConfig, ModelInput, SampleRequest, SamplingParams

BOS, BYTE_OFFSET = 1, 3


def encode(text: str) -> list[int]:
    return [byte + BYTE_OFFSET for byte in text.encode()]


def make_batch(words: Sequence[str]) -> tuple[Datum, ...]:
    """Loss on the answers' tokens; the weights of the whole batch add up to one, since losses are sums."""
    total = sum(len(answer(word)) for word in words)
    data = []
    for word in words:
        asked, answered = [BOS, *encode(prompt(word))], encode(answer(word))
        tokens = asked + answered
        weights = [0.0] * (len(asked) - 1) + [1.0 / total] * len(answered)
        data.append(
            Datum(
                model_input=ModelInput.from_ints(tokens[:-1]),
                loss_fn_inputs={"target_tokens": tokens[1:], "weights": weights},
            )
        )
    return tuple(data)


def accuracy(engine: Engine, words: Sequence[str]) -> float:
    params = SamplingParams(max_tokens=16, temperature=0.0, stop="\n", seed=0)
    requests = [
        SampleRequest(prompt=ModelInput.from_ints([BOS, *encode(prompt(word))]), sampling_params=params)
        for word in words
    ]
    answers = engine.sample_many(BASE_S, engine.apply(SaveSampler("m")), requests)
    texts = [
        bytes(max(token - BYTE_OFFSET, 0) for token in found.sequences[0].tokens.tolist()).decode("latin-1")
        for found in answers
    ]
    return sum(text == answer(word) for text, word in zip(texts, words, strict=True)) / len(words)


def fine_tune(steps: int, *, stop: int) -> Engine:
    """``stop`` of ``steps`` steps: 10 of warm-up, then linearly to zero."""
    engine = Engine()
    engine.apply(CreateModel("m", BASE_S, LoraConfig(rank=16, seed=0)))
    train, rng = load_words().train, random.Random(0)
    for step in range(stop):
        engine.apply(ForwardBackward("m", make_batch(rng.sample(train, 32)), "cross_entropy"))
        scale = (step + 1) / 10 if step < 10 else (steps - step) / (steps - 10)
        engine.apply(OptimStep("m", AdamParams(learning_rate=3e-3 * scale, eps=1e-8)))
    return engine


def held_out(count: int) -> list[str]:
    return random.Random(1).sample(load_words().held_out, count)


def test_before_and_after_a_few_steps() -> None:
    words = held_out(60)
    assert accuracy(fine_tune(150, stop=0), words) < 0.05
    assert accuracy(fine_tune(150, stop=30), words) > 0.5


@pytest.mark.ci
def test_150_steps_teach_it() -> None:
    words = held_out(500)
    assert accuracy(fine_tune(150, stop=0), words) < 0.05
    assert accuracy(fine_tune(150, stop=150), words) >= 0.85


@pytest.mark.ci
def test_a_third_of_the_run_is_the_same_twice() -> None:
    assert fine_tune(150, stop=50).digest("m") == fine_tune(150, stop=50).digest("m")
