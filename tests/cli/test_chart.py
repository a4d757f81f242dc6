"""The loss curve: well-formed, with axes that can be read, true to its values."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.cli.chart import Mark, axis_ticks, loss_chart, step_ticks

SVG = "{http://www.w3.org/2000/svg}"


def _points(picture: ElementTree.Element) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]
        for line in picture.iter(SVG + "polyline")
    ]


def test_the_curve_falls_as_the_loss_does() -> None:
    picture = ElementTree.fromstring(loss_chart("a <title> & more", [4.0, 2.0, 1.0, 0.0]))
    (curve,) = _points(picture)
    xs, ys = zip(*curve, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)  # y grows downwards
    assert ys[1] - ys[0] == pytest.approx(2 * (ys[2] - ys[1]), abs=0.2)
    words = [text.text for text in picture.iter(SVG + "text")]
    assert {"a <title> & more", "step", "loss, nats per answer token", "0", "4", "1"} <= set(words)


def test_marks_stand_at_their_step() -> None:
    picture = ElementTree.fromstring(loss_chart("t", [3.0, 2.0, 1.0], [Mark(2, "CrashAt")]))
    (curve,) = _points(picture)
    (line,) = [line for line in picture.iter(SVG + "line") if line.get("stroke-dasharray")]
    assert float(line.attrib["x1"]) == pytest.approx(curve[1][0], abs=0.1)
    assert any(text.text == "CrashAt" for text in picture.iter(SVG + "text"))


@pytest.mark.parametrize("losses", [[], [0.0], [1.0], [math.nan], [math.inf, 1.0, math.nan, 2.0, 3.0]])
def test_odd_curves_give_a_picture_too(losses: list[float]) -> None:
    text = loss_chart("t", losses)
    points = [point for run in _points(ElementTree.fromstring(text)) for point in run]
    assert len(points) == sum(map(math.isfinite, losses))
    assert "nan" not in text.replace("nats", "")
    assert "inf" not in text


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_every_point_lies_within_the_axes(losses: list[float]) -> None:
    for run in _points(ElementTree.fromstring(loss_chart("t", losses))):
        for x, y in run:
            assert 70 <= x <= 696
            assert 47.9 <= y <= 362.1


@given(st.floats(1e-6, 1e9))
def test_loss_ticks_are_few_and_cover_the_largest(largest: float) -> None:
    ticks = axis_ticks(largest)
    assert ticks[0] == 0
    assert ticks[-1] >= largest * (1 - 1e-6)
    assert 3 <= len(ticks) <= 8


@given(st.integers(1, 10**6))
def test_step_ticks_are_few_distinct_and_in_order(last: int) -> None:
    ticks = step_ticks(last)
    assert ticks == sorted(set(ticks))
    assert ticks[0] == 1
    assert ticks[-1] == last
    assert len(ticks) <= 11
