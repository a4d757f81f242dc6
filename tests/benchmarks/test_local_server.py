"""The local server's figures, each taken once and as short as can be."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from benchmarks import local_server

pytestmark = pytest.mark.process


@pytest.mark.ci
def test_every_figure_is_taken() -> None:
    found = local_server.run(
        repeats=1, steps=1, count=2, seconds=0.1, promises=3, models=2, idle=3, samples=20, starts=1
    )
    rows = {row.figure.removeprefix("local_server_"): row for row in found}
    assert set(rows) == {
        "training_tokens_per_s",
        "training_matmul_share",
        "sampling_tokens_per_s",
        "sampling_matmul_share",
        "requests_per_s",
        "promise_to_result_ms",
        "restart_2_models_ms",
        "memory_per_idle_model",
        "20_samples_s",
        "library_start_ms",
        "loopback_start_ms",
        "fixture_start_ms",
        "fixture_again_start_ms",
    }
    assert all(row.value > 0 for row in rows.values())
    for kind in ("training", "sampling"):
        row = rows[f"{kind}_tokens_per_s"]
        if find_spec("torch") is None:
            assert "torch is not installed" in (row.note or "")
        else:
            assert row.ratio is not None
    # weights and two moments of 0.16 M parameters in float32, and some more
    assert 500 < rows["memory_per_idle_model"].value < 20_000
    assert rows["promise_to_result_ms"].versus == "the engine alone"
    assert rows["fixture_again_start_ms"].value < rows["fixture_start_ms"].value
