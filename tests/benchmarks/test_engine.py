from __future__ import annotations

import numpy as np
import pytest

from benchmarks import engine
from benchmarks.matrix_products import watched_products


def test_products_are_seen_and_counted_and_numpy_is_as_before() -> None:
    before = np.matmul
    a, b = np.ones((3, 4, 5), np.float32), np.ones((5, 2), np.float32)
    out = np.empty((3, 4, 2), np.float32)
    with watched_products() as products:
        assert np.matmul(a, b).sum() == 3 * 4 * 2 * 5
        assert np.matmul(a, b, out=out) is out
    assert np.matmul is before
    assert products.count == 2
    assert products.operations == 2 * (2 * 3 * 4 * 2 * 5)
    np.matmul(a, b)
    assert products.count == 2


def test_numpy_is_as_before_after_an_error() -> None:
    before = np.matmul
    with pytest.raises(ValueError, match="matmul"), watched_products():
        np.matmul(np.ones((2, 3)), np.ones((2, 3)))
    assert np.matmul is before


def test_a_replay_takes_about_as_long_as_the_products_did() -> None:
    a, b = np.ones((8, 300, 300), np.float32), np.ones((300, 300), np.float32).T
    np.matmul(a, b)
    with watched_products() as products:
        for _ in range(5):
            np.matmul(a, b)
    replay = products.replay()
    seconds = min(replay.seconds() for _ in range(3))
    assert products.seconds / 20 < seconds < products.seconds * 20


def test_the_engine_is_measured() -> None:
    rows = {row.figure: row for row in engine.run(steps=1, count=2, repeats=1)}
    assert set(rows) == {
        "engine_training_tokens_per_s",
        "engine_step_ms",
        "engine_training_matmul_share",
        "engine_training_matmul_gflops",
        "engine_sampling_tokens_per_s",
        "engine_sampling_matmul_share",
        "engine_sampling_matmul_gflops",
    }
    assert all(row.value > 0 for row in rows.values())
    assert rows["engine_training_matmul_share"].value > 10
    assert rows["engine_training_matmul_gflops"].versus is not None
    step = rows["engine_step_ms"]
    tokens = float((rows["engine_training_tokens_per_s"].note or "").split()[0])
    assert rows["engine_training_tokens_per_s"].value * step.value / 1000 == pytest.approx(tokens, rel=0.01)
