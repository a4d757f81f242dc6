"""Tells on the terminal what the runtime lives through: faults, crashes, restarts, repeated sends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, final

from supervision import (
    ActorCrashed,
    ActorDegraded,
    ActorEnded,
    ActorRestarted,
    ActorRestarting,
    ActorStarted,
    ActorSystem,
    Event,
    SupervisorGaveUp,
)
from tinker_actors.cli.chart import Mark
from tinker_actors.cli.display import Display
from tinker_actors.cli.faults import describe, label, short
from tinker_actors.errors import TinkerError
from tinker_actors.testing.faults import Fired

__all__ = ["Narrator"]

_CLIENTS: Final = "tinker_actors.clients"


@final
class Narrator:
    """Turns events, fired faults and the clients' warnings into lines on ``display``.

    ``fired`` gives the faults so far, ``step`` the number of steps done.
    """

    def __init__(self, display: Display, fired: Callable[[], Sequence[Fired]], step: Callable[[], int]) -> None:
        self._display = display
        self._fired = fired
        self._step = step
        self._told = 0
        self._started: set[str] = set()
        self._marks: list[Mark] = []
        self.restarts = 0
        self.stopping = False

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Each fault and the step in which it fell, for the loss curve."""
        return tuple(self._marks)

    @contextmanager
    def listening(self) -> Generator[Callable[[ActorSystem], None]]:
        """Tell what the clients warn of, and what happens in each system that the value is called with.

        It goes around the systems' own blocks, so that their end is told, too.
        """
        logger = logging.getLogger(_CLIENTS)
        handler = _Listener(self._warned)
        logger.addHandler(handler)
        try:
            yield self._follow
        finally:
            logger.removeHandler(handler)

    def _follow(self, system: ActorSystem) -> None:
        system.events.subscribe(self._happened)

    def tell_faults(self) -> None:
        """Tell of the faults that have fired since the last time."""
        fired = self._fired()
        for fault in fired[self._told :]:
            self._display.line("fault", describe(fault))
            self._marks.append(Mark(self._step() + 1, label(fault)))
        self._told = len(fired)

    def _happened(self, event: Event) -> None:
        self.tell_faults()
        name = short(event.path)
        match event:
            case ActorStarted():
                self._started.add(event.path)
            case ActorCrashed() if event.path not in self._started and isinstance(event.crash.error, TinkerError):
                pass  # a start that was refused: who asked for it gets the error
            case ActorCrashed():
                self._display.line("crash", f"{name}: {event.crash.text}")
            case ActorRestarting():
                self._display.line("restart", f"{name} starts again in {event.delay:.2f} s")
            case ActorRestarted():
                self.restarts += 1
                self._display.line(
                    "restart", f"{name} runs again (start {event.incarnation}) and goes on from its ledger"
                )
            case ActorDegraded():
                self._display.line("given up", f"{event.path} after {len(event.history)} crashes")
            case SupervisorGaveUp():
                self._display.line("given up", f"{event.path}: too many crashes below it")
            case ActorEnded() if self.stopping:
                self._display.line("stopped", event.path)
            case _:
                pass

    def _warned(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.WARNING:
            return  # it is the error that the story itself ends with
        self.tell_faults()
        text = record.getMessage()
        who, _, rest = text.partition(" ")
        if "seq_id" in rest:
            self._display.line("re-send", f"{short(who)} {rest}")
        else:
            self._display.line("note", text)


class _Listener(logging.Handler):
    def __init__(self, tell: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record)
