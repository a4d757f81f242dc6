"""What a failed operation tells its caller, and whether those behind it can go on."""

from __future__ import annotations

import msgspec

from tinker_actors.config import Trigger
from tinker_actors.errors import DiskError, ModelLost, OperationError, OutageError, TinkerError, UnknownVerdict
from tinker_actors.flow.patience import OutOfPatience, brief
from tinker_actors.flow.reaction import Reaction
from tinker_actors.ledger import Gap, Operation

__all__ = [
    "Failure",
    "abandoned",
    "brief_loss",
    "confirm_failure",
    "gap_failure",
    "poll_failure",
    "probe_failure",
    "rebuild_failure",
    "replay_failure",
    "session_loss",
    "send_failure",
    "split_failure",
    "spoiling_failure",
    "unreadable_replay",
]

_DECIDE = "Call restore(), assume_applied() or abandon() of its client"
_RESTORE = "Create a new client and load the last checkpoint"


class Failure(msgspec.Struct, frozen=True):
    """The error of an operation; ``stops_lane`` when those behind it would build on what is not there.

    ``spoilt``: the operation itself has failed and has spoilt the model, which goes on without it if it is rebuilt.
    """

    error: TinkerError
    stops_lane: bool
    spoilt: bool = False


def send_failure(
    operation: Operation, gone: OutOfPatience, *, partly: bool, pending: tuple[str, ...], behind: tuple[str, ...]
) -> Failure:
    """The server did not take ``operation``; ``partly`` when it has taken some of its chunks.

    ``behind``: what was accepted after it.
    """
    name = f"{operation.kind} {operation.name}"
    if gone.reaction is Reaction.UNKNOWN:
        return Failure(_unknown(name, operation.name, gone, behind), stops_lane=True)
    if gone.reaction is Reaction.FAIL:
        if not partly:
            return Failure(gone.error, stops_lane=False)
        error = ModelLost(
            f"{name}: the server took some of its chunks and refused one ({gone.error.fact}); "
            f"what it took can't be taken back. {_RESTORE}",
            operation=operation.name,
            trigger="operation_split",
        )
        error.__cause__ = gone.error
        return Failure(error, stops_lane=True, spoilt=True)
    return Failure(_common(name, operation.name, gone, pending, "be sent"), stops_lane=True)


def poll_failure(operation: Operation, gone: OutOfPatience, *, pending: tuple[str, ...]) -> Failure:
    """There is no result to be had of ``operation``."""
    name = f"{operation.kind} {operation.name}"
    if gone.reaction in (Reaction.RECHECK, Reaction.FAIL):
        return Failure(gone.error, stops_lane=False)
    error = _common(name, operation.name, gone, pending, "get its result", trigger="promise_lost")
    return Failure(error, stops_lane=True)


def split_failure(operation: Operation, error: TinkerError) -> Failure:
    """Some chunks of ``operation`` failed and some did not: its gradients are incomplete."""
    lost = ModelLost(
        f"{operation.kind} {operation.name}: some of its chunks failed ({error.fact}) and some were applied. "
        f"{_RESTORE}",
        operation=operation.name,
        trigger="operation_split",
    )
    lost.__cause__ = error
    return Failure(lost, stops_lane=True, spoilt=True)


def spoiling_failure(operation: Operation, error: TinkerError) -> ModelLost:
    """``operation`` failed within the server, and nobody knows in what state that has left the model."""
    lost = ModelLost(
        f"{operation.kind} {operation.name} failed at the server ({error}), and may have changed it all the same",
        operation=operation.name,
    )
    lost.__cause__ = error
    return lost


def gap_failure(gap: Gap, gone: OutOfPatience, pending: tuple[str, ...]) -> TinkerError:
    """A refused operation's seq_id could not be filled, so the server will wait for it for ever."""
    if gone.reaction is Reaction.FAIL:
        lost = ModelLost(
            f"seq_id {gap.seq_id}, whose operation the server refused, can't be filled: it refuses what changes "
            f"nothing, too ({gone.error.fact}). {_RESTORE}",
            trigger="operation_split",
        )
        lost.__cause__ = gone.error
        return lost
    return _common(f"the filler of seq_id {gap.seq_id}", f"seq_id {gap.seq_id}", gone, pending, "be sent")


def probe_failure(name: str, gone: OutOfPatience, pending: tuple[str, ...]) -> TinkerError:
    """What would show the server's class got no answer."""
    return _common(f"a forward pass that shows what the server of {name} does twice", name, gone, pending, "be sent")


def replay_failure(operation: Operation, error: TinkerError) -> ModelLost:
    """What was done to a lost model could not be done to the one in its place."""
    lost = ModelLost(
        f"{operation.kind} {operation.name} was applied to a model that was lost, and could not be applied again to "
        f"the one in its place: {error.fact}. {_RESTORE}",
        operation=operation.name,
    )
    lost.__cause__ = error
    return lost


def unreadable_replay(name: str, operation: Operation, error: DiskError) -> DiskError:
    """What was done to a lost model can't be read back, so the one in its place will never be as that was."""
    problem = f"{error.problem}: {operation.kind} {operation.name} can't be applied again, and {name} not be rebuilt"
    found = type(error)(error.path, problem, _RESTORE)
    found.__cause__ = error
    return found


def confirm_failure(name: str, gone: OutOfPatience, pending: tuple[str, ...]) -> TinkerError:
    """Whether a model is lost, and with it its session, is not known for want of answers."""
    return _common(f"whether the server has the model of {name}", name, gone, pending, "be known")


def rebuild_failure(name: str, gone: OutOfPatience, pending: tuple[str, ...]) -> TinkerError:
    """A lost model could not be rebuilt for want of answers."""
    return _common(f"the model of {name}", name, gone, pending, "be rebuilt", trigger=None)


def session_loss(name: str, session_id: str) -> ModelLost:
    """The model went with its session."""
    text = f"the server has ended session {session_id}. {_RESTORE}"
    return ModelLost(text, operation=name, trigger="session_lost")


def _unknown(name: str, operation: str, gone: OutOfPatience, behind: tuple[str, ...]) -> UnknownVerdict:
    error = UnknownVerdict(
        f"it can't be known whether {name} was applied: no promise came ({brief(gone.error)}), and if it were sent "
        f"again, it might be done twice. Behind it: {', '.join(behind) or 'nothing'}. {_DECIDE}",
        operation=operation,
        behind=behind,
    )
    error.__cause__ = gone.error
    return error


def abandoned(error: UnknownVerdict) -> UnknownVerdict:
    """``error`` where the policy gives the model up: there is nothing left to call."""
    text = f"{str(error).removesuffix(_DECIDE)}The model is given up, as the policy says"
    told = UnknownVerdict(text, operation=error.operation, behind=error.behind)
    told.__cause__ = error.__cause__
    return told


def brief_loss(error: TinkerError) -> str:
    """``error`` without its advice: it is being followed."""
    if isinstance(error, UnknownVerdict):
        return str(error).partition(":")[0]
    return str(error).removesuffix(f". {_RESTORE}")


def _common(
    name: str,
    operation: str,
    gone: OutOfPatience,
    pending: tuple[str, ...],
    what: str,
    *,
    trigger: Trigger | None = "model_lost",
) -> TinkerError:
    if gone.reaction is Reaction.UNKNOWN:
        return _unknown(name, operation, gone, ())
    if gone.outage:
        error: OperationError = OutageError(
            f"{name} could not {what}: no usable answer for {gone.lasted:.0f} s, last {brief(gone.error)}. "
            "Check the server and the network; then restore() of its client goes on, abandon() gives up. Waiting:",
            operation=operation,
            pending=pending,
        )
    elif gone.reaction is Reaction.LOST:
        error = ModelLost(
            f"{name} could not {what}: the server no longer holds its session, model or promise "
            f"({gone.error.fact}). {_RESTORE}",
            operation=operation,
            trigger=trigger,
        )
    elif gone.reaction is Reaction.ARRIVED:
        error = ModelLost(
            f"{name} could not {what}: the server has had it before ({gone.error.fact}), and the promise that it "
            f"gave then is lost. {_RESTORE}",
            operation=operation,
            trigger=None if trigger is None else "promise_lost",
        )
    else:
        return gone.error
    error.__cause__ = gone.error
    return error
