"""A connection that speaks HTTP/1.1 through h11: one request and its reply at a time, many after another.

A large body of known length is read past h11, whose buffers would copy it several times over.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from enum import Enum, auto
from typing import Literal, TypeAlias, final

import h11

from tinker_actors.errors import InvalidInput
from tinker_actors.wire.head import RequestHead
from tinker_actors.wire.link import Buffer, Link, LinkBroken

__all__ = ["BodyEnd", "Connection", "Malformed", "NeedData", "idle_seconds", "without_quotes"]

_LARGEST_HEAD = 64 << 10
_READ = 64 << 10
_LARGE_READ = 256 << 10
_LARGE_BODY = 128 << 10
_QUOTE = re.compile(r""":? (?:bytearray\()?b?['"]""")
_CUT = "closed by the server before the end of its reply"


class Malformed(Exception):
    """What arrived is not HTTP/1.1."""


class _Mark(Enum):
    END = auto()
    NEED_DATA = auto()


BodyEnd: TypeAlias = Literal[_Mark.END]
NeedData: TypeAlias = Literal[_Mark.NEED_DATA]


class _Size:
    """Stands for a body that is sent past h11, which only counts it."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


@final
class _PastH11:
    """A body of ``size`` bytes that is read without h11; ``first`` is what h11 had received of it.

    What a server sends beyond its own length stays in the socket, where ``stale`` sees it.
    """

    def __init__(self, size: int, first: bytes) -> None:
        self.missing = size - len(first)
        self._pieces = [first] if first else []

    def receive(self, piece: bytes) -> None:
        """Add what has arrived; b"" is the end of the connection."""
        if not piece:
            raise LinkBroken(_CUT)
        self.missing -= len(piece)
        self._pieces.append(piece)

    def take(self) -> bytes | BodyEnd | NeedData:
        """As Connection.take."""
        if self._pieces:
            return self._pieces.pop()
        return Connection.NEED_DATA if self.missing else Connection.END


@final
class Connection:
    """One link and the state of HTTP on it.

    ``keep_until`` is the time (trio's clock) until which it may wait for its next request.
    """

    END: BodyEnd = _Mark.END
    NEED_DATA: NeedData = _Mark.NEED_DATA

    def __init__(self, link: Link) -> None:
        self._link = link
        self._http = _http()
        self._past: _PastH11 | None = None
        self._ended = False
        self._damaged = False
        self._read = _READ
        self._may_have_body = True
        self._begun = False
        self.requests = 0
        self.keep_until = 0.0

    @property
    def wrote(self) -> bool:
        """False when it is certain that nothing of the last request has left."""
        return self._begun or self._link.wrote

    @property
    def stale(self) -> bool:
        """True when the server has closed it meanwhile, or said something unasked."""
        return self._link.stale

    async def send(self, head: RequestHead, body: Sequence[Buffer], size: int) -> None:
        """Send a request whose body has ``size`` bytes. Raises LinkBroken."""
        self.requests += 1
        self._begun = False
        self._may_have_body = head.event.method != b"HEAD"
        start = self._http.send(head.event) or b""
        buffers: list[Buffer] = [start[:-2] + head.rest]  # which has the empty line
        if size:
            self._http.send_with_data_passthrough(h11.Data(data=_Size(size)))  # pyright: ignore[reportArgumentType]
            buffers.extend(body)
        self._http.send(h11.EndOfMessage())
        try:
            await self._link.send(buffers)
        except BaseException:
            self._damaged = True
            raise

    async def send_pieces(self, head: RequestHead, pieces: AsyncGenerator[bytes]) -> None:
        """Send a request whose body is made meanwhile. Raises LinkBroken, and InvalidInput for one of another length
        than its head says.
        """
        self.requests += 1
        self._begun = False
        self._may_have_body = True
        start = self._http.send(head.event) or b""
        try:
            async with aclosing(pieces):
                await self._link.send([start[:-2] + head.rest])
                self._begun = True
                async for piece in pieces:
                    if framed := self._http.send(h11.Data(data=piece)):
                        await self._link.send([framed])
                if end := self._http.send(h11.EndOfMessage()):
                    await self._link.send([end])
        except h11.LocalProtocolError as error:
            self._damaged = True
            raise InvalidInput("body", f"is not as long as it was said to be ({error})", "Send it again") from None
        except BaseException:
            self._damaged = True
            raise

    async def receive_head(self) -> tuple[int, dict[str, str]]:
        """The final status and the headers, in lower case. Raises LinkBroken and Malformed."""
        while True:
            event = self._next_event()
            if isinstance(event, h11.Response):
                headers = _headers(event)
                size = _known_size(event.status_code, headers)
                if size >= _LARGE_BODY and self._may_have_body:
                    self._past = _PastH11(size, self._http.trailing_data[0])
                return event.status_code, headers
            if event is h11.NEED_DATA:
                await self.fill()
            elif not isinstance(event, h11.InformationalResponse):
                raise Malformed(f"{type(event).__name__} before the head of the reply")

    def take(self) -> bytes | BodyEnd | NeedData:
        """A piece of the body that has arrived already, its end, or that more must be read."""
        if self._past is not None:
            return self._past.take()
        event = self._next_event()
        if isinstance(event, h11.Data):
            self._read = _LARGE_READ if len(event.data) >= _READ else _READ
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return Connection.END
        if event is h11.NEED_DATA:
            return Connection.NEED_DATA
        raise Malformed(f"{type(event).__name__} within the body of the reply")

    async def fill(self) -> None:
        """Read from the link. Raises LinkBroken."""
        if self._past is not None:
            self._past.receive(await self._link.receive(min(_LARGE_READ, self._past.missing)))
            return
        data = await self._link.receive(self._read)
        self._ended = not data
        self._http.receive_data(data)

    def recycle(self) -> bool:
        """Get ready for the next request; False when this connection can't have one."""
        http = self._http
        if self._past is not None:
            # h11 takes our side out of DONE when the server has said that it will close
            if self._damaged or http.our_state is not h11.DONE:
                return False
            self._http, self._past = _http(), None
            return True
        if self._damaged or self._ended or http.trailing_data[0]:
            return False
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        http.start_next_cycle()
        self._read = _READ
        return True

    def close(self) -> None:
        """Close at once."""
        self._link.close()

    def _next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            problem = without_quotes(str(error))
        # outside of the handler: h11's error quotes what arrived, which may echo a credential
        raise LinkBroken(_CUT) if self._ended else Malformed(problem)


def idle_seconds(headers: Mapping[str, str], usual: float) -> float:
    """How long the server keeps a connection, less a second for the way; ``usual`` where it does not say."""
    for part in headers.get("keep-alive", "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "timeout" and value.isascii() and value.isdigit():
            return max(0.0, float(value) - 1.0)
    return usual


def without_quotes(problem: str) -> str:
    """h11's words, without the bytes that it quotes."""
    return _QUOTE.split(problem, maxsplit=1)[0]


def _http() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD)


def _known_size(status: int, headers: Mapping[str, str]) -> int:
    """The length of the body if the head says it, else 0. h11 has checked that it is one number."""
    if status in (204, 304) or "transfer-encoding" in headers:
        return 0
    return int(headers.get("content-length", 0))


def _headers(event: h11.Response) -> dict[str, str]:
    out: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        out[name] = f"{out[name]}, {value}" if name in out else value
    return out
