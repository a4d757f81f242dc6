from __future__ import annotations

import json
import math

import pytest

from benchmarks.__main__ import benchmark_names, main
from benchmarks.rows import Goal, Row, json_line, median_of, render_table

ROWS = [
    Row(figure="cpu", value=1.25, unit="ms", versus="another", ratio=0.5, note="median of 3"),
    Row(figure="steps", value=12, unit="1/s"),
]


def test_the_json_line_is_one_object_on_one_line() -> None:
    line = json_line(ROWS)
    assert "\n" not in line
    found = json.loads(line)
    assert found["rows"][0] == {
        "figure": "cpu",
        "value": 1.25,
        "unit": "ms",
        "versus": "another",
        "ratio": 0.5,
        "goal": None,
        "note": "median of 3",
    }
    assert found["rows"][1]["ratio"] is None
    assert found["machine"]["cores"] >= 1


def test_the_table_names_every_figure_and_leaves_unused_columns_out() -> None:
    assert "0.500" in render_table(ROWS)
    only = render_table(ROWS[1:]).splitlines()
    assert only[0].split() == ["figure", "value", "unit"]
    assert only[1].split() == ["steps", "12", "1/s"]


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        (Goal(must=105, aim=90), 105, "<= 105, aim 90: met"),
        (Goal(must=105), 105.5, "<= 105: MISSED"),
        (Goal(must=1.4, at_most=False), 1.4, ">= 1.4: met"),
        (Goal(must=1.4, at_most=False), 1.3, ">= 1.4: MISSED"),
    ],
)
def test_a_goal_is_met_or_missed(goal: Goal, value: float, verdict: str) -> None:
    row = Row(figure="cpu", value=value, unit="ms", goal=goal)
    assert row.verdict == verdict
    assert verdict in render_table([row])


def test_a_goal_can_be_for_the_ratio() -> None:
    goal = Goal(must=0.35, of="ratio")
    assert Row(figure="cpu", value=9.0, unit="ms", versus="another", ratio=0.3, goal=goal).verdict == "<= 0.35x: met"
    with pytest.raises(ValueError, match="there is none"):
        Row(figure="cpu", value=9.0, unit="ms", goal=goal)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        Row(figure="cpu", value=value, unit="ms")


def test_the_median_says_how_far_the_repeats_spread() -> None:
    values = iter([3.0, 1.0, 2.0])
    assert median_of(lambda: next(values), repeats=3) == (2.0, "median of 3, 1 to 3")


def test_benchmarks_are_found_by_what_they_define(capsys: pytest.CaptureFixture[str]) -> None:
    names = benchmark_names()
    assert {
        "client",
        "codec",
        "demo",
        "engine",
        "local_server",
        "overhead",
        "recovery",
        "startup",
        "supervision",
        "transport",
    } == set(names)
    assert not {"rows", "canned", "client_ours", "__main__"} & set(names)
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == names


def test_an_unknown_name_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such"])
    error = capsys.readouterr().err
    assert "no_such" in error
    assert "client" in error
