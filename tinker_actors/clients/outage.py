"""What an outage is to those who have no operation in a ledger: who creates a client, who waits for weights."""

from __future__ import annotations

from tinker_actors.errors import OutageError, TinkerError
from tinker_actors.flow.patience import OutOfPatience, brief
from tinker_actors.sessions import Session, SessionState

__all__ = ["creation_failure", "outage_of"]


def creation_failure(session: Session, name: str, gone: OutOfPatience) -> TinkerError:
    """Why the client ``name`` could not be created: the server's own word, or that there is no session to have it in
    for as long as the outage lasts.
    """
    if not gone.outage or session.state.value is not SessionState.RENEWING:
        return gone.error
    return outage_of(session, name, "be created, since the server has ended its session and gives no other", gone)


def outage_of(session: Session, name: str, what: str, gone: OutOfPatience) -> OutageError:
    """``name`` could not ``what``; the client itself goes on once the server answers."""
    return OutageError(
        f"{name} could not {what}: no usable answer for {gone.lasted:.0f} s, last {brief(gone.error)}. "
        "Check the server and the network, and call it again then. Waiting:",
        operation=name,
        pending=session.pending.lines(),
    )
