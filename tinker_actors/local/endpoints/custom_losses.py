"""Losses of users' own: uploaded as graphs, used by the models of their session (WIRE 9.3)."""

from __future__ import annotations

import hashlib

import trio

from tinker_actors.checks import integer
from tinker_actors.codec.json import encode_json
from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.engine.losses.custom import custom_loss
from tinker_actors.local.refusals import Refusal
from tinker_actors.local.service import LocalService
from tinker_actors.types import CreateCustomLossRequest, CreateCustomLossResponse, Promise

__all__ = ["create_custom_loss"]

_MOST = 1_000


async def create_custom_loss(service: LocalService, call: Incoming[CreateCustomLossRequest]) -> Promise:
    """A loss made of what its graph says; asked again with the same number, the same one."""
    await trio.lowlevel.checkpoint()
    request = call.body
    number = integer(
        "custom_loss_seq_id", request.custom_loss_seq_id, "Number a session's losses 0, 1, 2, ...", low=0
    )
    session = service.sessions.get(call.owner, request.session_id)
    digest = hashlib.sha256(encode_json(request)).hexdigest()
    known = session.loss(number, digest)
    if known is not None:
        return Promise(request_id=known)
    if len(session.losses) >= _MOST:
        raise Refusal(403, f"session {session.session_id} has {_MOST} losses, which is the most")
    loss = custom_loss(request)
    loss_id = f"{session.session_id}:loss:{number}"
    future = service.futures.create(
        call.owner, session.session_id, f"create_custom_loss {number} of {session.session_id}"
    )
    session.promise_loss(number, digest, future.request_id)
    service.engine.add_loss(loss_id, loss)
    service.futures.finish(future, CreateCustomLossResponse(loss_id=loss_id))
    return Promise(request_id=future.request_id)
