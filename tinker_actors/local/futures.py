"""Promises and their results: immutable once there, kept for a while, waited for by any number of polls."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias, final

import msgspec
import trio

from tinker_actors.local.owners import Owner
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


_ID = re.compile(r"req-([0-9a-f]{8})-([0-9a-f]{8})-([1-9][0-9]{0,18})\Z")


@final
class ServerFuture:
    """One promise."""

    __slots__ = (
        "_done",
        "_result",
        "cancel",
        "created_at",
        "done_at",
        "explain",
        "finished",
        "owner",
        "request_id",
        "session_id",
        "what",
    )

    def __init__(self, owner: Owner, session_id: str, request_id: str, what: str) -> None:
        self.owner = owner
        self.session_id = session_id
        self.request_id = request_id
        self.what = what
        self.explain: Callable[[], Progress] = _accepted
        """Says how far the operation has come."""
        self.cancel: Callable[[], None] | None = None
        """Lets what was not begun fail; None for what can't be cancelled."""
        self.finished: Callable[[ServerFuture], None] | None = None
        """Called once, when the result is there."""
        self.created_at = trio.current_time()
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

    def drop(self) -> None:
        """Nobody needs the result any more: free its memory."""
        self._result = None

    async def wait(self) -> None:
        """Wait for the result."""
        await self._done.wait()


@final
class FutureTable:
    """All promises of one server process.

    Ids name the process (``process_id``) and, by a digest, the owner, and are counted for each owner: so one's own
    of an earlier process, or of long ago, is told from one that never was, and another's is not.
    """

    def __init__(self, process_id: str, retention: float) -> None:
        self._process_id = process_id
        self._retention = retention
        self._futures: dict[tuple[Owner, str], ServerFuture] = {}
        self._done: deque[ServerFuture] = deque()
        self._arrived = trio.Event()
        self._issued: dict[Owner, int] = {}
        self._holds: set[trio.CancelScope] = set()
        self._released = False

    def create(self, owner: Owner, session_id: str, what: str) -> ServerFuture:
        """A new promise to a session of ``owner``'s; ``what`` says for what, in error texts."""
        self._forget_old()
        number = self._issued[owner] = self._issued.get(owner, 0) + 1
        future = ServerFuture(owner, session_id, f"req-{self._process_id}-{_tag(owner)}-{number}", what)
        self._futures[owner, future.request_id] = future
        return future

    def finish(self, future: ServerFuture, result: Result) -> None:
        """Give ``future`` its result; from now on its retention counts."""
        future.resolve(result)
        self._done.append(future)
        self._arrived.set()
        if future.finished is not None:
            future.finished(future)

    def fail(self, future: ServerFuture, error: str, category: RequestErrorCategory) -> None:
        """Let ``future`` fail."""
        self.finish(future, FailedResult(error=error, category=category))

    async def hold(self, future: ServerFuture, seconds: float) -> Result | None:
        """The result, waiting up to ``seconds`` for it; None when it is not there then."""
        await self.hold_for(future.wait, 0.0 if future.result is not None else seconds)
        return future.result

    async def hold_for(self, wait: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Wait for ``wait`` up to ``seconds``, and not at all once the server is about to end."""
        if self._released or seconds <= 0.0:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(seconds) as scope:
            self._holds.add(scope)
            try:
                await wait()
            finally:
                self._holds.discard(scope)

    def result_of(self, owner: Owner, request_id: str) -> Result | None:
        """The owner's result of this id; None when there is none, or no longer."""
        future = self._futures.get((owner, request_id))
        return None if future is None else future.result

    def forget(self, owner: Owner, request_id: str) -> None:
        """The owner has the result of ``request_id``, so that it need not be kept. One that is to come is."""
        future = self._futures.get((owner, request_id))
        if future is not None and future.result is not None:
            del self._futures[owner, request_id]
            future.drop()

    def lose_all(self) -> None:
        """Forget every promise, with or without its result; for tests of clients."""
        self._futures.clear()

    def release(self) -> None:
        """Hold no more: the server is about to end, and who waits should know at once."""
        self._released = True
        for scope in self._holds:
            scope.cancel(reason="the server is about to end")

    def find(self, owner: Owner, request_id: str) -> ServerFuture:
        """The promise of this id. Refuses with 410 when it was kept long enough or belongs to an earlier process,
        and with 404 when it never was or is another owner's.
        """
        self._forget_old()
        future = self._futures.get((owner, request_id))
        if future is not None:
            return future
        match = _ID.match(request_id)
        if match is None or match[2] != _tag(owner):
            raise not_found(f"request_id {request_id!r}: there is no such promise")
        if match[1] != self._process_id:
            raise gone(f"request_id {request_id}: the server has restarted since, and its promises are lost")
        if int(match[3]) > self._issued.get(owner, 0):
            raise not_found(f"request_id {request_id}: there is no such promise")
        raise gone(f"request_id {request_id}: its result was kept for {self._retention:g} s and is gone")

    async def forget_in_time(self) -> None:
        """Forget results when they were kept long enough, for ever."""
        while True:
            self._forget_old()
            if not self._done:
                self._arrived = trio.Event()
                await self._arrived.wait()
            done_at = self._done[0].done_at
            assert done_at is not None
            await trio.sleep_until(done_at + self._retention)

    def _forget_old(self) -> None:
        now = trio.current_time()
        while self._done:
            done_at = self._done[0].done_at
            assert done_at is not None
            if done_at + self._retention > now:  # as forget_in_time adds them up
                break
            forgotten = self._done.popleft()
            self._futures.pop((forgotten.owner, forgotten.request_id), None)


def _tag(owner: Owner) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:8]
