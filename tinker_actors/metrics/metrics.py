"""Metrics: counters, gauges and histograms by name, on the event loop."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, final

import msgspec

from tinker_actors.checks import number
from tinker_actors.errors import InvalidInput
from tinker_actors.metrics.histogram import Histogram, HistogramSnapshot

__all__ = ["Metrics", "MetricsSnapshot"]

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_MOST = 10_000
_PREFIX = "tinker_actors_"


class MetricsSnapshot(msgspec.Struct, frozen=True):
    """All metrics at one instant, by name. Histograms without a value are left out."""

    counters: Mapping[str, float]
    gauges: Mapping[str, float]
    histograms: Mapping[str, HistogramSnapshot]

    def to_json(self) -> bytes:
        """As one JSON object."""
        return msgspec.json.encode(self)


@final
class Metrics:
    """Named numbers. Adding one costs a dictionary access; a name is checked when it is new.

    Names are those that Prometheus takes: letters, digits and underscores, at most 10,000 of each kind. Raises
    InvalidInput for another name, for the same name in two kinds, and for what is no finite number.
    """

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._gauges: dict[str, float] = {}
        self._histograms: dict[str, Histogram] = {}

    def add(self, name: str, amount: float = 1) -> None:
        """Let the counter ``name`` grow by ``amount``, which is not below zero."""
        if amount.__class__ is not int or amount < 0:
            amount = _finite("amount", amount)
            if amount < 0:
                raise InvalidInput("amount", f"{amount} is below zero", "Use a gauge for what may fall")
        known = self._counters.get(name)
        if known is None:
            self._check(name, self._counters)
            known = 0
        self._counters[name] = known + amount

    def set(self, name: str, value: float) -> None:
        """The gauge ``name`` is ``value`` now."""
        value = _finite("value", value)
        if name not in self._gauges:
            self._check(name, self._gauges)
        self._gauges[name] = value

    def observe(self, name: str, value: float) -> None:
        """One more value of the histogram ``name``."""
        value = _finite("value", value)
        histogram = self._histograms.get(name)
        if histogram is None:
            self._check(name, self._histograms)
            histogram = self._histograms[name] = Histogram()
        histogram.observe(value)

    def counters(self) -> dict[str, int]:
        """The counters of whole numbers now."""
        return {name: value for name, value in self._counters.items() if isinstance(value, int)}

    def snapshot(self) -> MetricsSnapshot:
        """Everything now."""
        histograms = {name: histogram.snapshot() for name, histogram in self._histograms.items()}
        return MetricsSnapshot(
            dict(self._counters),
            dict(self._gauges),
            {name: found for name, found in histograms.items() if found is not None},
        )

    def reset(self) -> None:
        """Forget everything."""
        self._counters.clear()
        self._gauges.clear()
        self._histograms.clear()

    def prometheus(self) -> str:
        """Everything in the text format that Prometheus reads, version 0.0.4, names under ``tinker_actors_``.

        Histograms are summaries there, with the quantiles 0.5, 0.95 and 0.99 of the latest values.
        """
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for kind, values in (("counter", self._counters), ("gauge", self._gauges)):
            for name, value in sorted(values.items()):
                yield f"# TYPE {_PREFIX}{name} {kind}"
                yield f"{_PREFIX}{name} {value!r}"
        for name, histogram in sorted(self._histograms.items()):
            found = histogram.snapshot()
            if found is None:
                continue
            yield f"# TYPE {_PREFIX}{name} summary"
            for quantile, value in (("0.5", found.p50), ("0.95", found.p95), ("0.99", found.p99)):
                yield f'{_PREFIX}{name}{{quantile="{quantile}"}} {value!r}'
            yield f"{_PREFIX}{name}_sum {found.total!r}"
            yield f"{_PREFIX}{name}_count {found.count}"

    def _check(self, name: Any, mine: Mapping[str, object]) -> None:
        cure = "Use letters, digits and underscores, such as tokens_seen"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput("name", f"{name!r:.60} is no name of a metric", cure)
        if any(name in other for other in (self._counters, self._gauges, self._histograms)):
            raise InvalidInput("name", f"{name!r} is a metric of another kind", "Use another name")
        if len(mine) >= _MOST:
            raise InvalidInput("name", f"there are {_MOST:,} metrics already", "Use fewer names: none for each item")


def _finite(field: str, value: Any) -> float:
    value = number(field, value, "Give a finite number")
    if not math.isfinite(value):
        raise InvalidInput(field, f"{value} is not finite", "Give a finite number")
    return value
