"""A program that goes up to one phase of its life, says "phase", and waits there for a signal (test_signals.py)."""

from __future__ import annotations

import random
import signal
import sys

import trio

from supervision import (
    Actor,
    ActorDown,
    Backoff,
    Call,
    Cast,
    ChildSpec,
    StopReason,
    SupervisorSpec,
    handles,
    open_system,
)

PHASE = sys.argv[1]
LONG = 60.0


def say(text: str) -> None:
    print(text, flush=True)


def arrived() -> None:
    """Say so once whoever is here waits: ^C may strike in any step of a user's."""

    async def announce() -> None:
        await trio.sleep(0.3 if PHASE == "stopping" else 0.05)
        say("phase")

    trio.lowlevel.spawn_system_task(announce)


class Work(Call[None], frozen=True):
    pass


class Crash(Cast, frozen=True):
    pass


class Worker(Actor):
    async def init(self) -> None:
        if PHASE == "starting" and self.context.name == "second":
            arrived()
            await trio.sleep(LONG)
        if PHASE == "starting a child" and self.context.name == "third":
            arrived()
            await trio.sleep(LONG)
        if PHASE == "mending" and self.context.incarnation > 1:
            arrived()
            await trio.sleep(LONG)

    @handles(Work)
    async def work(self, message: Work) -> None:
        if PHASE == "spinning":
            say("phase")
            while True:
                pass
        arrived()
        await trio.sleep(LONG)

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise ValueError("on demand")

    async def terminate(self, reason: StopReason) -> None:
        if PHASE == "terminating" and self.context.name == "second":
            arrived()
        if reason.kind != "crash":
            await trio.sleep(LONG if PHASE == "hanging" else 0.3)
            say(f"end {self.context.name}")


def worker(name: str) -> ChildSpec:
    delay = LONG if PHASE == "restarting" else 0.0
    return ChildSpec(name, Worker, shutdown=LONG, backoff=Backoff(initial=delay, maximum=delay, jitter=0))


async def main() -> None:
    async with open_system("t", random=random.Random(0)) as system:
        group = "one_for_all" if PHASE == "mending" else "one_for_one"
        g = await system.start_child(
            SupervisorSpec("g", strategy=group, children=[worker("first"), worker("second")])
        )
        second = g.child("second")
        assert not hasattr(second, "start_child")
        if PHASE in {"handling", "spinning"}:
            await second.call(Work(), 2 * LONG)  # type: ignore[union-attr]
        elif PHASE in {"restarting", "mending"}:
            await second.cast(Crash())  # type: ignore[union-attr]
            await trio.sleep(0.1)
            if PHASE == "restarting":
                arrived()
            await trio.sleep(LONG)
        elif PHASE == "starting a child":
            await g.start_child(worker("third"))
        elif PHASE == "stopping":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second.call, Work(), 2 * LONG)  # type: ignore[union-attr]
                await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
        elif PHASE in {"idle", "hanging"}:
            arrived()
            await trio.sleep(LONG)


async def until_terminated() -> bool:
    """SIGTERM is an outer cancellation: that is what a program makes of it."""
    terminated = False
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            nonlocal terminated
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    terminated = True
                    nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        try:
            await main()
        except ActorDown:
            if not terminated:
                raise
        nursery.cancel_scope.cancel()
    return terminated


try:
    say("terminated" if trio.run(until_terminated) else "left")
except BaseException as error:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, KeyboardInterrupt):
        raise
    say("interrupted")
