from __future__ import annotations

import pytest

from benchmarks import codec


@pytest.mark.ci
def test_every_figure_is_next_to_the_sdks() -> None:
    """One round of a small batch: of the times only that they were taken."""
    rows = {row.figure: row for row in codec.run(rounds=1, runs=0, datums=4)}
    assert set(rows) == {"encode_arrays_128x4096", "encode_lists_128x4096", "decode_result_128x4096"}
    for row in rows.values():
        assert row.ratio is not None
        assert row.goal is not None
        assert 0 < row.value < 1000
