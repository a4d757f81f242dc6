"""Which class an unknown server is of: asked by a request that changes nothing, sent twice."""

from __future__ import annotations

import logging

from tinker_actors.clients.training import operations
from tinker_actors.errors import ConflictError, RequestFailedError
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.reaction import Reaction, while_submitting
from tinker_actors.ledger import Gap, Ledger
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import Session
from tinker_actors.types import ForwardBackwardOutput, Promise

__all__ = ["ask_class"]

_log = logging.getLogger("tinker_actors.clients")


async def ask_class(session: Session, ledger: Ledger) -> tuple[ServerClass, str]:
    """Send one forward pass twice under one seq_id and key; the class that shows in the answers, and how it did.

    One promise: dedup. A refusal (409) of the second one, at once or as its result: ordered. Anything else: none,
    with which nothing can go wrong. Raises OutOfPatience when there is no answer.
    """
    probe = ledger.numbers.probe()
    with session.pending.track(f"{ledger.name} seq_id {probe.seq_id}", "probe", "sent") as entry:
        entry.explain("whether the server knows a repeated request")
        server_class, how, next_seq_id = await _ask(session, ledger, probe, entry)
    ledger.numbers.end_probe(probe, next_seq_id)
    return server_class, how


async def _ask(session: Session, ledger: Ledger, probe: Gap, entry: PendingEntry) -> tuple[ServerClass, str, int]:
    used = probe.seq_id + 1
    try:
        first = await _send(session, ledger, probe, entry)
    except OutOfPatience as gone:
        if isinstance(gone.error, ConflictError):  # an earlier try had arrived
            return ServerClass.ORDERED, "it refuses a repeated request", gone.error.expected_seq_id or used
        if gone.reaction is not Reaction.FAIL:
            raise
        _log.warning(
            "%s: a forward pass that was to show the server's class was refused: %s", ledger.name, gone.error
        )
        return ServerClass.NONE, "it refuses what would show more", probe.seq_id
    try:
        second = await _send(session, ledger, probe, entry)
        if first.request_id == second.request_id:
            return ServerClass.DEDUP, "it gives the first promise to a repeated request", used
        entry.enter("promised")
        await session.poller().result(
            second.request_id, ForwardBackwardOutput, entry, request_type="Forward", point="training.probing"
        )
    except OutOfPatience as gone:
        if isinstance(gone.error, ConflictError):
            return ServerClass.ORDERED, "it refuses a repeated request", gone.error.expected_seq_id or used
        if gone.reaction not in (Reaction.FAIL, Reaction.RECHECK):
            raise
        return ServerClass.NONE, f"it does not know a repeated request ({gone.error})", used
    except RequestFailedError as failed:
        return ServerClass.NONE, f"it does not know a repeated request ({failed.message})", used
    return ServerClass.NONE, "it does a repeated request again", used


async def _send(session: Session, ledger: Ledger, probe: Gap, entry: PendingEntry) -> Promise:
    model_id = ledger.model_id
    assert model_id is not None
    patience = session.poller().patience()
    return await patience.persist(
        lambda: operations.submit(
            session.api,
            operations.filler(),
            model_id=model_id,
            seq_id=probe.seq_id,
            key=probe.key,
            attempt=patience.tries,
        ),
        while_submitting,
        entry.explain,
    )
