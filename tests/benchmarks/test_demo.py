from __future__ import annotations

import subprocess

import pytest

from benchmarks import demo
from benchmarks.demo import demo_rows
from tinker_actors.cli.report import Report
from tinker_actors.cli.run_folder import MetricsRow

REPORT = Report(
    accuracy_before=0.0,
    accuracy_after=0.975,
    operations_accepted=13,
    operations_applied=13,
    in_order=True,
    digest_equal=True,
    restarts=2,
    wall_s=9.5,
)


def metrics(*times: float) -> list[MetricsRow]:
    return [
        MetricsRow(step=step, loss=1.0, learning_rate=1e-3, tokens=100, tokens_per_s=1.0, time=time)
        for step, time in enumerate(times, 1)
    ]


def test_the_first_third_counts_for_all_steps_but_not_for_the_undisturbed() -> None:
    rows = {row.figure: row for row in demo_rows(REPORT, metrics(3.0, 4.0, 4.5, 5.0, 5.5, 6.0), 10.0)}
    assert rows["demo_wall_s"].value == 10.0
    assert rows["demo_steps_per_s"].value == pytest.approx(1.0)
    assert rows["demo_undisturbed_steps_per_s"].value == pytest.approx(2.0)
    assert rows["demo_undisturbed_tokens_per_s"].value == pytest.approx(200.0)
    assert rows["demo_accuracy_after"].verdict.endswith("met")


def test_one_step_has_no_undisturbed_part() -> None:
    figures = {row.figure for row in demo_rows(REPORT, metrics(2.0), 10.0)}
    assert "demo_steps_per_s" in figures
    assert "demo_undisturbed_steps_per_s" not in figures


@pytest.mark.process
@pytest.mark.ci
def test_a_short_run_is_measured() -> None:
    rows = {row.figure: row for row in demo.run(steps=6)}
    assert rows["demo_restarts"].value == 2
    assert rows["demo_operations_accepted"].value == 13
    assert 0 < rows["demo_steps_per_s"].value < 1000


def test_a_demo_that_fails_has_no_figures(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        demo.run(steps=0)
    assert "--steps" in capfd.readouterr().err
