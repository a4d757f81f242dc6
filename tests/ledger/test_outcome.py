"""Check sums of results: the same for the same, another one for any difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinker_actors.codec.forward_backward_output import (
    decode_forward_backward_output,
    encode_forward_backward_output,
)
from tinker_actors.ledger.outcome import check_sum
from tinker_actors.types import ForwardBackwardOutput, OptimStepResponse, TensorData


def output(*rows: np.ndarray, loss: float = 1.0, clock: float = 0.0, name: str = "logprobs") -> ForwardBackwardOutput:
    return ForwardBackwardOutput(
        loss_fn_output_type="ArrayRecord",
        loss_fn_outputs=tuple({name: TensorData(row)} for row in rows),
        metrics={"loss:sum": loss, "clock_cycle:unique": clock},
    )


def received(given: ForwardBackwardOutput) -> ForwardBackwardOutput:
    """As it comes from a server: all tensors of a name in one array."""
    return decode_forward_backward_output(encode_forward_backward_output(given))


def rows(length: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).random(length).astype(np.float32) for seed in range(3)]


@pytest.mark.parametrize("length", [0, 1, 63, 1024, 1025, 4096, 5000])
@pytest.mark.parametrize("came", [received, lambda given: given], ids=["in one array", "apart"])
def test_any_difference_shows(length: int, came: Callable[[ForwardBackwardOutput], ForwardBackwardOutput]):
    def summed(*given: np.ndarray, **options: Any) -> int | None:
        return check_sum(came(output(*given, **options)))

    same = summed(*rows(length), clock=7.0)
    assert summed(*rows(length)) == same, "clocks don't count"
    assert summed(*rows(length), loss=2.0) != same
    assert summed(*rows(length), name="elementwise_loss") != same
    if not length:
        return
    first, *others = rows(length)
    assert summed(*others, first) != same, "the datums are in another order"
    longer = np.concatenate([first, others[0][:1]])
    assert summed(longer, others[0][1:], others[1]) != same, "cut elsewhere"
    for place in {0, length // 2, length - 1}:
        changed = rows(length)
        changed[1][place] = np.nextafter(changed[1][place], np.float32(2.0))
        assert summed(*changed) != same, f"one bit at {place}"


def test_tensors_of_both_kinds_and_more_dimensions_count():
    first = output(np.arange(2000).reshape(500, 4), np.ones((300, 8), np.float32))
    second = output(np.arange(2000).reshape(500, 4), np.ones((300, 8), np.float32) + np.eye(300, 8, dtype=np.float32))
    assert check_sum(first) != check_sum(second)


def test_what_has_no_tensors_has_none():
    assert check_sum(OptimStepResponse()) is None
