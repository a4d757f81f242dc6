"""A pool of connections to one host for one purpose.

The newest idle connection is used first, so that the others can grow old and go. No step looks at all connections:
what a request costs does not grow with their number. When none is idle, new ones are opened a few at a time (twice
as many may exist after each round), and whoever waits takes whichever comes first, a new connection or one that is
given back: quick servers are served with few connections, and long polls get one each.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import final

import msgspec
import trio

from tinker_actors.wire.connection import Connection
from tinker_actors.wire.link import LinkBroken

__all__ = ["Pool", "PoolStatistics"]

_OPENED_AT_ONCE = 32


class PoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool of one purpose is doing.

    ``limit`` is the number of connections that it may have to one host; ``idle`` of them wait for their next request,
    ``in_use`` carry one, ``opening`` are being made, by a request each. ``waiting`` are the requests whose turn has
    not come: they wait for a connection to be given back, or for leave to open one.
    """

    limit: int
    idle: int = 0
    in_use: int = 0
    opening: int = 0
    waiting: int = 0

    @property
    def open(self) -> int:
        """Connections that are there, idle and in use."""
        return self.idle + self.in_use

    @property
    def requests(self) -> int:
        """Requests in flight: those that have a connection and those that have none yet."""
        return self.in_use + self.opening + self.waiting


class _Waiter:
    __slots__ = ("connection", "event")

    def __init__(self) -> None:
        self.event = trio.Event()
        # set with the event: a connection, or None for leave to open one
        self.connection: Connection | None = None


@final
class Pool:
    """At most ``limit`` connections, at most ``keep`` of them idle; ``connect`` opens one."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, limit: int, keep: int) -> None:
        self._connect = connect
        self._limit = limit
        self._keep = keep
        self._idle: deque[Connection] = deque()
        self._lent: set[Connection] = set()
        self._opening = 0
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
        self._closed = False

    @property
    def open(self) -> int:
        """Connections that are idle or in use."""
        return len(self._idle) + len(self._lent)

    @property
    def idle(self) -> int:
        """Connections that wait for their next request."""
        return len(self._idle)

    def statistics(self) -> PoolStatistics:
        """Its numbers now."""
        return PoolStatistics(
            limit=self._limit,
            idle=len(self._idle),
            in_use=len(self._lent),
            opening=self._opening,
            waiting=len(self._waiters),
        )

    async def acquire(self) -> Connection:
        """A connection, to be given back with ``release`` or ``discard``. Raises LinkBroken when none can be made."""
        if self._closed:
            raise LinkBroken("closed by this client")
        now = trio.current_time()
        self.expire(now)
        while self._idle:
            connection = self._idle.pop()
            if connection.keep_until > now:
                self._lent.add(connection)
                return connection
            connection.close()
        if not self._waiters and self._may_open():
            self._opening += 1
        else:
            waiter = _Waiter()
            self._waiters[waiter] = None
            try:
                await waiter.event.wait()
            except BaseException:
                self._withdraw(waiter)
                raise
            if self._closed:
                self._withdraw(waiter)
                raise LinkBroken("closed by this client")
            if waiter.connection is not None:
                return waiter.connection
        return await self._opened()

    def release(self, connection: Connection) -> None:
        """Give back a connection that is ready for its next request."""
        if self._closed:
            self.discard(connection)
        elif self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            waiter.connection = connection
            waiter.event.set()
        else:
            self._lent.discard(connection)
            self._idle.append(connection)
            while len(self._idle) > self._keep:
                self._idle.popleft().close()

    def discard(self, connection: Connection) -> None:
        """Close a connection that was acquired."""
        connection.close()
        self._lent.discard(connection)
        self._grant()

    def expire(self, now: float) -> None:
        """Close the idle connections whose time is over."""
        while self._idle and self._idle[0].keep_until <= now:
            self._idle.popleft().close()

    def close(self) -> None:
        """Close everything, connections in use, too; whoever waits gets LinkBroken."""
        self._closed = True
        for connection in (*self._idle, *self._lent):
            connection.close()
        self._idle.clear()
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            self._opening += 1  # leave that it gives back, for the pool is gone
            waiter.event.set()

    async def _opened(self) -> Connection:
        try:
            connection = await self._connect()
        except BaseException:
            self._opening -= 1
            self._grant()
            raise
        self._opening -= 1
        self._lent.add(connection)
        if self._closed:
            self.discard(connection)
            raise LinkBroken("closed by this client")
        self._grant()
        return connection

    def _may_open(self) -> bool:
        opened = self.open
        return self._opening < max(_OPENED_AT_ONCE, opened) and opened + self._opening < self._limit

    def _grant(self) -> None:
        while self._waiters and not self._closed and self._may_open():
            waiter, _ = self._waiters.popitem(last=False)
            self._opening += 1
            waiter.event.set()

    def _withdraw(self, waiter: _Waiter) -> None:
        if not waiter.event.is_set():
            del self._waiters[waiter]
        elif waiter.connection is not None:
            self.release(waiter.connection)
        else:
            self._opening -= 1
            self._grant()
