"""load_state at servers that load into fresh models only (the hosted service, SkyRL: WIRE 2.4): by another model."""

from __future__ import annotations

import logging

from tinker_actors.clients.training.creation import MADE_ANEW, Made, is_there, make_model
from tinker_actors.clients.training.model import Model, Source, new_model
from tinker_actors.errors import BadRequestError, ConflictError
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import Reaction
from tinker_actors.ledger import Operation, OperationKind, Sending
from tinker_actors.polling import Poller
from tinker_actors.sessions import Session
from tinker_actors.types import LoadWeightsRequest

__all__ = ["load_afresh", "may_need_fresh_model"]

_log = logging.getLogger("tinker_actors.clients")


def may_need_fresh_model(operation: Operation, sending: Sending, gone: OutOfPatience) -> bool:
    """Whether a load may have been refused for no other reason than that it is not its model's first request."""
    return (
        operation.kind is OperationKind.LOAD_STATE
        and sending.first_seq_id > 1
        and isinstance(gone.error, BadRequestError | ConflictError)
    )


async def load_afresh(session: Session, model: Model, operation: Operation, poller: Poller) -> tuple[Made, int]:
    """A new model in the state that ``operation`` is to load, and the generation of its session.

    The old model stays as it is. A try whose promise the server has lost is made again, by another model. Raises
    OutOfPatience, of a checkpoint that is not there as FAIL and of a lost session as LOST; RequestFailedError.
    """
    (chunk,) = operation.chunks
    request = chunk.request
    assert isinstance(request, LoadWeightsRequest)
    # under the same numbers and keys by whatever incarnation, so that no crash leaves a second one behind
    source = Source(request.path, request.optimizer, request.weights_access_token)
    for left in reversed(range(MADE_ANEW + 1)):
        new = model.fresh.get(operation.op_no)
        if new is None or new.generation != session.generation:
            new = model.fresh[operation.op_no] = new_model(session)
        operation.entry.explain("this server loads into new models only: one is being created")
        try:
            made = await make_model(session, model, new, poller=poller, entry=operation.entry, source=source)
        except OutOfPatience as gone:
            if gone.reaction is Reaction.LOST:
                # the checkpoint, the session, or only the promise of this try
                known = source.access_token is not None or await is_there(
                    session, model.ledger.name, source.path, poller, operation.entry
                )
                await session.confirm()
                if session.generation != new.generation:
                    raise
                if not known or not left:
                    raise OutOfPatience(Reaction.FAIL, gone.error, gone.lasted) from None
                _log.warning("%s %s: its load is made again: %s", model.ledger.name, operation.name, gone.error)
            elif gone.reaction not in (Reaction.ARRIVED, Reaction.UNKNOWN) or not left:
                raise
            del model.fresh[operation.op_no]
        else:
            return made, new.generation
    raise AssertionError("the last try ends it")
