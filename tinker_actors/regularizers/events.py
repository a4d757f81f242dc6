"""What happens while a custom loss is computed, as events for whoever listens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, final

import msgspec

__all__ = ["Announcer", "EVENTS", "LossEvent", "LossEventLog", "LossListener"]

EventName: TypeAlias = Literal[
    "custom_loss.start",
    "custom_loss.stop",
    "custom_loss.exception",
    "regularizer.compute.start",
    "regularizer.compute.stop",
    "regularizer.compute.exception",
]

EVENTS: Final[tuple[EventName, ...]] = (
    "custom_loss.start",
    "custom_loss.stop",
    "custom_loss.exception",
    "regularizer.compute.start",
    "regularizer.compute.stop",
    "regularizer.compute.exception",
)

_log = logging.getLogger("tinker_actors.regularizers")


class LossEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A custom loss or one of its regularizers starts, has been computed, or failed.

    ``measurements`` are numbers: ``duration`` in seconds, of a stopped loss ``loss_total`` and ``regularizer_total``,
    of a stopped regularizer ``value``, ``contribution`` and, where it was tracked, ``grad_norm``. ``metadata`` says
    which: ``regularizer_name``, ``weight`` and ``async``, or ``regularizer_count`` and ``track_grad_norms``; of an
    exception also ``reason``.
    """

    name: EventName
    measurements: Mapping[str, float] = {}
    metadata: Mapping[str, Any] = {}


LossListener: TypeAlias = Callable[[LossEvent], object]


@final
class Announcer:
    """Tells a listener; one that raises is named in the log and disturbs nothing."""

    def __init__(self, listener: LossListener | None) -> None:
        self._listener = listener

    def tell(self, name: EventName, measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        """One event."""
        if self._listener is None:
            return
        try:
            self._listener(LossEvent(name=name, measurements=measurements, metadata=metadata))
        except Exception:  # noqa: BLE001  # whatever a listener raises
            _log.exception("a listener failed at %s", name)


@final
class LossEventLog:
    """A listener that writes each event into the log, until it is detached; give it as ``on_event``.

    Losses are rounded to four digits, durations to milliseconds. Failures are warnings, whatever ``level`` is.
    """

    def __init__(self, *, level: int = logging.INFO, logger: logging.Logger | None = None) -> None:
        self._level = level
        self._logger = logger if logger is not None else _log
        self._attached = True

    def detach(self) -> None:
        """Write nothing from now on."""
        self._attached = False

    def __call__(self, event: LossEvent) -> None:
        """Write one event."""
        if self._attached:
            level = max(self._level, logging.WARNING) if event.name.endswith(".exception") else self._level
            self._logger.log(level, "%s", _line(event))


def _line(event: LossEvent) -> str:
    name = event.metadata.get("regularizer_name")
    subject = "custom loss" if name is None else f"regularizer {name}"
    shown = [
        f"{key} {value * 1000:.0f} ms" if key == "duration" else f"{key} {value:.4f}"
        for key, value in event.measurements.items()
    ]
    if reason := event.metadata.get("reason"):
        shown.append(str(reason))
    what = {"start": "starts", "stop": "done", "exception": "failed"}[event.name.rpartition(".")[2]]
    return f"{subject} {what}" + (f": {', '.join(shown)}" if shown else "")
