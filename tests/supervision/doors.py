"""An actor that sets aside what comes while its door is shut."""

from __future__ import annotations

from typing import Any, ClassVar

import trio

from supervision import (
    Actor,
    Call,
    CannotDefer,
    Cast,
    ChildSpec,
    Down,
    handles,
)
from tests.supervision.world import NOW, Boom, Crash, Log, settle


class Knock(Cast, frozen=True):
    """Handled while the door is open."""

    n: int


class Again(Knock, frozen=True):
    redeliver: ClassVar[int] = 1


class Ask(Call[int], frozen=True):
    """Answered while the door is open."""

    n: int


class Open(Cast, frozen=True):
    """From now on."""


class Close(Cast, frozen=True):
    """From now on."""


class Do(Call[str], frozen=True):
    """What the text says."""

    what: str


class Door(Actor):
    """Defers what comes while it is closed."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.open = False

    @handles(Knock)
    async def knock(self, message: Knock) -> None:
        if not self.open:
            await trio.lowlevel.checkpoint()
            self.context.defer()
            return
        self.log.add("knock", message.n)
        if message.n < 0:
            raise Boom

    @handles(Ask)
    def ask(self, message: Ask) -> int:
        if not self.open:
            self.context.defer()
            return -1  # counts no more
        self.log.add("ask", message.n)
        return message.n

    @handles(Open)
    def opened(self, message: Open) -> None:
        self.open = True
        self.context.replay_deferred()

    @handles(Close)
    def closed(self, message: Close) -> None:
        self.open = False

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise Boom

    @handles(Down)
    def down(self, message: Down) -> None:
        self.log.add("down", message.path, self.open)
        if not self.open:
            self.context.defer()

    @handles(Do)
    async def do(self, message: Do) -> str:
        context = self.context
        if message.what == "defer twice":
            context.defer()
            context.defer()
        if message.what == "defer, then its reply":
            context.defer()
            context.defer_reply()
        if message.what == "defer its reply, then it":
            reply = context.defer_reply()
            try:
                context.defer()
            finally:
                reply.send("replied")
        if message.what == "defer in a task":
            caught: list[CannotDefer] = []

            async def task() -> None:
                try:
                    context.defer()
                except CannotDefer as error:
                    caught.append(error)

            context.start_task(task)
            await settle()
            return str(caught[0])
        if message.what == "nap, then defer":
            await trio.sleep(1)
            context.defer()
        if message.what == "defer, then crash":
            context.defer()
            raise Boom
        if message.what == "defer once, and replay" and not self.open:
            self.open = True
            context.defer()
            context.replay_deferred()
        return "done"


def door(log: Log, **options: Any) -> ChildSpec:
    return ChildSpec("a", lambda: Door(log), backoff=NOW, **options)
