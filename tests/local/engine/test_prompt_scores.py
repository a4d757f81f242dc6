"""What a sample request is told of its prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.local.engine.scenes import trained
from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine import TINY, Engine, SaveSampler, Snapshot
from tinker_actors.types import ModelInput, SampleRequest, SampleResponse, SamplingParams, TensorData

PROMPT = [5, 9, 3, 17, 4]
ROWS = len(PROMPT) - 1
VOCABULARY = 32


@pytest.fixture(scope="module")
def scene() -> tuple[Engine, Snapshot]:
    engine = Engine()
    trained(engine)
    return engine, engine.apply(SaveSampler("m"))


def asked(*, prompt: list[int] | None = None, seed: int = 1, temperature: float = 1.0, **more: Any) -> SampleRequest:
    params = SamplingParams(max_tokens=3, seed=seed, temperature=temperature, stop=[])
    return SampleRequest(prompt=ModelInput.from_ints(prompt or PROMPT), sampling_params=params, **more)


def told(scene: tuple[Engine, Snapshot], **more: Any) -> SampleResponse:
    return scene[0].sample(TINY, scene[1], asked(**more))


@pytest.fixture(scope="module")
def table(scene: tuple[Engine, Snapshot]) -> np.ndarray:
    """The log-probability of every token at every prompt position after the first."""
    rows = told(scene, topk_prompt_logprobs=VOCABULARY).topk_prompt_logprobs
    assert rows is not None
    found = np.full((ROWS, VOCABULARY), np.nan, np.float32)
    for at, row in enumerate(rows[1:]):
        assert row is not None
        for token, logprob in row:
            found[at, token] = logprob
    assert np.exp(found).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    return found


def test_targets_are_scored_where_they_stand(scene: tuple[Engine, Snapshot], table: np.ndarray) -> None:
    ids = np.array([[1, 31], [-1, 4], [7, 7], [-1, -1]])
    response = told(scene, target_prompt_logprobs=TensorData(ids))
    found = response.target_prompt_logprobs
    assert found is not None
    assert (found.dtype, found.dims, found.indices) == ("float32", (ROWS, 2), None)
    expected = [[table[0, 1], table[0, 31]], [0.0, table[1, 4]], [table[2, 7], table[2, 7]], [0.0, 0.0]]
    assert found.to_numpy().tolist() == np.array(expected, np.float32).tolist()


def test_sparse_targets_have_a_sparse_answer(scene: tuple[Engine, Snapshot], table: np.ndarray) -> None:
    rows, columns = [0, 2, 2, 3, 4], [1, 900, 0, 5]
    asked_for = TensorData([6, 2, 30, -1], "int64", [ROWS, 1000], rows, columns)
    found = told(scene, target_prompt_logprobs=asked_for).target_prompt_logprobs
    assert found is not None
    assert (found.dtype, found.dims) == ("float32", (ROWS, 1000))
    assert found.indices is not None
    assert [array.tolist() for array in found.indices] == [rows, columns]
    assert found.values.tolist() == [table[0, 6], table[0, 2], table[2, 30], 0.0]


@pytest.mark.parametrize("last", [1, 2, ROWS])
def test_only_the_last_tokens_are_scored(scene: tuple[Engine, Snapshot], last: int) -> None:
    whole = told(scene, prompt_logprobs=True, topk_prompt_logprobs=2)
    part = told(scene, prompt_logprobs=True, topk_prompt_logprobs=2, prompt_logprobs_last_n=last)
    skipped = len(PROMPT) - last
    for found, every in (
        (part.prompt_logprobs, whole.prompt_logprobs),
        (part.topk_prompt_logprobs, whole.topk_prompt_logprobs),
    ):
        assert found is not None
        assert every is not None
        assert found == (*[None] * skipped, *every[skipped:])


def test_other_tokens_are_drawn_from_the_distribution_at_each_position(
    scene: tuple[Engine, Snapshot], table: np.ndarray
) -> None:
    draws = 20_000
    for temperature in (1.0, 0.5):
        found = told(scene, prompt_alt_tokens_k=VOCABULARY, temperature=temperature).prompt_alt_tokens
        assert found is not None
        assert found.tokens.dims == found.logprobs.dims == (ROWS, VOCABULARY)
        tokens = found.tokens.to_numpy()
        assert found.logprobs.to_numpy().tolist() == np.take_along_axis(table, tokens, axis=1).tolist()
        counts = np.zeros((ROWS, VOCABULARY))
        for seed in range(draws // VOCABULARY):
            found = told(scene, prompt_alt_tokens_k=VOCABULARY, temperature=temperature, seed=seed).prompt_alt_tokens
            assert found is not None
            for row, tokens in enumerate(found.tokens.to_numpy()):
                counts[row] += np.bincount(tokens, minlength=VOCABULARY)
        weights = np.exp(table.astype(np.float64) / temperature)
        expected = counts.sum(axis=1, keepdims=True) * weights / weights.sum(axis=1, keepdims=True)
        chi_squared = ((counts - expected) ** 2 / expected).sum(axis=1)
        assert (chi_squared < 75.0).all(), chi_squared  # 31 degrees of freedom: beyond 75 once in 50,000


def test_draws_follow_the_seed_and_move_no_sample(scene: tuple[Engine, Snapshot]) -> None:
    first, again = (told(scene, prompt_alt_tokens_k=4, num_samples=2) for _ in range(2))
    assert first == again
    assert first.sequences == told(scene, num_samples=2).sequences
    assert told(scene, prompt_alt_tokens_k=4, seed=2).prompt_alt_tokens != first.prompt_alt_tokens


def test_at_temperature_zero_each_draw_is_the_likeliest(scene: tuple[Engine, Snapshot], table: np.ndarray) -> None:
    found = told(scene, prompt_alt_tokens_k=3, temperature=0.0).prompt_alt_tokens
    assert found is not None
    assert found.tokens.to_numpy().tolist() == [[token] * 3 for token in table.argmax(axis=1)]


def test_a_prompt_of_one_token_has_nothing_to_be_scored(scene: tuple[Engine, Snapshot]) -> None:
    response = told(scene, prompt=[5], prompt_logprobs=True, prompt_alt_tokens_k=3, topk_prompt_logprobs=2)
    assert response.prompt_logprobs == response.topk_prompt_logprobs == (None,)
    assert response.prompt_alt_tokens is not None
    assert response.prompt_alt_tokens.tokens.dims == (0, 3)


def test_neighbours_change_no_score(scene: tuple[Engine, Snapshot]) -> None:
    requests = [
        asked(prompt_alt_tokens_k=3, target_prompt_logprobs=TensorData(np.full((ROWS, 2), 8)), seed=5),
        asked(prompt=[7] * 20, prompt_alt_tokens_k=2, seed=5),
        asked(prompt_logprobs=True, prompt_logprobs_last_n=2),
    ]
    engine, snapshot = scene
    assert engine.sample_many(TINY, snapshot, requests) == [engine.sample(TINY, snapshot, one) for one in requests]


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "too many draws": ({"prompt_alt_tokens_k": 33}, "prompt_alt_tokens_k", "33 is out of range"),
    "negative draws": ({"prompt_alt_tokens_k": -1}, "prompt_alt_tokens_k", "-1 is out of range"),
    "last without": ({"prompt_logprobs_last_n": 2}, "prompt_logprobs_last_n", "without prompt_logprobs"),
    "last of all": ({"prompt_logprobs": True, "prompt_logprobs_last_n": 5}, "prompt_logprobs_last_n", "5 is out of"),
    "last of none": ({"prompt_logprobs": True, "prompt_logprobs_last_n": 0}, "prompt_logprobs_last_n", "0 is out of"),
    "floats": (
        {"target_prompt_logprobs": TensorData(np.ones((4, 1)))},
        "target_prompt_logprobs",
        "tensor of float32",
    ),
    "one dimension": ({"target_prompt_logprobs": TensorData([1] * 4)}, "target_prompt_logprobs", "shape [4]"),
    "rows": ({"target_prompt_logprobs": TensorData(np.ones((5, 1), int))}, "target_prompt_logprobs", "shape [5, 1]"),
    "nobody": ({"target_prompt_logprobs": TensorData(np.full((4, 1), -1))}, "target_prompt_logprobs", "no token"),
    "unknown": ({"target_prompt_logprobs": TensorData(np.full((4, 1), 32))}, "target_prompt_logprobs", "token 32"),
    "below": ({"target_prompt_logprobs": TensorData([[1], [1], [-2], [1]])}, "target_prompt_logprobs", "token -2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_can_not_be_told_is_refused_by_name(case: str, scene: tuple[Engine, Snapshot]) -> None:
    wrong, field, problem = WRONG[case]
    with pytest.raises(InvalidInput) as caught:
        scene[0].check_sample(TINY, scene[1], asked(**wrong))
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert caught.value.cure
