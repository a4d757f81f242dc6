"""metrics.jsonl: a row for each step, in order, each once, whatever happens in between."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import trio

from tinker_actors.errors import DiskDamaged, InvalidInput
from tinker_actors.ports import Disk

__all__ = ["MetricsFile"]

_log = logging.getLogger("tinker_actors.jobs")

_TAIL = 65_536  # bytes: a row is shorter, or more is read
_ELSE = "Something else has changed it: restore it, or begin anew"
_CURE = "Give a dict of names and numbers or texts, for each step once"


@final
class MetricsFile:
    """Rows are taken at once and written by ``flush``, whose caller sees to it that there is one at a time."""

    def __init__(self, disk: Disk, path: Path, *, step: int, offset: int) -> None:
        self._disk = disk
        self.path = path
        self.last_step = step
        """Of the newest row."""
        self._written = offset
        self._end = offset
        self._waiting: list[bytes] = []
        self._certain = True
        self._ends: deque[tuple[int, int]] = deque([(step, offset)])

    async def cut(self) -> None:
        """Let the file end where this one begins: what is behind belongs to steps that are done again.

        Raises DiskDamaged, and cuts nothing, where that is not behind the row that it should be.
        """
        there = await self._disk.size(self.path)
        if there is None and self._written == 0:
            await self._disk.append(self.path, ())
            await self._disk.sync(self.path)
            return
        if there is None:
            problem = f"is not there, where {self._written} bytes are known to have been written"
            raise DiskDamaged(self.path, problem, _ELSE)
        if there >= self._written > 0:
            await self._require_row()
        if there != self._written:
            _log.info("%s is cut from %s to %d bytes", self.path, there, self._written)
            await self._disk.truncate(self.path, self._written)

    async def _require_row(self) -> None:
        size, newline = 0, b""
        end = row = b""
        while size < self._written and not newline:
            size = min(max(2 * size, _TAIL), self._written)
            end = await self._disk.read(self.path, offset=self._written - size, size=size)
            _, newline, row = end[:-1].rpartition(b"\n")
        try:
            found = json.loads(row)["step"] if end.endswith(b"\n") else None
        except (ValueError, TypeError, KeyError, RecursionError):
            found = None
        if found != self.last_step:
            problem = f"has no row of step {self.last_step} that ends at byte {self._written}, where one was written"
            raise DiskDamaged(self.path, problem, _ELSE)

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Take the row of ``step``. Raises InvalidInput for one that is there, or that can't be written."""
        if step <= self.last_step:
            problem = f"is {step}, and the row of step {self.last_step} is there already"
            raise InvalidInput("step", problem, "Log the steps in order, all metrics of one in one call")
        row = _row(step, metrics)
        self._waiting.append(row)
        self._end += len(row)
        self._ends.append((step, self._end))
        self.last_step = step

    def place_of(self, step: int) -> tuple[int, int]:
        """The step of the last row up to ``step``, and how long the file is with it. Earlier ones are forgotten."""
        while len(self._ends) > 1 and self._ends[1][0] <= step:
            self._ends.popleft()
        return self._ends[0]

    async def flush(self) -> None:
        """Write what was taken, and make it certain. Raises DiskError, and then nothing is lost of it."""
        rows, count = tuple(self._waiting), len(self._waiting)
        if not rows:
            return
        with trio.CancelScope(shield=True):  # whoever goes on must know what stands in the file
            if not self._certain:  # a disk that has refused to make rows certain may have let them go
                await self._disk.truncate(self.path, self._written)
            self._certain = False
            await self._disk.append(self.path, rows)
            await self._disk.sync(self.path)
            self._certain = True
            self._written += sum(map(len, rows))
            del self._waiting[:count]


def _row(step: int, metrics: Mapping[str, Any]) -> bytes:
    if not isinstance(metrics, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
        raise InvalidInput("metrics", f"is of type {type(metrics).__name__}", _CURE)
    row: dict[str, Any] = {"step": step}
    for name, value in metrics.items():
        if not isinstance(name, str) or name == "step":  # pyright: ignore[reportUnnecessaryIsInstance]  # as above
            raise InvalidInput("metrics", f"has a metric named {name!r}", _CURE)
        row[name] = _plain(name, value)
    try:
        return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except ValueError as error:  # a whole number of thousands of digits
        raise InvalidInput("metrics", f"can't be written: {error}", _CURE) from None


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    try:  # numbers of numpy and torch, too
        number = value if type(value) is int else float(value)
    except Exception:  # noqa: BLE001  # torch has errors of its own
        raise InvalidInput(f"metrics[{name!r}]", f"is of type {type(value).__name__}", _CURE) from None
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124  # JSON has none of these
        return str(number)
    return number
