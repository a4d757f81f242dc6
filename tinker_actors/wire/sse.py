"""Server-sent events: bytes in any pieces, events out, by the rules of the HTML standard."""

from __future__ import annotations

import codecs
from typing import Any, final

import msgspec

from tinker_actors.errors import DecodeError

__all__ = ["ServerSentEvent", "SSEDecoder"]

_LARGEST = 8 << 20


class ServerSentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    ``data`` are its data lines, joined by line feeds; ``id`` is the last id that the stream has given up to here;
    ``retry`` the milliseconds to wait before connecting anew, if the event says so.
    """

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """The data as JSON; DecodeError when it is none."""
        try:
            return msgspec.json.decode(self.data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise DecodeError(f"an event whose data is no JSON: {error}") from error


@final
class SSEDecoder:
    """Fed with bytes, cut anywhere. Events of more than ``limit`` characters raise DecodeError.

    Comments, unknown fields and events without data give nothing, as the standard has it; so does an event that is
    not complete when the stream ends: see ``pending``.
    """

    def __init__(self, *, limit: int = _LARGEST) -> None:
        self._limit = limit
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = True
        self._after_return = False  # the line feed of a CR LF may come with the next piece
        self._line: list[str] = []
        self._size = 0
        self._data: list[str] = []
        self._event = ""
        self._id = ""
        self._retry: int | None = None

    @property
    def last_event_id(self) -> str:
        """The id to give to a server when connecting anew; "" when the stream gave none."""
        return self._id

    @property
    def pending(self) -> bool:
        """Whether a part of an event has arrived whose end has not."""
        return bool(self._data or self._line or self._event)

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that are complete with ``piece``."""
        text = self._text.decode(piece)
        if not text:
            return []
        if self._first:
            self._first = False
            text = text.removeprefix("\ufeff")
        if self._after_return:
            text = text.removeprefix("\n")
        self._after_return = text.endswith("\r")
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        events: list[ServerSentEvent] = []
        for line in lines:
            self._keep(line)
            whole = "".join(self._line)
            self._line.clear()
            if whole:
                self._field(whole)
            elif (event := self._dispatched()) is not None:
                events.append(event)
        self._keep(rest)
        return events

    def _keep(self, part: str) -> None:
        if part:
            self._line.append(part)
            self._size += len(part)
            if self._size > self._limit:
                raise DecodeError(f"an event of more than {self._limit} characters")

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) < 16:
                self._retry = int(value)
            case _:
                # nothing of it is kept, so that comments that keep a connection awake don't add up
                self._size -= len(line)

    def _dispatched(self) -> ServerSentEvent | None:
        data, event, retry = self._data, self._event, self._retry
        self._data, self._event, self._retry, self._size = [], "", None, 0
        if not data:
            return None
        return ServerSentEvent(data="\n".join(data), event=event or "message", id=self._id, retry=retry)
