"""What clients have reported about themselves through POST /telemetry, by session."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, final

import msgspec

from tinker_actors.codec.json import encode_json

__all__ = ["ReportedEvent", "Reports"]


class ReportedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event as its client sent it (WIRE 5.12).

    ``times`` says how often it came: clients that saw no answer send an event again, under the same id.
    """

    event_id: str
    fields: Mapping[str, Any]
    times: int = 1

    @property
    def kind(self) -> str:
        """SESSION_START, GENERIC_EVENT, ...; empty where the client does not say."""
        return str(self.fields.get("event", ""))


@final
class Reports:
    """Events by session and id, each kept once. Beyond ``most`` bytes in all the oldest are dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], tuple[ReportedEvent, int]] = OrderedDict()
        self.dropped = 0
        """How many events had to make room."""

    def keep(self, session_id: str, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Keep what a client has sent: for each event its id and all that it says."""
        for event_id, fields in events:
            key = (session_id, event_id)
            known = self._kept.get(key)
            if known is not None:
                event, size = known
                self._kept[key] = (msgspec.structs.replace(event, times=event.times + 1), size)
                continue
            size = len(encode_json(fields)) + len(session_id)
            self._kept[key] = (ReportedEvent(event_id=event_id, fields=fields), size)
            self._bytes += size
        while self._bytes > self._most:
            _, (_, size) = self._kept.popitem(last=False)
            self._bytes -= size
            self.dropped += 1

    def of(self, session_id: str) -> tuple[ReportedEvent, ...]:
        """What the session has reported, in the order in which it came first."""
        return tuple([event for (session, _), (event, _) in self._kept.items() if session == session_id])
