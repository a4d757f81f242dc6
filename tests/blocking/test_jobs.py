"""Jobs in plain Python: the same loop, and the same record."""

from __future__ import annotations

import json
import random
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.blocking.programs import BASE_MODEL, batch
from tests.blocking.served import Served, served
from tinker_actors import AdamParams, ClosedError, InvalidInput
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import JobInUse


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as server:
        yield server


def play(server: Served, folder: Path, stop_at: int | None = None) -> list[Any]:
    """A run of six steps: what it has drawn."""
    drawn: list[Any] = []
    with (
        server.runtime() as runtime,
        runtime.job(
            "plain",
            base_model=BASE_MODEL,
            rank=2,
            seed=5,
            steps=6,
            folder=folder,
            checkpoints=CheckpointPolicy(every_steps=2),
            catch_signals=False,
        ) as job,
    ):
        own = job.track("own", random.Random(2))
        for step in job.steps():
            drawn.append((step, job.rng.random(), float(job.generator.random()), own.random(), job.position))
            job.position += 2
            loss = job.client.forward_backward(batch(step, step + 1))
            job.client.optim_step(AdamParams(learning_rate=0.01)).result()
            job.log({"loss": loss.result().metrics["loss:sum"]})
            if step == stop_at:
                job.stop("the test")
        assert job.step == (stop_at or 6)
        assert job.usage()[BASE_MODEL].trained > 0
        assert job.done == (stop_at is None)
    return drawn


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "plain" / "metrics.jsonl").read_text().splitlines()]


def test_a_plain_program_goes_on_where_it_was(server: Served, tmp_path: Path) -> None:
    whole = play(server, tmp_path / "whole")
    first = play(server, tmp_path / "parts", stop_at=3)
    second = play(server, tmp_path / "parts")
    assert first + second == whole
    rows = rows_in(tmp_path / "parts")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows == rows_in(tmp_path / "whole")


def test_a_block_that_was_not_entered_says_how_it_is(server: Served, tmp_path: Path) -> None:
    with server.runtime() as runtime:
        block: Any = runtime.job("job", base_model=BASE_MODEL, rank=2, folder=tmp_path)
        with pytest.raises(AttributeError, match=r"no 'steps'.*: with runtime\.job\(\.\.\.\) as job"):
            block.steps()
    assert list(tmp_path.iterdir()) == []


def test_errors_cross_as_they_are(server: Served, tmp_path: Path) -> None:
    with server.runtime() as runtime:
        with pytest.raises(InvalidInput, match="can't name a job"):
            runtime.job("a/b", base_model=BASE_MODEL)
        options: dict[str, Any] = {"base_model": BASE_MODEL, "folder": tmp_path, "rank": 2, "catch_signals": False}
        with runtime.job("one", **options) as job:
            with pytest.raises(JobInUse), runtime.job("one", **options):
                pass
            with pytest.raises(InvalidInput, match="position"):
                job.position = {1}
            with pytest.raises(InvalidInput, match="has not begun"):
                job.log({}, step=1)
        with pytest.raises(ClosedError, match="the block of the job one was left"):
            next(job.steps())
