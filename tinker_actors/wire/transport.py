"""The Transport port over real sockets: HTTP/1.1, one pool of connections for each purpose and host.

One attempt for each request. The one exception is no second attempt: a kept-alive connection is looked at right
before it is written to, and where the server has closed it meanwhile, or the kernel takes not a single byte for it,
another one is used. A server that closes a connection in the very moment in which the request is on its way can't be
told from one that died over the request: that is an APIConnectionError with ``sent=True``. It is made rare by not
using connections longer than servers usually keep them, or than this one says (Keep-Alive: timeout=).
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import final
from urllib.parse import urlsplit

import trio

from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError, InvalidInput
from tinker_actors.ports import Purpose, Request, Response, Transport
from tinker_actors.wire.connection import Connection, Malformed, idle_seconds
from tinker_actors.wire.head import RequestHead
from tinker_actors.wire.limits import checked_limits
from tinker_actors.wire.link import LinkBroken, open_link
from tinker_actors.wire.pool import Pool, PoolStatistics

__all__ = ["HttpTransport"]

# Long polls hold a connection each; what only submits is quick.
_LIMITS: Mapping[Purpose, int] = {
    "session": 8,
    "train": 64,
    "sample": 64,
    "poll": 2000,
    "rest": 16,
    "telemetry": 4,
}
_SPARE_FILES = 128  # left to the program, of the files that the system lets it open
_KEPT_FOR = 4.0  # seconds: common servers close idle connections after 5
_EXPIRE_EVERY = 1.0


class _Place:
    """Where a URL leads."""

    __slots__ = ("host", "netloc", "port", "secure", "target")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(
                "url", f"{parts.scheme}://{parts.hostname} is no http or https URL", "Give a whole URL"
            )
        self.secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.secure else 80)
        self.netloc = parts.netloc.rpartition("@")[2]
        self.target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


@final
class HttpTransport(Transport):
    """HTTP over sockets.

    ``ssl_context`` is for https (default: the system's certificates); ``limits`` the number of connections for each
    purpose and host, of which further requests wait for one; ``kept_for`` the seconds that an idle connection is
    kept where the server does not say. Raises InvalidInput for a limit that is no positive integer.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        limits: Mapping[Purpose, int] | None = None,
        kept_for: float = _KEPT_FOR,
    ) -> None:
        self._context = ssl_context
        self._limits = _affordable({**_LIMITS, **checked_limits(limits)})
        self._kept_for = kept_for
        self._pools: dict[tuple[Purpose, bool, str, int], Pool] = {}
        self._expired_at = -math.inf
        self._closed = False

    @property
    def connections(self) -> int:
        """Open connections, idle and in use."""
        return sum(pool.open for pool in self._pools.values())

    def statistics(self) -> dict[Purpose, PoolStatistics]:
        """What each purpose's pool is doing now, to all hosts together; a purpose that was never used has zeros."""
        found: dict[Purpose, PoolStatistics] = {
            purpose: PoolStatistics(limit=limit) for purpose, limit in self._limits.items()
        }
        for (purpose, *_), pool in self._pools.items():
            so_far, more = found[purpose], pool.statistics()
            found[purpose] = PoolStatistics(
                limit=so_far.limit,
                idle=so_far.idle + more.idle,
                in_use=so_far.in_use + more.in_use,
                opening=so_far.opening + more.opening,
                waiting=so_far.waiting + more.waiting,
            )
        return found

    async def send(self, request: Request) -> Response:
        """Send ``request`` and return when the head of its response is there.

        Raises APIConnectionError, APITimeoutError, and APIResponseError for an answer that is no HTTP.
        """
        deadline = trio.current_time() + request.timeout
        place = _Place(request.url)
        exchange = _Exchange(self._pool(request.purpose, place), request, place, deadline, self._kept_for)
        with trio.move_on_at(deadline):
            await exchange.run()
            self._expire()
            return exchange
        raise exchange.timeout()

    async def aclose(self) -> None:
        """Close every connection. Requests under way end with APIConnectionError."""
        self._closed = True
        for pool in self._pools.values():
            pool.close()
        await trio.lowlevel.checkpoint()

    def _pool(self, purpose: Purpose, place: _Place) -> Pool:
        key = (purpose, place.secure, place.host, place.port)
        pool = self._pools.get(key)
        if pool is None:
            limit = self._limits[purpose]
            pool = self._pools[key] = Pool(lambda: self._connect(place), limit=limit, keep=limit)
            if self._closed:
                pool.close()
        return pool

    async def _connect(self, place: _Place) -> Connection:
        context = None
        if place.secure:
            if self._context is None:
                self._context = ssl.create_default_context()
            context = self._context
        return Connection(await open_link(place.host, place.port, context))

    def _expire(self) -> None:
        now = trio.current_time()
        if now - self._expired_at >= _EXPIRE_EVERY:
            self._expired_at = now
            for pool in self._pools.values():
                pool.expire(now)


@final
class _Exchange(Response):
    """A request on its way, and its response once the head is there."""

    def __init__(self, pool: Pool, request: Request, place: _Place, deadline: float, kept_for: float) -> None:
        self._pool = pool
        self._request = request
        self._place = place
        self._deadline = deadline
        self._kept_for = kept_for
        self._sent = False
        self._connection: Connection | None = None
        self._status = 0
        self._headers: Mapping[str, str] = {}

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    async def run(self) -> None:
        """Up to the head of the response."""
        request, place = self._request, self._place
        head = RequestHead(request.method, place.target, place.netloc, request.headers, request.size)
        try:
            connection = await self._written(head)
            self._status, self._headers = await connection.receive_head()
        except LinkBroken as error:
            raise self._lost(str(error)) from error
        except Malformed as error:
            raise self._malformed(str(error)) from error
        except BaseException:
            self._give_up()
            raise

    async def stream(self) -> AsyncGenerator[bytes]:
        """The body, piece by piece as it arrives, within the request's timeout."""
        try:
            while (piece := await self._next()) is not None:
                yield piece
        finally:
            self._give_up()

    async def read(self, limit: int) -> bytes:
        """The whole body; APIResponseError when it is longer than ``limit`` bytes."""
        pieces: list[bytes] = []
        size = 0
        try:
            while (piece := await self._next()) is not None:
                size += len(piece)
                if size > limit:
                    raise APIResponseError(f"{self._name}: an answer of more than {limit} bytes", request=self._name)
                pieces.append(piece)
        finally:
            self._give_up()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Give up the rest of the body; its connection is closed."""
        self._give_up()
        await trio.lowlevel.checkpoint()

    def timeout(self) -> APITimeoutError:
        """The error for a request whose time is over."""
        what = "no answer" if self._sent else "not sent: no connection"
        text = f"{self._name}: {what} within {self._request.timeout:g} s"
        return APITimeoutError(text, request=self._name, sent=self._sent)

    async def _written(self, head: RequestHead) -> Connection:
        while True:
            connection = self._connection = await self._pool.acquire()
            if connection.requests and connection.stale:
                self._give_up()
                continue
            reused = connection.requests > 0
            try:
                if self._request.stream is not None:
                    await connection.send_pieces(head, self._request.stream.pieces())
                else:
                    await connection.send(head, self._request.body, self._request.size or 0)
            except LinkBroken:
                if not connection.wrote:
                    if not reused:
                        raise
                    self._give_up()
                    continue
                # a server that has read enough to refuse may have answered before it closed
            finally:
                self._sent = self._sent or connection.wrote
            return connection

    async def _next(self) -> bytes | None:
        connection = self._connection
        if connection is None:
            return None
        try:
            while (piece := connection.take()) is Connection.NEED_DATA:
                with trio.move_on_at(self._deadline) as scope:
                    await connection.fill()
                if scope.cancelled_caught:
                    self._give_up()
                    text = f"{self._name}: the answer was not complete within {self._request.timeout:g} s"
                    raise APITimeoutError(text, request=self._name)
        except LinkBroken as error:
            raise self._lost(str(error)) from error
        except Malformed as error:
            raise self._malformed(str(error)) from error
        if piece is Connection.END:
            self._finish(connection)
            return None
        return piece

    def _finish(self, connection: Connection) -> None:
        self._connection = None
        if connection.recycle():
            connection.keep_until = trio.current_time() + idle_seconds(self._headers, self._kept_for)
            self._pool.release(connection)
        else:
            self._pool.discard(connection)

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.discard(connection)

    def _lost(self, problem: str) -> APIConnectionError:
        self._give_up()
        return APIConnectionError(f"{self._name}: {problem}", request=self._name, sent=self._sent)

    def _malformed(self, problem: str) -> APIResponseError:
        self._give_up()
        return APIResponseError(f"{self._name}: an answer that is no HTTP/1.1: {problem}", request=self._name)

    @property
    def _name(self) -> str:
        return f"{self._request.method} {self._place.target.partition('?')[0]}"


def _affordable(limits: dict[Purpose, int]) -> dict[Purpose, int]:
    """``limits``, with that of the polls lowered to what the system's limit of open files allows."""
    try:
        import resource
    except ImportError:  # not on this system
        return limits
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        others = sum(limit for purpose, limit in limits.items() if purpose != "poll")
        limits["poll"] = max(1, min(limits["poll"], soft - others - _SPARE_FILES))
    return limits
