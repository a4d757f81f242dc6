"""Sampling clients of sessions that other processes have created: shadows, as WIRE 8 calls them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple, final

import trio

from supervision import SupervisorRef
from tinker_actors.clients.sampler import Sampler
from tinker_actors.clients.sampler_handle import SamplerHandle
from tinker_actors.clients.sampling import SamplingClient, start_sampling_client
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import while_submitting
from tinker_actors.sessions import Session
from tinker_actors.wire.endpoints.sampling import join_sampling_session

__all__ = ["Joined", "Joining", "check_handle"]

_CLONES = 1_000_000_000
_BLOCK = 1_000_000_000  # numbers of requests that each clone has of its own (WIRE 4.5)


class Joined(NamedTuple):
    """A session of another process, and where the clients of this one stand in it."""

    session: Session
    clients: SupervisorRef


@final
class Joining:
    """A plain object of the runtime's: each session is joined once, and each handle gives one client while it lives.

    ``join`` starts the actors of a session that is joined.
    """

    def __init__(self, join: Callable[[str, random.Random], Awaitable[Joined]]) -> None:
        self._join = join
        self._lock = trio.Lock()
        self._sessions: dict[str, Joined] = {}
        self._samplers: dict[str, SamplingClient] = {}

    async def sampling_client(self, handle: SamplerHandle) -> SamplingClient:
        """The client of ``handle`` in this process."""
        async with self._lock:
            known = self._samplers.get(handle.sampling_session_id)
            if known is not None and not known.closed:
                return known
            # Of the system's own randomness: processes whose runtimes have the same seed would draw the same numbers
            # and keys, and the server would give one of them the other's samples.
            drawn = random.SystemRandom()
            joined = self._sessions.get(handle.session_id)
            if joined is None:
                joined = await self._join(handle.session_id, random.Random(drawn.getrandbits(64)))
                self._sessions[handle.session_id] = joined
            session = joined.session
            session.require_open()
            clone = drawn.randrange(1, _CLONES)
            if session.server_config.sample_join_sampling_session:
                clone = await self._counted(session, handle.sampling_session_id)
            sampler = Sampler(
                session=session.name,
                seq_id=session.next_sampling_session_seq_id(),
                model_path=handle.model_path,
                base_model=handle.base_model,
                trained_from=handle.known_model,
                record_stability_info=handle.record_stability_info,
                sampling_session_id=handle.sampling_session_id,
                key=session.new_key(),
                first_request=clone * _BLOCK,
            )
            sampler.renew(handle.sampling_session_id, session.generation)
            client = await start_sampling_client(session, sampler, joined.clients, keeps=None)
            self._samplers[handle.sampling_session_id] = client
            return client

    async def _counted(self, session: Session, sampling_session_id: str) -> int:
        """This client's number among those of the sampling session, from a server that counts them."""
        patience = session.poller().patience()
        key = session.new_key()
        with session.pending.track(session.name, "join_sampling_session", "sent") as entry:
            try:
                counted = await patience.persist(
                    lambda: join_sampling_session(session.api, sampling_session_id, key=key),
                    while_submitting,
                    entry.explain,
                )
            except OutOfPatience as gone:
                raise gone.error from None
        return counted


def check_handle(handle: object, base_url: str) -> SamplerHandle:
    """``handle``, if it is one, and of the server at ``base_url``; else InvalidInput."""
    if not isinstance(handle, SamplerHandle):
        cure = "Give what get_sampler_handle() gave"
        raise InvalidInput("handle", f"is of type {type(handle).__name__}", cure)
    if handle.base_url != base_url:
        problem = f"is of the server at {handle.base_url}, and this runtime is for {base_url}"
        raise InvalidInput("handle", problem, "Open a runtime with the same base_url")
    return handle
