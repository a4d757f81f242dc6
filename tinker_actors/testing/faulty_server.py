"""Faults at the server: an ASGI application that loses, repeats, delays and refuses requests, as a plan says."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, Final, final

import msgspec
import trio

from tinker_actors.errors import InvalidInput
from tinker_actors.local.connections import ABORT
from tinker_actors.testing.faults import (
    FAULT_KINDS,
    Delay,
    DropAfter,
    DropBefore,
    Duplicate,
    Fault,
    FaultPlan,
    Fired,
    NetworkFault,
    Partition,
    RefuseSeqId,
    Reorder,
    Reset,
    Schedule,
    Status,
    Truncate,
    names_of,
    plan_from_json,
)
from tinker_actors.testing.network import Application, Message

__all__ = ["drawn_fault_plan", "FaultyApplication", "read_fault_plan", "require_network_faults"]

_log = logging.getLogger("tinker_actors.faults")

_Receive = Callable[[], Awaitable[Message]]
_Send = Callable[[Message], Awaitable[None]]

_PATHS: Final = (
    "/create_session",
    "/create_model",
    "/forward_backward",
    "/optim_step",
    "/save_weights",
    "/save_weights_for_sampler",
    "/load_weights",
    "/create_sampling_session",
    "/asample",
    "/retrieve_future",
    "/session_heartbeat",
)
_STATUSES: Final = (408, 429, 500, 502, 503, 504)
_LONGEST_DELAY: Final = 2.0  # seconds
_AT_REQUESTS: Final = tuple(kind for kind in FAULT_KINDS if issubclass(kind, NetworkFault))
_LAST: Final = 40  # the latest request of its path that a drawn fault hits


@final
class FaultyApplication:
    """``inner`` with the network faults of ``plan``, each said in the log when it happens.

    Losing a connection takes a server whose connections can be broken off: ours. Raises InvalidInput for a plan
    with faults of another kind.
    """

    def __init__(self, inner: Application, plan: FaultPlan) -> None:
        require_network_faults(plan)
        self._inner = inner
        self._schedule = Schedule(plan)
        self._whole_at = 0.0
        self._answered = 0
        self._answers = trio.lowlevel.ParkingLot()

    @property
    def fired(self) -> tuple[Fired, ...]:
        """What has happened so far, in order."""
        return tuple(self._schedule.fired)

    async def __call__(self, scope: Message, receive: _Receive, send: _Send) -> None:
        """Serve one request, with the fault that is due."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        fault = self._due(scope)
        if isinstance(fault, Partition):
            self._whole_at = max(self._whole_at, trio.current_time() + fault.seconds)
        await self._whole()
        await self._serve(fault, scope, receive, self._held(send))
        self._answered += 1
        self._answers.unpark_all()

    async def _serve(self, fault: NetworkFault | None, scope: Message, receive: _Receive, send: _Send) -> None:
        match fault:
            case None | Partition():
                await self._inner(scope, receive, send)
            case DropBefore():
                await trio.lowlevel.checkpoint()
                _abort(scope, reset=True)
            case DropAfter():
                await self._inner(scope, receive, _nowhere)
                _abort(scope, reset=True)
            case Reset():
                body = await _body(receive)
                _abort(scope, reset=True)
                await self._inner(scope, _again(body, receive), _nowhere)
            case Delay(seconds=seconds, reply=reply):
                if not reply:
                    await trio.sleep(seconds)
                await self._inner(scope, receive, _late(send, seconds) if reply else send)
            case Reorder(behind=behind, seconds=seconds):
                enough = self._answered + behind
                with trio.move_on_after(seconds):
                    while self._answered < enough:
                        await self._answers.park()
                await self._inner(scope, receive, send)
            case Duplicate():
                body = await _body(receive)
                await self._inner(scope, _again(body, receive), _nowhere)
                await self._inner(scope, _again(body, receive), send)
            case Status(after=after):
                if after:
                    await self._inner(scope, receive, _nowhere)
                detail = f"HTTP {fault.status} injected by the fault plan"
                await _answer(send, fault.status, fault.retry_after, detail, fault.body)
            case RefuseSeqId(expected=expected):
                await _answer(send, 409, None, f"expected seq_id {expected} (injected by the fault plan)")
            case Truncate(keep=keep):
                await self._inner(scope, receive, _cut(scope, send, keep))
            case other:
                raise AssertionError(f"no rule for {other!r}")

    def _due(self, scope: Message) -> NetworkFault | None:
        name = f"{scope['method']} {scope['path']}"
        fault = self._schedule.due(str(scope["path"]), name)
        if fault is None:
            return None
        assert isinstance(fault, NetworkFault)
        _log.warning("%s meets %r", name, fault)
        return fault

    async def _whole(self) -> None:
        while trio.current_time() < self._whole_at:  # noqa: ASYNC110  # it may be put off meanwhile
            await trio.sleep_until(self._whole_at)

    def _held(self, send: _Send) -> _Send:
        async def held(message: Message) -> None:
            await self._whole()
            await send(message)

        return held


def read_fault_plan(file: Path) -> FaultPlan:
    """The plan in ``file``, as JSON: see ``plan_from_json``.

    Raises InvalidInput, naming the file and the field that is wrong; a fault that happens at no request is, too.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidInput("faults", f"{file} can't be read: {error.strerror}", "Give a file of JSON") from None
    try:
        plan = plan_from_json(data)
        require_network_faults(plan)
    except InvalidInput as error:
        raise InvalidInput(f"{file}: {error.field}", error.problem, error.cure) from None
    return plan


def require_network_faults(plan: FaultPlan) -> None:
    """Raise InvalidInput for a plan with faults that no request meets."""
    for index, fault in enumerate(plan.faults):
        if not isinstance(fault, NetworkFault):
            problem = f"is a {type(fault).__name__}, which happens in {fault.where}, and not at a server's requests"
            raise InvalidInput(f"faults[{index}]", problem, f"Leave it out, or give one of {names_of(_AT_REQUESTS)}")


def drawn_fault_plan(seed: int, count: int = 20) -> FaultPlan:
    """``count`` faults drawn with ``seed``, over the first requests of each path. Clients can mend them all."""
    draw = Random(seed)
    return FaultPlan(tuple([_drawn(draw) for _ in range(count)]))


def _drawn(draw: Random) -> Fault:
    place: dict[str, Any] = {"path": draw.choice(_PATHS), "nth": draw.randint(1, _LAST)}
    seconds, status = round(draw.uniform(0.01, _LONGEST_DELAY), 3), draw.choice(_STATUSES)
    flag = draw.random() < 0.5
    faults: tuple[Fault, ...] = (
        DropBefore(**place),
        DropAfter(**place),
        Delay(**place, seconds=seconds, reply=flag),
        Duplicate(**place),
        Status(**place, status=status, after=flag),
        Truncate(**place, keep=draw.randint(0, 20)),
    )
    return draw.choice(faults)


def _abort(scope: Message, *, reset: bool) -> None:
    abort: Callable[..., None] | None = scope.get("extensions", {}).get(ABORT)
    if abort is None:
        raise RuntimeError("this server's connections can't be broken off: use FaultyTransport at the client")
    abort(reset=reset)


async def _nowhere(_message: Message) -> None:
    await trio.lowlevel.checkpoint()


def _late(send: _Send, seconds: float) -> _Send:
    async def late(message: Message) -> None:
        if message["type"] == "http.response.start":
            await trio.sleep(seconds)
        await send(message)

    return late


def _cut(scope: Message, send: _Send, keep: int) -> _Send:
    left = keep

    async def cut(message: Message) -> None:
        nonlocal left
        body: bytes = message.get("body", b"")
        if message["type"] != "http.response.body" or len(body) <= left:
            left -= len(body)
            await send(message)
            return
        await send({**message, "body": body[:left], "more_body": True})
        left = 0
        _abort(scope, reset=False)

    return cut


async def _body(receive: _Receive) -> bytes:
    pieces: list[bytes] = []
    more = True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def _again(body: bytes, receive: _Receive) -> _Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        await trio.lowlevel.checkpoint()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(
    send: _Send, status: int, retry_after: float | None, detail: str, content: str | None = None
) -> None:
    body = msgspec.json.encode({"detail": detail}) if content is None else content.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", f"{retry_after:g}".encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
