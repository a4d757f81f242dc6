"""A model made at the server: the first one of a client, and each that takes the place of a lost one."""

from __future__ import annotations

import trio

from tinker_actors.clients.training.model import Model
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.reaction import while_submitting
from tinker_actors.ledger import NewModel
from tinker_actors.polling import Poller
from tinker_actors.sessions import Session
from tinker_actors.types import CreateModelRequest, CreateModelResponse
from tinker_actors.wire.endpoints.models import create_model

__all__ = ["make_model"]

_DOUBLINGS = 3  # of the time that creating a model may take


async def make_model(session: Session, model: Model, new: NewModel, poller: Poller, entry: PendingEntry) -> str:
    """Create ``model`` at the server under the numbers of ``new``; its id.

    Raises OutOfPatience when there is none to be had, RequestFailedError when the server says that it failed.
    """
    request = CreateModelRequest(
        session_id=session.require_open(),
        model_seq_id=new.seq_id,
        base_model=model.base_model,
        lora_config=model.lora,
        user_metadata=model.user_metadata or None,
    )
    patience = poller.patience()
    began = trio.current_time()
    promise = await patience.persist(
        lambda: create_model(
            session.api,
            request,
            key=new.key,
            attempt=patience.tries,
            # a server that loads the base model first may be about it when the first try is over
            timeout=session.config.timeout * 2 ** min(patience.tries, _DOUBLINGS),
        ),
        while_submitting,
        entry.explain,
    )
    entry.enter("promised")
    created = await poller.result(
        promise.request_id,
        CreateModelResponse,
        entry,
        request_type="CreateModel",
        point="training.creating",
        on_queue_state=model.queue.report,
        roundtrip=trio.current_time() - began,
    )
    return created.model_id
