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
from tinker_actors.metrics.names import Kind

__all__ = ["Metrics", "MetricsSnapshot"]

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_MOST = 10_000
_INT64_END = 2**63
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

    Names are those that Prometheus takes: letters, digits and underscores, at most 10,000. ``own`` are names whose
    kind is settled before they are used. Raises InvalidInput for another name, for the same name in two kinds, and
    for what is no finite number.
    """

    def __init__(self, own: Mapping[str, Kind] | None = None) -> None:
        self._kinds: dict[str, Kind] = {}
        self._parts: set[str] = set()
        """What the text for Prometheus makes of the histograms besides."""
        for name, kind in (own or {}).items():
            self._settle(name, kind)
        self._counters: dict[str, float] = {}
        self._gauges: dict[str, float] = {}
        self._histograms: dict[str, Histogram] = {}

    def add(self, name: str, amount: float = 1) -> None:
        """Let the counter ``name`` grow by ``amount``, which is not below zero."""
        if amount.__class__ is not int or not 0 <= amount < _INT64_END:
            amount = _finite("amount", amount)
            if amount < 0:
                raise InvalidInput("amount", f"{amount} is below zero", "Use a gauge for what may fall")
        known = self._counters.get(name)
        if known is None:
            self._settle(name, "counter")
            known = 0
        self._counters[name] = known + amount

    def set(self, name: str, value: float) -> None:
        """The gauge ``name`` is ``value`` now."""
        value = _finite("value", value)
        if name not in self._gauges:
            self._settle(name, "gauge")
        self._gauges[name] = value

    def observe(self, name: str, value: float) -> None:
        """One more value of the histogram ``name``."""
        value = _finite("value", value)
        histogram = self._histograms.get(name)
        if histogram is None:
            self._settle(name, "histogram")
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
        """Forget all values; names keep their kinds."""
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

    def _settle(self, name: Any, kind: Kind) -> None:
        """From now on ``name`` is of this kind, or it is refused."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            cure = "Use letters, digits and underscores, such as tokens_seen"
            raise InvalidInput("name", f"{name!r:.60} is no name of a metric", cure)
        known = self._kinds.get(name)
        if known == kind:
            return
        parts = {f"{name}_sum", f"{name}_count"} if kind == "histogram" else set[str]()
        if known is not None:
            raise InvalidInput("name", f"{name!r} is a metric of another kind, a {known}", "Use another name")
        if name in self._parts or not parts.isdisjoint(self._kinds):
            raise InvalidInput("name", f"{name!r} means a part of a histogram elsewhere", "Use another name")
        if len(self._kinds) >= _MOST:
            raise InvalidInput("name", f"there are {_MOST:,} metrics already", "Use fewer names: none for each item")
        self._kinds[name] = kind
        self._parts |= parts


def _finite(field: str, value: Any) -> float:
    value = number(field, value, "Give a finite number")
    if not math.isfinite(value):
        raise InvalidInput(field, f"{value} is not finite", "Give a finite number")
    return value
