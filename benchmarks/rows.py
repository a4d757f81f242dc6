"""Rows of a benchmark: the figures it measured, its table, and the one JSON line that ends a run.

A benchmark is a module of this package with ``run() -> list[Row]``. It may print what it likes while it measures;
``benchmarks.__main__`` prints its table and, with ``--json``, the JSON line.
"""

import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

__all__ = ["Goal", "Machine", "Row", "json_line", "machine", "median_of", "render_table"]


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure's value, or its ratio, has to reach: ``must`` holds, ``aim`` is hoped for."""

    must: float
    aim: float | None = None
    at_most: bool = True
    of: Literal["value", "ratio"] = "value"

    def met_by(self, number: float) -> bool:
        """Whether ``number``, the value or the ratio, is good enough."""
        return number <= self.must if self.at_most else number >= self.must

    def __str__(self) -> str:
        text = f"{'<=' if self.at_most else '>='} {self.must:g}{'x' if self.of == 'ratio' else ''}"
        return text if self.aim is None else f"{text}, aim {self.aim:g}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure.

    ``figure`` is a stable snake_case name; ``value`` is in ``unit``. ``versus`` names what it is compared with
    (such as "official SDK 0.38.0"), ``ratio`` is value / value of that one, both null without a comparison.
    A figure that is itself a quotient has unit "x", and ``ratio`` repeats it.
    ``goal`` is what it has to reach, if that was ever said; ``note`` says how it was taken, such as the spread of
    the repeats.
    """

    figure: str
    value: float
    unit: str
    versus: str | None = None
    ratio: float | None = None
    goal: Goal | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"figure {self.figure!r}: value {self.value} is not a finite number")
        if self.goal is not None and self.goal.of == "ratio" and self.ratio is None:
            raise ValueError(f"figure {self.figure!r}: its goal is for a ratio, and there is none")

    @property
    def verdict(self) -> str:
        """The goal and whether it is met, in a few words; empty without a goal."""
        if self.goal is None:
            return ""
        number = self.value if self.goal.of == "value" else self.ratio
        assert number is not None
        return f"{self.goal}: {'met' if self.goal.met_by(number) else 'MISSED'}"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run was taken: figures of two machines are not comparable."""

    python: str
    system: str
    processor: str
    cores: int
    load_average: float


def machine() -> Machine:
    """This machine now; ``load_average`` is that of the last minute (0 where the system has none)."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        processor=processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1),
        load_average=round(load, 2),
    )


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a kernel file, line by line
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux: the platform module's word is all there is
    return platform.processor() or platform.machine()


def json_line(rows: Sequence[Row]) -> str:
    """The one JSON object on one line that ``--json`` prints last."""
    return msgspec.json.encode({"rows": list(rows), "machine": machine()}).decode()


def render_table(rows: Sequence[Row]) -> str:
    """A plain text table of the rows, columns aligned."""
    cells = [("figure", "value", "unit", "versus", "ratio", "goal", "note")]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        cells.append((row.figure, f"{row.value:.4g}", row.unit, row.versus or "", ratio, row.verdict, row.note or ""))
    used = [column for column in range(len(cells[0])) if any(line[column] for line in cells[1:]) or column < 3]
    widths = {column: max(len(line[column]) for line in cells) for column in used}
    return "\n".join(
        "  ".join(line[c].rjust(widths[c]) if c in {1, 4} else line[c].ljust(widths[c]) for c in used).rstrip()
        for line in cells
    )


def median_of(measure: Callable[[], float], *, repeats: int = 5) -> tuple[float, str]:
    """Median of ``repeats`` measurements, and a note with their spread."""
    values = sorted(measure() for _ in range(repeats))
    return statistics.median(values), f"median of {repeats}, {values[0]:.4g} to {values[-1]:.4g}"
