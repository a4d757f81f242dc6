"""FaultyTransport: any Transport, with the faults that a plan has at requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Final, final
from urllib.parse import urlsplit

import msgspec
import trio

from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError, InvalidInput
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.testing.faults.kinds import AtRequest
from tinker_actors.testing.faults.network import (
    Delay,
    DropAfter,
    DropBefore,
    Duplicate,
    Partition,
    RefuseSeqId,
    Reorder,
    Reset,
    Status,
    Truncate,
)
from tinker_actors.testing.faults.plan import FaultPlan, Fired, Schedule
from tinker_actors.testing.faults.server import ServerFault, ServerUnderTest

__all__ = ["FaultyTransport"]

_KEY: Final = "x-idempotency-key"
_ROUNDING: Final = 1e-6  # seconds


@final
class FaultyTransport(Transport):
    """``inner`` with the faults of ``plan`` that happen at requests.

    With a ``nursery`` a request that is late outlives a client that gave up waiting for it, as it would in a real
    network; without one it is lost with its client. Faults of the server happen to ``server``: raises InvalidInput
    for a plan that has some where there is none, or no nursery.
    """

    def __init__(
        self,
        inner: Transport,
        plan: FaultPlan,
        *,
        nursery: trio.Nursery | None = None,
        server: ServerUnderTest | None = None,
    ) -> None:
        for index, fault in enumerate(plan.faults):
            if isinstance(fault, ServerFault) and (server is None or nursery is None):
                problem = f"is a {type(fault).__name__}, and there is no server here that it could happen to"
                raise InvalidInput(f"faults[{index}]", problem, "Use it in a simulation, or leave it out")
        self._inner = inner
        self._nursery = nursery
        self._server = server
        self._schedule = Schedule(plan)
        self._whole_at = 0.0
        self._not_before: dict[str, float] = {}
        self.hasty: list[str] = []
        """Requests that came again before the time that a Status of the plan has asked for."""
        self._answered = 0
        self._answers = trio.lowlevel.ParkingLot()

    @property
    def fired(self) -> tuple[Fired, ...]:
        """What has happened so far, in order."""
        return tuple(self._schedule.fired)

    async def send(self, request: Request) -> Response:
        """Send ``request``, with the fault that is due; see the Transport port."""
        path = urlsplit(request.url).path
        name = f"{request.method} {path}"
        fault = self._schedule.due(path, name)
        self._heed(request, fault, name)
        match fault:
            case None:
                return await self._passed(request, name)
            case DropBefore(known=known):
                await trio.lowlevel.checkpoint()
                raise APIConnectionError("connection reset (injected)", request=name, sent=not known)
            case DropAfter():
                await self._discard(request, name)
                raise APIConnectionError("connection reset before the reply (injected)", request=name)
            case Reset():
                if self._nursery is None:
                    await self._discard(request, name)
                else:
                    self._nursery.start_soon(self._discard_late, request, name, name=f"reset {name}")
                    await trio.lowlevel.checkpoint()
                raise APIConnectionError("connection reset while the server works (injected)", request=name)
            case Delay(seconds=seconds, reply=True):
                return await self._late_reply(request, name, seconds)
            case Delay(seconds=seconds):
                return await self._late(request, name, partial(trio.sleep, seconds))
            case Reorder(behind=behind, seconds=seconds):
                return await self._late(request, name, partial(self._overtaken, behind, seconds))
            case Duplicate():
                await self._discard(request, name)
                return await self._passed(request, name)
            case Partition(seconds=seconds):
                self._whole_at = max(self._whole_at, trio.current_time() + seconds)
                return await self._passed(request, name)
            case Status(status=status, retry_after=retry_after, after=after, body=body):
                if after:
                    await self._discard(request, name)
                await trio.lowlevel.checkpoint()
                return _StatusResponse(status, retry_after, f"HTTP {status} injected by the fault plan", body)
            case RefuseSeqId(expected=expected):
                await trio.lowlevel.checkpoint()
                return _StatusResponse(409, None, f"expected seq_id {expected} (injected by the fault plan)")
            case Truncate(keep=keep):
                return _TruncatedResponse(await self._passed(request, name), keep, name)
            case ServerFault():
                assert self._server is not None
                assert self._nursery is not None
                happened = trio.Event()  # to its end, also when the client gives up or dies meanwhile
                self._nursery.start_soon(_suffer, self._server, fault, happened, name=f"fault at {name}")
                if not fault.later:
                    await happened.wait()
                return await self._passed(request, name)
            case other:
                raise AssertionError(f"no rule for {other!r}")

    def _heed(self, request: Request, fault: AtRequest | None, name: str) -> None:
        key = next((value for header, value in request.headers if header == _KEY), None)
        if key is None:
            return
        now = trio.current_time()
        early = self._not_before.pop(key, now) - now
        if early > _ROUNDING:
            self.hasty.append(f"{name} came again {early:.3f} s before its Retry-After was over")
        if isinstance(fault, Status) and fault.retry_after is not None:
            self._not_before[key] = now + fault.retry_after

    async def aclose(self) -> None:
        """Close ``inner``."""
        await self._inner.aclose()

    async def _passed(self, request: Request, name: str) -> Response:
        """Send it through what may be a partition, in both directions."""
        if trio.current_time() >= self._whole_at:
            response = await self._inner.send(request)
            if trio.current_time() >= self._whole_at:
                self._count()
                return response
        else:
            with trio.move_on_after(request.timeout) as scope:
                await self._whole()
            if scope.cancelled_caught:
                raise _timed_out(request, name)
            response = await self._inner.send(request)
        with trio.move_on_after(request.timeout) as scope:
            try:
                await self._whole()
            except trio.Cancelled:
                await _close_shielded(response)
                raise
        if scope.cancelled_caught:
            raise _timed_out(request, name)
        self._count()
        return response

    async def _whole(self) -> None:
        while trio.current_time() < self._whole_at:  # noqa: ASYNC110  # it may be put off meanwhile
            await trio.sleep_until(self._whole_at)

    def _count(self) -> None:
        self._answered += 1
        self._answers.unpark_all()

    async def _overtaken(self, behind: int, seconds: float) -> None:
        enough = self._answered + behind
        with trio.move_on_after(seconds):
            while self._answered < enough:
                await self._answers.park()

    async def _discard(self, request: Request, name: str) -> None:
        response = await self._passed(request, name)
        await response.aclose()

    async def _discard_late(self, request: Request, name: str) -> None:
        try:
            await self._discard(request, name)
        except APIConnectionError:
            return  # nobody waits for it

    async def _late_reply(self, request: Request, name: str, seconds: float) -> Response:
        deadline = trio.current_time() + request.timeout
        response = await self._passed(request, name)
        with trio.move_on_at(deadline):
            try:
                await trio.sleep(seconds)
            except trio.Cancelled:
                await _close_shielded(response)
                raise
            return response
        raise _timed_out(request, name)

    async def _late(self, request: Request, name: str, held: Callable[[], Awaitable[None]]) -> Response:
        deadline = trio.current_time() + request.timeout
        if self._nursery is None:
            with trio.move_on_at(deadline):
                await held()
                return await self._passed(request, name)
        else:
            late = _LateExchange(lambda: self._passed(request, name), held)
            self._nursery.start_soon(late.run, name=f"late {name}")
            with trio.move_on_at(deadline):
                return await late.response()
        raise _timed_out(request, name)


async def _suffer(server: ServerUnderTest, fault: ServerFault, happened: trio.Event) -> None:
    if fault.later:
        await trio.sleep(fault.later)
    await server.suffer(fault)
    happened.set()


async def _close_shielded(response: Response) -> None:
    with trio.CancelScope(shield=True):
        await response.aclose()


def _timed_out(request: Request, name: str) -> APITimeoutError:
    return APITimeoutError(f"no answer within {request.timeout:g} s (delay injected)", request=name)


@final
class _LateExchange:
    """A delayed request on its way, in a task that outlives the client's patience."""

    def __init__(self, send: Callable[[], Awaitable[Response]], held: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._held = held
        self._arrived = trio.Event()
        self._waiting = True
        self._response: Response | None = None
        self._error: APIConnectionError | None = None

    async def run(self) -> None:
        await self._held()
        try:
            self._response = await self._send()
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
                await _close_shielded(self._response)
            raise
        if self._error is not None:
            raise self._error
        assert self._response is not None
        return self._response


@final
class _StatusResponse(Response):
    """An answer of something between client and server."""

    def __init__(self, status: int, retry_after: float | None, detail: str, body: str | None = None) -> None:
        self._status = status
        self._body = msgspec.json.encode({"detail": detail}) if body is None else body.encode()
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
