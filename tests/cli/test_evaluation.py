"""Evaluation: answers in order, a bounded number at once, one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import trio
import trio.testing

from tests.cli.byte_tokens import Bytes
from tinker_actors.cli.evaluation import all_of, evaluate
from tinker_actors.cli.piglatin import pig_latin
from tinker_actors.cli.task import Task
from tinker_actors.errors import OutageError
from tinker_actors.types import ModelInput, SampledSequence, SampleResponse, SamplingParams


class Translator:
    """A model that drops the first letter of its answer to ``unknown``; later questions are answered first."""

    def __init__(self, unknown: str) -> None:
        self.unknown = unknown
        self.asked = 0

    async def sample(
        self, prompt: ModelInput, num_samples: int = 1, sampling_params: SamplingParams | None = None
    ) -> SampleResponse:
        assert num_samples == 1
        assert sampling_params is not None
        assert sampling_params.temperature == 0.0
        self.asked += 1
        await trio.sleep(1 / self.asked)
        word = Bytes().decode(prompt.to_ints()).removeprefix("pig latin: ").removesuffix(" -> ")
        text = pig_latin(word)[1:] if word == self.unknown else pig_latin(word)
        tokens = np.array(Bytes().encode(text + "\n"), np.int32)
        return SampleResponse(sequences=(SampledSequence(stop_reason="stop", tokens=tokens),))


async def test_exact_matches_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    words = ["apple", "string", "yellow", "queen"]
    found = await evaluate(Translator("string"), Task(Bytes()), words)
    assert [answer.word for answer in found.answers] == words
    assert [answer.given for answer in found.answers] == ["appleway", "ngstray", "ellowyay", "eenquay"]
    assert found.accuracy == 0.75


async def test_results_stay_in_order_and_few_are_under_way(autojump_clock: trio.testing.MockClock) -> None:
    under_way = most = 0

    async def work(item: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(10 - item)
        under_way -= 1
        return item * item

    assert await all_of(work, range(10), 3) == [n * n for n in range(10)]
    assert most == 3
    assert await all_of(work, [], 3) == []


async def test_one_failure_ends_all_and_is_raised_bare(autojump_clock: trio.testing.MockClock) -> None:
    async def work(item: int) -> int:
        await trio.sleep(1 if item < 4 else 100)
        if item in (1, 2):
            raise OutageError(f"no answer for {item}")
        return item

    began = trio.current_time()
    with pytest.raises(OutageError, match="no answer for"):
        await all_of(work, range(10), 8)
    assert trio.current_time() - began == 1
