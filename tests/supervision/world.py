"""Actors and observers that the tests share."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from typing import Any

import trio
from hypothesis import settings

from supervision import Actor, ActorSystem, Backoff, Call, Cast, ChildSpec, Event, StopReason, handles, open_system
from supervision.testing import Scenario, cancel_sweep, run_seeded

NOW = Backoff(initial=0.0, maximum=0.0)
"""Restart at once."""


class Boom(Exception):
    """The error of our choice."""


class Get(Call[int], frozen=True):
    """The counter's value."""


class Add(Cast, frozen=True):
    n: int = 1


class Crash(Cast, frozen=True):
    """Raise Boom."""


class CrashCall(Call[int], frozen=True):
    """Raise Boom while a caller waits."""


class Nap(Call[str], frozen=True):
    """Sleep in the handler."""

    seconds: float = 1.0


class Defer(Call[str], frozen=True):
    """Answer from a task after a while."""

    seconds: float = 1.0


class Quit(Cast, frozen=True):
    """End by one's own will."""


class Log:
    """What happened, in order, over all actors of a test."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.events: list[Event] = []

    def add(self, *line: Any) -> None:
        self.lines.append(line)

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [line[1:] for line in self.lines if line[0] == kind]

    def seen(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Counter(Actor):
    """Counts, crashes and naps on demand, and logs its life."""

    def __init__(self, log: Log | None = None, on_init: Callable[[Counter], object] | None = None) -> None:
        self.log = log if log is not None else Log()
        self.n = 0
        self.on_init = on_init

    async def init(self) -> None:
        if self.on_init is not None:
            result = self.on_init(self)
            if hasattr(result, "__await__"):
                await result  # type: ignore[misc]
        self.log.add("init", self.context.name, self.context.incarnation)

    async def terminate(self, reason: StopReason) -> None:
        self.log.add("terminate", self.context.name, self.context.incarnation, reason.kind, reason.restarting)

    @handles(Get)
    def get(self, message: Get) -> int:
        return self.n

    @handles(Add)
    async def add(self, message: Add) -> None:
        self.n += message.n
        self.log.add("add", self.context.name, message.n)

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise Boom("on demand")

    @handles(CrashCall)
    def crash_call(self, message: CrashCall) -> int:
        raise Boom("on demand, in a call")

    @handles(Nap)
    async def nap(self, message: Nap) -> str:
        await trio.sleep(message.seconds)
        return "rested"

    @handles(Defer)
    def defer(self, message: Defer) -> None:
        reply = self.context.defer_reply()

        async def later() -> None:
            await trio.sleep(message.seconds)
            reply.send("later")

        self.context.start_task(later)

    @handles(Quit)
    def quit(self, message: Quit) -> None:
        self.context.stop()


def child(name: str, log: Log | None = None, **options: Any) -> ChildSpec:
    options.setdefault("backoff", NOW)
    on_init = options.pop("on_init", None)
    return ChildSpec(name, lambda: Counter(log, on_init), **options)


def system(log: Log | None = None, **options: Any) -> Any:
    """open_system() with a fixed generator, its events in the log."""
    options.setdefault("max_restarts", 1000)
    return _Open(log, options)


class _Open:
    def __init__(self, log: Log | None, options: dict[str, Any]) -> None:
        self._inner = open_system("t", random=random.Random(7), **options)
        self._log = log

    async def __aenter__(self) -> ActorSystem:
        opened = await self._inner.__aenter__()
        if self._log is not None:
            opened.events.subscribe(self._log.events.append)
        return opened

    async def __aexit__(self, *args: object) -> Any:
        return await self._inner.__aexit__(*args)


async def settle(seconds: float = 0.001) -> None:
    """Let everything that can happen now happen (virtual time)."""
    await trio.sleep(seconds)


PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
THOROUGH = PROFILE in {"ci", "soak"}


ENOUGH = settings().max_examples
"""What an invariant has to be tried with: 100 by default, 1,000 for `make ci`, 20,000 for `make soak-supervision`."""


def swept(make: Callable[[], Scenario], record: Callable[[str, object], None], **options: Any) -> int:
    """Sweep under one schedule after the other until there are ENOUGH disturbed runs; their number, recorded, too."""
    runs = 0
    for seed in itertools.count():
        report = cancel_sweep(make, seeds=[seed], **options)
        assert report.runs > 20, f"seed {seed} has only {report.runs} steps to disturb"
        runs += report.runs
        if runs >= ENOUGH:
            break
    record("examples", runs)
    return runs


def sweep_seeds(count: int) -> range:
    """The seeds of a sweep: `count`, and many times that where the profile says to soak."""
    return range(count * {"ci": 3, "soak": 25}.get(PROFILE, 1))


def seeded(*, seeds: int = 5) -> Callable[[Callable[[], Any]], Callable[[], None]]:
    """Run an async test without arguments under the virtual clock, once for each of `seeds` schedules."""

    def decorate(test: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for seed in range(seeds):
                run_seeded(test, seed=seed, limit=1e5)

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return decorate
