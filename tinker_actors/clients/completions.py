"""Completions: one poll for all the samples of a sampling session that are under way, where the server offers it.

Each sample would else hold a poll of its own (WIRE 3.7). The poll says which results are there; each is then fetched
as ever, also that of a sample that has failed.
"""

from __future__ import annotations

import logging
from typing import final

import trio

from tinker_actors.errors import APIError
from tinker_actors.flow.patience import brief
from tinker_actors.flow.reaction import Reaction, while_polling
from tinker_actors.sessions import Session
from tinker_actors.types import RetrieveFuturesRequest, SamplingSessionTarget
from tinker_actors.wire.endpoints.futures import retrieve_futures

__all__ = ["Completions"]

_log = logging.getLogger("tinker_actors.clients")

CLONE = 1_000_000_000
"""Numbers of requests that each client of a sampling session has to itself (WIRE 3.7)."""

_ALONE_AFTER = 30.0
"""Seconds without word of it, after which a sample is asked for by itself: that answer also says why it waits."""

_PAUSE = 1.0  # seconds after a poll that failed, as the official SDK waits
_KEPT = 4096  # completions that nobody has waited for yet


@final
class Completions:
    """A plain object on the sampling client's place. ``watch`` asks, in one task; ``until_there`` waits, in many."""

    def __init__(self) -> None:
        self._waiting: dict[str, trio.Event] = {}
        self._there: dict[str, None] = {}
        self._fetched: set[str] = set()
        self._wanted = trio.Event()
        self._cursor = 0
        self._of: str | None = None
        self._watched = False

    async def until_there(self, request_id: str) -> None:
        """Wait until the result of ``request_id`` is there, or asking for it by itself is due."""
        if not self._watched or self._there.pop(request_id, request_id) is None:
            return
        event = self._waiting[request_id] = trio.Event()
        self._wanted.set()
        try:
            with trio.move_on_after(_ALONE_AFTER):
                await event.wait()
        finally:
            self._waiting.pop(request_id, None)
            self._there.pop(request_id, None)

    def fetched(self, request_id: str) -> None:
        """The result of ``request_id`` was fetched: the server may forget it, and is told so with the next poll."""
        if self._watched:
            self._fetched.add(request_id)

    async def watch(self, session: Session, sampling_session_id: str, clone: int) -> None:
        """Ask for completions while anybody waits, for as long as the server knows the call and the session."""
        if self._of != sampling_session_id:
            self._of, self._cursor = sampling_session_id, 0
            self._fetched.clear()
        self._watched = True
        try:
            while True:
                if not self._waiting:
                    self._wanted = trio.Event()
                    await self._wanted.wait()
                fetched = tuple(sorted(self._fetched))
                request = RetrieveFuturesRequest(
                    target=SamplingSessionTarget(sampling_session_id=sampling_session_id, cloned_sampler_id=clone),
                    prev_cursor=self._cursor,
                    retrieved_request_ids=fetched,
                )
                try:
                    session.metrics.add("polls")
                    answer = await retrieve_futures(session.api, request, timeout=session.config.poll_timeout)
                except APIError as error:
                    if while_polling(error) not in (Reaction.REPEAT, Reaction.WAIT, Reaction.PAUSE):
                        _log.info("samples of %s are asked for one by one: %s", sampling_session_id, brief(error))
                        return
                    await trio.sleep(_PAUSE)
                    continue
                self._fetched.difference_update(fetched)
                self._cursor = answer.cursor
                for completion in answer.completions:
                    self._take(completion.request_id)
        finally:
            self._watched = False
            for event in self._waiting.values():
                event.set()

    def _take(self, request_id: str) -> None:
        event = self._waiting.get(request_id)
        if event is not None:
            event.set()
            return
        self._there[request_id] = None  # its promise is still on the way to whoever asked
        if len(self._there) > _KEPT:
            del self._there[next(iter(self._there))]
