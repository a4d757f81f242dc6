"""What a session's requests did and when: recorded as it happens, exported for Perfetto's viewer (WIRE 2.7)."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, final

import msgspec

from tinker_actors.codec.protobuf import Buffers, double_field, length_field, text_field, varint_field

__all__ = ["Span", "Traces", "perfetto"]

_MOST: Final = 200_000


class Span(msgspec.Struct, frozen=True):
    """One request on the line of its model or sampler: accepted, begun and ended, in seconds of trio's clock."""

    line: str
    name: str
    request_id: str
    accepted: float
    begun: float
    ended: float
    tokens: int
    failed: bool


@final
class Traces:
    """The latest spans of each session; beyond ``most`` in all, those of the sessions that began first go."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._spans: OrderedDict[str, deque[Span]] = OrderedDict()
        self._count = 0

    def add(self, session_id: str, span: Span) -> None:
        """One more span of a session."""
        self._spans.setdefault(session_id, deque()).append(span)
        self._count += 1
        while self._count > self._most:
            oldest = next(iter(self._spans))
            self._spans[oldest].popleft()
            self._count -= 1
            if not self._spans[oldest]:
                del self._spans[oldest]

    def of_session(self, session_id: str) -> tuple[Span, ...]:
        """What is recorded of a session, in the order in which it ended."""
        return tuple(self._spans.get(session_id, ()))


# Field numbers of Perfetto's trace_packet, track_descriptor, process_descriptor, track_event and debug_annotation.
_PACKET, _TIMESTAMP, _SEQUENCE, _SEQUENCE_FLAGS, _EVENT, _DESCRIPTOR = 1, 8, 10, 13, 11, 60
_TRACK_UUID, _TRACK_NAME, _TRACK_PROCESS, _TRACK_PARENT = 1, 2, 3, 5
_PROCESS_PID, _PROCESS_NAME = 1, 6
_EVENT_TYPE, _EVENT_TRACK, _EVENT_NAME, _EVENT_NOTE = 9, 11, 23, 4
_NOTE_NAME, _NOTE_INT, _NOTE_DOUBLE, _NOTE_TEXT = 10, 4, 5, 6
_BEGIN, _END = 1, 2
_FIRST_SEQUENCE_FLAGS = 1  # nothing that was interned before counts
_SESSION_TRACK = 1


def perfetto(session_id: str, spans: Sequence[Span]) -> bytes:
    """A .pftrace: one process for the session, one track for each line, one slice for each span.

    Slices begin where the work did; how long the request had waited then is a note on it, in seconds.
    """
    lines = list(dict.fromkeys(span.line for span in spans))
    tracks = {line: _SESSION_TRACK + 1 + index for index, line in enumerate(lines)}
    process = _join(varint_field(_PROCESS_PID, 1), text_field(_PROCESS_NAME, session_id))
    session = _join(varint_field(_TRACK_UUID, _SESSION_TRACK), *length_field(_TRACK_PROCESS, process))
    packets = _packet(varint_field(_SEQUENCE_FLAGS, _FIRST_SEQUENCE_FLAGS), *length_field(_DESCRIPTOR, session))
    for line, track in tracks.items():
        descriptor = _join(
            varint_field(_TRACK_UUID, track),
            text_field(_TRACK_NAME, line),
            varint_field(_TRACK_PARENT, _SESSION_TRACK),
        )
        packets += _packet(*length_field(_DESCRIPTOR, descriptor))
    edges: list[tuple[int, bytes]] = []
    for span in spans:
        track = varint_field(_EVENT_TRACK, tracks[span.line])
        begin = _join(
            varint_field(_EVENT_TYPE, _BEGIN),
            track,
            text_field(_EVENT_NAME, span.name),
            *_note("request_id", text_field(_NOTE_TEXT, span.request_id)),
            *_note("waited", double_field(_NOTE_DOUBLE, span.begun - span.accepted)),
            *_note("tokens", varint_field(_NOTE_INT, span.tokens)),
            *_note("failed", varint_field(_NOTE_INT, int(span.failed))),
        )
        edges.append((_nanoseconds(span.begun), begin))
        edges.append((_nanoseconds(span.ended), _join(varint_field(_EVENT_TYPE, _END), track)))
    for when, event in sorted(edges, key=lambda edge: edge[0]):
        packets += _packet(varint_field(_TIMESTAMP, when), *length_field(_EVENT, event))
    return _join(*packets)


def _packet(*content: bytes | memoryview) -> Buffers:
    return length_field(_PACKET, _join(varint_field(_SEQUENCE, 1), *content))


def _note(name: str, value: bytes) -> Buffers:
    return length_field(_EVENT_NOTE, _join(text_field(_NOTE_NAME, name), value))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _join(*pieces: bytes | memoryview) -> bytes:
    return b"".join(pieces)
