"""Positions are taken in blocks where the vocabulary is large, and nobody can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.local.engine.scenes import CONFIGS, MANY_TARGETS, double, lively_adapter, make_datum, small_base
from tinker_actors.local.engine import BaseModel, Engine, head
from tinker_actors.local.engine.losses import objective
from tinker_actors.local.engine.training import forward_backward
from tinker_actors.local.engine.transformer import merge
from tinker_actors.types import LoraConfig, ModelInput, SampleRequest, SamplingParams, TensorData

LENGTHS = [3, 21, 40, 8]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def use(positions: int) -> None:
        monkeypatch.setattr(head, "_BLOCK", positions * 29 + 3)

    return use


@pytest.mark.parametrize("positions", [1, 5, 16])
@pytest.mark.parametrize("train", [{}, {"train_attn": False, "train_mlp": False}, {"train_unembed": False}])
@pytest.mark.parametrize("loss_fn", ["cross_entropy", MANY_TARGETS])
def test_blocks_give_the_gradient_of_the_whole(
    positions: int, train: dict[str, Any], loss_fn: str, small_blocks: Callable[[int], None]
) -> None:
    base = small_base()
    weights, adapter = double(base.weights), lively_adapter(base.config, LoraConfig(rank=3, **train), np.float64)
    name = loss_fn if loss_fn in CONFIGS else "cross_entropy"
    data = [make_datum(length, seed, loss_fn=loss_fn) for seed, length in enumerate(LENGTHS)]

    def gradient() -> tuple[list[np.ndarray], np.ndarray]:
        found = np.zeros_like(adapter.flat)
        output = forward_backward(merge(weights, adapter), adapter, data, objective(name, {}), found)
        return [row["logprobs"].to_numpy() for row in output.loss_fn_outputs], found

    whole = gradient()
    small_blocks(positions)
    logprobs, found = gradient()
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, whole[1], rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(logprobs, whole[0], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize("positions", [1, 5, 16])
@pytest.mark.parametrize("last", [None, 2, 30])
@pytest.mark.parametrize("sparse", [False, True])
def test_blocks_give_the_scores_of_the_whole(
    positions: int, last: int | None, sparse: bool, small_blocks: Callable[[int], None]
) -> None:
    base = small_base()
    engine = Engine([BaseModel(base.config, base.weights)])
    rows = 32
    draw = np.random.default_rng(2)
    targets = TensorData(draw.integers(-1, 29, (rows, 2)))
    if sparse:
        counts = draw.integers(0, 4, rows)
        columns = [column for count in counts for column in range(count)]
        bounds = [0, *np.cumsum(counts).tolist()]
        targets = TensorData(draw.integers(0, 29, len(columns)), "int64", [rows, 9], bounds, columns)
    request = SampleRequest(
        prompt=ModelInput.from_ints(draw.integers(1, 29, rows + 1).tolist()),
        sampling_params=SamplingParams(max_tokens=1, seed=1),
        prompt_logprobs=True,
        topk_prompt_logprobs=3,
        prompt_logprobs_last_n=last,
        target_prompt_logprobs=targets,
        prompt_alt_tokens_k=2,
    )

    def told() -> Any:
        answer = engine.sample("small", None, request)
        assert answer.prompt_logprobs is not None
        assert answer.topk_prompt_logprobs is not None
        assert answer.target_prompt_logprobs is not None
        assert answer.prompt_alt_tokens is not None
        ranked = [[pair[0] for pair in row] if row is not None else None for row in answer.topk_prompt_logprobs]
        numbers = [
            np.array([value for value in answer.prompt_logprobs if value is not None]),
            np.array([[pair[1] for pair in row] for row in answer.topk_prompt_logprobs if row is not None]),
            answer.target_prompt_logprobs.values,
            answer.prompt_alt_tokens.logprobs.values,
        ]
        exact = (
            [value is None for value in answer.prompt_logprobs],
            ranked,
            answer.target_prompt_logprobs.dims,
            answer.prompt_alt_tokens.tokens.values.tolist(),
        )
        return exact, numbers

    exact, numbers = told()
    small_blocks(positions)
    again, others = told()
    assert again == exact
    for mine, theirs in zip(others, numbers, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_best_of_many_are_those_that_sorting_all_would_give(k: int) -> None:
    from tinker_actors.local.engine.prompt_scores import best

    draw = np.random.default_rng(k)
    for size in (50, 2000):
        logprobs = draw.integers(-30, 0, size).astype(np.float32)  # many are equal
        order = np.argsort(-logprobs, kind="stable")[:k]
        assert best(logprobs, k) == tuple((int(token), float(logprobs[token])) for token in order)


def test_the_packaged_models_need_one_block_at_any_length() -> None:
    assert len(list(head.position_blocks(60_000, 259))) == 1
    assert [cut.stop - cut.start for cut in head.position_blocks(200, 200_000)] == [83, 83, 34]
