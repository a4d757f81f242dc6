"""Fault plans: what goes wrong, as data, and the two adapters that make it happen.

A plan is a frozen value: comparable, printable as the Python that makes it again, drawable by Hypothesis
(``tinker_actors.testing.operations.fault_plans``). ``FaultyTransport`` applies its network faults over any
Transport, the real one too, and ``PlannedPoints`` its crashes at named points of the code. Each logs what fired.

Which request a fault hits: each fault counts the wire attempts, re-sends included, whose URL path ends with its
``path`` ("" counts all), and hits number ``nth`` and the ``times - 1`` after it. Where several faults would hit
one attempt, the first in the plan does; all of them have counted it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TypeAlias, final
from urllib.parse import urlsplit

import msgspec
import trio

from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError, InvalidInput
from tinker_actors.ports import Points, Request, Response, Transport

__all__ = [
    "CrashAt",
    "Delay",
    "DropAfter",
    "DropBefore",
    "Duplicate",
    "Fault",
    "FaultPlan",
    "FaultyTransport",
    "Fired",
    "InjectedCrash",
    "NetworkFault",
    "PlannedPoints",
    "Schedule",
    "Status",
    "Truncate",
]


class InjectedCrash(Exception):
    """Raised by a fault plan where the code has reached a named point; a bug like any other to what it hits."""


class NetworkFault(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Something that happens to wire attempts ``nth`` to ``nth + times - 1`` on paths that end with ``path``."""

    path: str
    nth: int = 1
    times: int = 1

    def __post_init__(self) -> None:
        _positive("nth", self.nth)
        _positive("times", self.times)


class DropBefore(NetworkFault, frozen=True, kw_only=True):
    """The connection is lost before the server sees the request; ``known`` when the client can tell that."""

    known: bool = False


class DropAfter(NetworkFault, frozen=True, kw_only=True):
    """The server acts on the request, and its reply is lost."""


class Delay(NetworkFault, frozen=True, kw_only=True):
    """The request (or, with ``reply``, the reply) takes ``seconds`` longer.

    When that is more than the client waits, a delayed request still arrives, provided that the transport was given
    a nursery to carry it in: after its own re-send, and after whatever came behind it.
    """

    seconds: float
    reply: bool = False

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        _not_negative("seconds", self.seconds)


class Duplicate(NetworkFault, frozen=True, kw_only=True):
    """The server gets the request twice, as from a proxy that repeats it; the client sees the second reply."""


class Status(NetworkFault, frozen=True, kw_only=True):
    """The answer is an error ``status``; with ``after`` a proxy gives it when the server has acted already.

    ``retry_after`` is the Retry-After header in seconds.
    """

    status: int
    retry_after: float | None = None
    after: bool = False

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        if not 200 <= self.status <= 599:
            raise InvalidInput("status", f"{self.status} is no status of HTTP", "Use 200 to 599")
        if self.retry_after is not None:
            _not_negative("retry_after", self.retry_after)


class Truncate(NetworkFault, frozen=True, kw_only=True):
    """The connection is lost when ``keep`` bytes of the reply's body have arrived."""

    keep: int = 0

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        _not_negative("keep", self.keep)


class CrashAt(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The ``nth`` time that the code reaches ``point``, it crashes there with InjectedCrash."""

    point: str
    nth: int = 1

    def __post_init__(self) -> None:
        _positive("nth", self.nth)


Fault: TypeAlias = DropBefore | DropAfter | Delay | Duplicate | Status | Truncate | CrashAt


class FaultPlan(msgspec.Struct, frozen=True):
    """What goes wrong in one run. ``repr`` is the Python that makes an equal plan."""

    faults: tuple[Fault, ...] = ()


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that did happen: to what (a request's method and path, or a point's subject) and when."""

    fault: Fault
    subject: str
    at: float
    attempt: int


@final
class Schedule:
    """Which of the network faults of ``plan`` each attempt meets, and what has happened so far."""

    def __init__(self, plan: FaultPlan) -> None:
        self._faults = [fault for fault in plan.faults if isinstance(fault, NetworkFault)]
        self._seen = [0] * len(self._faults)
        self.fired: list[Fired] = []

    def due(self, path: str, name: str) -> NetworkFault | None:
        """Count an attempt at ``path``, called ``name`` in the log; the fault that it meets."""
        due: NetworkFault | None = None
        for index, fault in enumerate(self._faults):
            if not path.endswith(fault.path):
                continue
            self._seen[index] += 1
            attempt = self._seen[index]
            if due is None and fault.nth <= attempt < fault.nth + fault.times:
                due = fault
                assert isinstance(fault, Fault)
                self.fired.append(Fired(fault=fault, subject=name, at=trio.current_time(), attempt=attempt))
        return due


@final
class FaultyTransport(Transport):
    """``inner`` with the network faults of ``plan``.

    With a ``nursery`` a delayed request outlives a client that gave up waiting for it, as it would in a real
    network; without one it is lost with its client.
    """

    def __init__(self, inner: Transport, plan: FaultPlan, *, nursery: trio.Nursery | None = None) -> None:
        self._inner = inner
        self._nursery = nursery
        self._schedule = Schedule(plan)

    @property
    def fired(self) -> tuple[Fired, ...]:
        """What has happened so far, in order."""
        return tuple(self._schedule.fired)

    async def send(self, request: Request) -> Response:
        """Send ``request``, with the fault that is due; see the Transport port."""
        path = urlsplit(request.url).path
        name = f"{request.method} {path}"
        match self._schedule.due(path, name):
            case None:
                return await self._inner.send(request)
            case DropBefore(known=known):
                await trio.lowlevel.checkpoint()
                raise APIConnectionError("connection reset (injected)", request=name, sent=not known)
            case DropAfter():
                await self._discard(request)
                raise APIConnectionError("connection reset before the reply (injected)", request=name)
            case Delay(seconds=seconds, reply=reply):
                return await self._delayed(request, name, seconds, reply=reply)
            case Duplicate():
                await self._discard(request)
                return await self._inner.send(request)
            case Status(status=status, retry_after=retry_after, after=after):
                if after:
                    await self._discard(request)
                await trio.lowlevel.checkpoint()
                return _StatusResponse(status, retry_after)
            case Truncate(keep=keep):
                return _TruncatedResponse(await self._inner.send(request), keep, name)
            case other:
                raise AssertionError(f"no rule for {other!r}")

    async def aclose(self) -> None:
        """Close ``inner``."""
        await self._inner.aclose()

    async def _discard(self, request: Request) -> None:
        response = await self._inner.send(request)
        await response.aclose()

    async def _delayed(self, request: Request, name: str, seconds: float, *, reply: bool) -> Response:
        deadline = trio.current_time() + request.timeout
        if reply:
            response = await self._inner.send(request)
            with trio.move_on_at(deadline):
                try:
                    await trio.sleep(seconds)
                except trio.Cancelled:
                    with trio.CancelScope(shield=True):
                        await response.aclose()
                    raise
                return response
        elif self._nursery is None:
            with trio.move_on_at(deadline):
                await trio.sleep(seconds)
                return await self._inner.send(request)
        else:
            late = _LateExchange(self._inner, request, seconds)
            self._nursery.start_soon(late.run, name=f"late {name}")
            with trio.move_on_at(deadline):
                return await late.response()
        raise APITimeoutError(f"no answer within {request.timeout:g} s (delay injected)", request=name)


@final
class PlannedPoints(Points):
    """Raises InjectedCrash where ``plan`` says so."""

    def __init__(self, plan: FaultPlan) -> None:
        self._crashes = [fault for fault in plan.faults if isinstance(fault, CrashAt)]
        self._reached: dict[str, int] = {}
        self._fired: list[Fired] = []

    @property
    def fired(self) -> tuple[Fired, ...]:
        """What has happened so far, in order."""
        return tuple(self._fired)

    @property
    def reached(self) -> Mapping[str, int]:
        """How often each point was reached so far."""
        return dict(self._reached)

    def reach(self, point: str, subject: str) -> None:
        """Count, and crash if it is time."""
        attempt = self._reached[point] = self._reached.get(point, 0) + 1
        for fault in self._crashes:
            if fault.point == point and fault.nth == attempt:
                self._fired.append(Fired(fault=fault, subject=subject, at=trio.current_time(), attempt=attempt))
                raise InjectedCrash(f"injected at {point} number {attempt}, {subject}")


@final
class _LateExchange:
    """A delayed request on its way, in a task that outlives the client's patience."""

    def __init__(self, inner: Transport, request: Request, seconds: float) -> None:
        self._inner = inner
        self._request = request
        self._seconds = seconds
        self._arrived = trio.Event()
        self._waiting = True
        self._response: Response | None = None
        self._error: APIConnectionError | None = None

    async def run(self) -> None:
        await trio.sleep(self._seconds)
        try:
            self._response = await self._inner.send(self._request)
        except APIConnectionError as error:
            self._error = error
        if not self._waiting and self._response is not None:
            await self._response.aclose()
        self._arrived.set()

    async def response(self) -> Response:
        try:
            await self._arrived.wait()
        except trio.Cancelled:
            self._waiting = False
            if self._response is not None:  # arrived in the very tick in which the client gave up
                with trio.CancelScope(shield=True):
                    await self._response.aclose()
            raise
        if self._error is not None:
            raise self._error
        assert self._response is not None
        return self._response


@final
class _StatusResponse(Response):
    """An answer of something between client and server."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        self._status = status
        self._body = msgspec.json.encode({"detail": f"HTTP {status} injected by the fault plan"})
        self._headers = {"content-type": "application/json", "content-length": str(len(self._body))}
        if retry_after is not None:
            self._headers["retry-after"] = f"{retry_after:g}"

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    async def stream(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield self._body

    async def read(self, limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._body

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@final
class _TruncatedResponse(Response):
    """``inner`` whose connection breaks within the body."""

    def __init__(self, inner: Response, keep: int, name: str) -> None:
        self._inner = inner
        self._keep = keep
        self._name = name

    @property
    def status(self) -> int:
        return self._inner.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._inner.headers

    async def stream(self) -> AsyncIterator[bytes]:
        left = self._keep
        pieces = self._inner.stream()
        try:
            async for piece in pieces:
                if len(piece) > left:
                    if left:
                        yield piece[:left]
                    raise APIConnectionError("connection reset within the reply (injected)", request=self._name)
                left -= len(piece)
                yield piece
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
            await self._inner.aclose()

    async def read(self, limit: int) -> bytes:
        whole = b"".join([piece async for piece in self.stream()])
        if len(whole) > limit:
            raise APIResponseError(f"an answer of more than {limit} bytes", request=self._name)
        return whole

    async def aclose(self) -> None:
        await self._inner.aclose()


def _positive(field: str, value: int) -> None:
    if value < 1:
        raise InvalidInput(field, f"{value} is not positive", "Count from 1")


def _not_negative(field: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise InvalidInput(field, f"{value} is out of range", "Use 0 or more")
