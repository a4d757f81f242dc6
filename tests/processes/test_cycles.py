"""A job whose client and server are killed, frozen and asked to end ends as one to which nothing happens."""

from __future__ import annotations

import msgspec
import pytest

from tests.processes.cycles import STEPS, Cycle, cycle, problems_of, undisturbed

pytestmark = [pytest.mark.ci, pytest.mark.process]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Cycle:
    return undisturbed(tmp_path_factory.mktemp("calm"))


def test_the_undisturbed_run_has_each_row_once(calm: Cycle) -> None:
    rows = [msgspec.json.decode(line) for line in calm.metrics.splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert calm.lives == 1
    assert sum(map(len, calm.arrays.values())) > 1000


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_killed_the_run_ends_the_same(
    seed: int, calm: Cycle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = cycle(tmp_path_factory.mktemp("cycle"), seed)
    print(f"seed {seed}, {found.lives} lives: {'; '.join(found.happened)}")
    assert problems_of(found, calm) == [], f"seed {seed}: {found.happened}"
