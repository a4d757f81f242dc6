"""Metrics: what is counted, how values are spread, and which names and numbers are none."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.errors import InvalidInput
from tinker_actors.metrics import OWN, Histogram, Metrics, ModelUsage, Price, Usage, cost_of
from tinker_actors.ports import Purpose


def test_counters_add_up_gauges_overwrite_and_reset_forgets():
    metrics = Metrics()
    metrics.add("sends")
    metrics.add("sends", 4)
    metrics.add("seconds", 0.5)
    metrics.set("depth", 3)
    metrics.set("depth", 2)
    metrics.observe("latency", 1.0)
    assert metrics.counters() == {"sends": 5}
    now = metrics.snapshot()
    assert (now.counters, now.gauges) == ({"sends": 5, "seconds": 0.5}, {"depth": 2.0})
    assert now.histograms["latency"].count == 1
    metrics.reset()
    empty = metrics.snapshot()
    assert not empty.counters
    assert not empty.gauges
    assert not empty.histograms
    assert now.counters == {"sends": 5, "seconds": 0.5}  # a snapshot stays as it was


def test_percentiles():
    histogram = Histogram()
    assert histogram.snapshot() is None
    for value, (p50, p95) in ((10.0, (10.0, 10.0)), (40.0, (25.0, 40.0)), (20.0, (20.0, 40.0))):
        histogram.observe(value)
        now = histogram.snapshot()
        assert now is not None
        assert (now.p50, now.p95, now.p99) == (p50, p95, p95)
    assert (now.count, now.minimum, now.maximum) == (3, 10.0, 40.0)
    assert now.mean == pytest.approx(23.333, abs=1e-3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 20))
def test_memory_is_bounded_and_percentiles_are_of_the_latest(values: list[float], kept: int):
    histogram = Histogram(kept)
    for value in values:
        histogram.observe(value)
    now, latest = histogram.snapshot(), sorted(values[-kept:])
    assert now is not None
    assert (now.count, now.minimum, now.maximum) == (len(values), min(values), max(values))
    assert now.total == pytest.approx(math.fsum(values), abs=1e-3)
    assert now.p50 == pytest.approx(statistics.median(latest))
    for percent, found in ((95, now.p95), (99, now.p99)):
        assert found in latest
        assert sum(value <= found for value in latest) * 100 >= percent * len(latest)
        assert sum(value < found for value in latest) * 100 < percent * len(latest)
    assert len(histogram._latest) <= kept


@pytest.mark.parametrize("name", ["a\nb", "", "1a", "a-b", "a b", 'a"', "é", None, 7, "x" * 10 + "\n"])
def test_what_is_no_name(name: Any):
    metrics = Metrics()
    for call in (metrics.add, metrics.set, metrics.observe):
        with pytest.raises(InvalidInput, match="name"):
            call(name, 1)
    assert metrics.prometheus() == ""


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True])
def test_what_is_no_finite_number(value: Any):
    metrics = Metrics()
    for call in (metrics.add, metrics.set, metrics.observe):
        with pytest.raises(InvalidInput):
            call("name", value)
    assert metrics.prometheus() == ""


def test_a_counter_never_falls_and_a_name_is_of_one_kind():
    metrics = Metrics()
    with pytest.raises(InvalidInput, match="below zero"):
        metrics.add("sends", -1)
    metrics.add("sends")
    with pytest.raises(InvalidInput, match="another kind"):
        metrics.set("sends", 1)
    with pytest.raises(InvalidInput, match="another kind"):
        metrics.observe("sends", 1)
    assert metrics.counters() == {"sends": 1}


def test_a_name_for_each_item_is_refused_in_the_end():
    metrics = Metrics()
    for number in range(10_000):
        metrics.set(f"item_{number}", 1.0)
    with pytest.raises(InvalidInput, match="10,000"):
        metrics.set("one_more", 1.0)
    metrics.set("item_1", 2.0)


def test_the_text_that_prometheus_reads():
    metrics = Metrics()
    metrics.add("sends", 2)
    metrics.set("depth", 1.5)
    metrics.observe("latency_seconds", 0.25)
    metrics.observe("latency_seconds", 0.75)
    assert metrics.prometheus().splitlines() == [
        "# TYPE tinker_actors_sends counter",
        "tinker_actors_sends 2",
        "# TYPE tinker_actors_depth gauge",
        "tinker_actors_depth 1.5",
        "# TYPE tinker_actors_latency_seconds summary",
        'tinker_actors_latency_seconds{quantile="0.5"} 0.5',
        'tinker_actors_latency_seconds{quantile="0.95"} 0.75',
        'tinker_actors_latency_seconds{quantile="0.99"} 0.75',
        "tinker_actors_latency_seconds_sum 1.0",
        "tinker_actors_latency_seconds_count 2",
    ]


def test_a_snapshot_is_one_json_object():
    metrics = Metrics()
    metrics.add("sends", 2)
    metrics.observe("latency", 2.0)
    found = json.loads(metrics.snapshot().to_json())
    assert found["counters"] == {"sends": 2}
    assert found["histograms"]["latency"]["p99"] == 2.0


def test_cost_by_a_table_of_prices():
    usage = Usage()
    usage.add("a/b", trained=1_000_000)
    usage.add("a/b", trained=500_000, prompted=10, sampled=2_000_000)
    usage.add("c/d", prompted=1_000_000)
    assert usage.snapshot()["a/b"] == ModelUsage(trained=1_500_000, prompted=10, sampled=2_000_000)
    prices = {
        "a/b": Price(trained=2.0, prompted=0.0, sampled=1.0),
        "c/d": Price(trained=9.0, prompted=0.5, sampled=9.0),
    }
    assert cost_of(usage.snapshot(), prices) == pytest.approx(3.0 + 2.0 + 0.5)
    del prices["c/d"]
    with pytest.raises(InvalidInput, match="'c/d'"):
        cost_of(usage.snapshot(), prices)


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf, "1", None])
def test_what_is_no_price(price: Any):
    with pytest.raises(InvalidInput, match=r"Price\.sampled"):
        Price(trained=1.0, prompted=1.0, sampled=price)


def test_a_name_that_is_settled_is_refused_to_others_before_its_first_use():
    metrics = Metrics(OWN)
    for name, kind in OWN.items():
        for other, call in (("counter", metrics.add), ("gauge", metrics.set), ("histogram", metrics.observe)):
            if other != kind:
                with pytest.raises(InvalidInput, match="another kind"):
                    call(name, 1)
    assert metrics.prometheus() == ""
    page = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text("utf-8")
    for name in OWN:
        purpose, _, rest = name.partition("_")
        listed = f"PURPOSE_{rest}" if purpose in get_args(Purpose) and rest.startswith("request") else name
        assert f"`{listed}`" in page, name


def test_what_the_text_makes_of_a_histogram_is_nobody_elses_name():
    metrics = Metrics()
    metrics.observe("a", 1.0)
    metrics.add("b_sum")
    with pytest.raises(InvalidInput, match="part of a histogram"):
        metrics.add("a_count")
    with pytest.raises(InvalidInput, match="part of a histogram"):
        metrics.observe("b", 1.0)
    samples = [line.partition(" ")[0] for line in metrics.prometheus().splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples))


def test_a_number_beyond_all_bounds_is_refused_at_once():
    metrics = Metrics()
    with pytest.raises(InvalidInput, match="amount"):
        metrics.add("big", 10**400)
    metrics.add("big", 2**63 - 1)
    metrics.add("big", 0.5)


@pytest.mark.parametrize("prices", [None, [1], {"a/b": 1.0}, {"a/b": None}])
def test_a_table_that_is_none(prices: Any):
    with pytest.raises(InvalidInput, match="prices"):
        cost_of({"a/b": ModelUsage(trained=1)}, prices)
