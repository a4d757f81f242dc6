"""Promises and their results: immutable once there, kept for a while, waited for by any number of polls."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import TypeAlias, final

import msgspec
import trio

from tinker_actors.local.refusals import gone, not_found
from tinker_actors.types import FailedResult, RequestErrorCategory

__all__ = ["FutureTable", "Progress", "Result", "ServerFuture"]

Result: TypeAlias = msgspec.Struct
"""What an operation gave: one of the result types, or FailedResult."""


class Progress(msgspec.Struct, frozen=True):
    """What a poll is told meanwhile: a queue state of the protocol, and why."""

    queue_state: str
    reason: str


def _accepted() -> Progress:
    return Progress("active", "accepted")


_ID = re.compile(r"req-([0-9a-f]{8})-([1-9][0-9]{0,18})\Z")


@final
class ServerFuture:
    """One promise."""

    __slots__ = ("_done", "_result", "done_at", "explain", "request_id", "what")

    def __init__(self, request_id: str, what: str) -> None:
        self.request_id = request_id
        self.what = what
        self.explain: Callable[[], Progress] = _accepted
        """Says how far the operation has come."""
        self.done_at: float | None = None
        self._result: Result | None = None
        self._done = trio.Event()

    @property
    def result(self) -> Result | None:
        """What the operation gave; None as long as it has not."""
        return self._result

    def resolve(self, result: Result) -> None:
        """Give the result, once."""
        assert self._result is None, f"{self.request_id} has its result"
        self._result = result
        self.done_at = trio.current_time()
        self._done.set()

    async def wait(self) -> None:
        """Wait for the result."""
        await self._done.wait()


@final
class FutureTable:
    """All promises of one server process.

    Ids name the process (``process_id``), so that one from an earlier process is told from one that never was.
    """

    def __init__(self, process_id: str, retention: float) -> None:
        self._process_id = process_id
        self._retention = retention
        self._futures: dict[str, ServerFuture] = {}
        self._done: deque[ServerFuture] = deque()
        self._issued = 0
        self._holds: set[trio.CancelScope] = set()
        self._released = False

    def create(self, what: str) -> ServerFuture:
        """A new promise; ``what`` says for what, in error texts."""
        self._forget_old()
        self._issued += 1
        future = ServerFuture(f"req-{self._process_id}-{self._issued}", what)
        self._futures[future.request_id] = future
        return future

    def finish(self, future: ServerFuture, result: Result) -> None:
        """Give ``future`` its result; from now on its retention counts."""
        future.resolve(result)
        self._done.append(future)

    def fail(self, future: ServerFuture, error: str, category: RequestErrorCategory) -> None:
        """Let ``future`` fail."""
        self.finish(future, FailedResult(error=error, category=category))

    async def hold(self, future: ServerFuture, seconds: float) -> Result | None:
        """The result, waiting up to ``seconds`` for it; None when it is not there then."""
        if future.result is None and not self._released:
            with trio.move_on_after(seconds) as scope:
                self._holds.add(scope)
                try:
                    await future.wait()
                finally:
                    self._holds.discard(scope)
        else:
            await trio.lowlevel.checkpoint()
        return future.result

    def release(self) -> None:
        """Hold no more: the server is about to end, and who waits should know at once."""
        self._released = True
        for scope in self._holds:
            scope.cancel(reason="the server is about to end")

    def find(self, request_id: str) -> ServerFuture:
        """The promise of this id. Refuses with 410 when it was kept long enough or belongs to an earlier process,
        and with 404 when it never was.
        """
        self._forget_old()
        future = self._futures.get(request_id)
        if future is not None:
            return future
        match = _ID.match(request_id)
        if match is None:
            raise not_found(f"request_id {request_id!r}: there is no such promise")
        if match[1] != self._process_id:
            raise gone(f"request_id {request_id}: the server has restarted since, and its promises are lost")
        if int(match[2]) > self._issued:
            raise not_found(f"request_id {request_id}: there is no such promise")
        raise gone(f"request_id {request_id}: its result was kept for {self._retention:g} s and is gone")

    def _forget_old(self) -> None:
        limit = trio.current_time() - self._retention
        while self._done:
            done_at = self._done[0].done_at
            assert done_at is not None
            if done_at > limit:
                break
            del self._futures[self._done.popleft().request_id]
