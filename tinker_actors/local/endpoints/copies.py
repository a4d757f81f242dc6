"""Checkpoints copied into a run of their own, which holds nothing else and can't be trained."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Final

import msgspec
import trio

from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.endpoints.training import check_ttl
from tinker_actors.local.refusals import gone, invalid, not_found, unavailable
from tinker_actors.local.sequence_numbers import check_model_number
from tinker_actors.local.service import LocalService
from tinker_actors.local.session import Session
from tinker_actors.local.storage import DamagedCheckpoint, RunRecord
from tinker_actors.types import CopyWeightsRequest, CopyWeightsResponse, TinkerPath

__all__ = ["copy_weights"]

_TOKEN_HEADER: Final = "x-tinker-weights-access-token"  # noqa: S105  # its name
_KEY_HEADER: Final = "x-idempotency-key"
_ID_BITS: Final = 64


class _Place(msgspec.Struct, frozen=True):
    run_id: str
    session: Session | None
    project_id: str | None


async def copy_weights(service: LocalService, call: Incoming[CopyWeightsRequest]) -> CopyWeightsResponse:
    """A copy of a checkpoint that the caller may read, as the only checkpoint of a new run.

    Asked again for the same place (a session's number, else the X-Idempotency-Key), it gives the first copy; another
    source at that place is refused.
    """
    await trio.lowlevel.checkpoint()
    request = call.body
    check_ttl(request.ttl_seconds)
    token = call.headers.get(_TOKEN_HEADER) or request.weights_access_token
    path = str(TinkerPath.parse(request.source_path, field="source_path"))
    place = _place(service, call)
    async with service.copying:  # one after another, so that a repeated request finds the first one's copy
        known = service.catalog.run(call.owner, place.run_id)
        if known is not None:
            return _again(service, call, known, path)
        record = service.catalog.readable(call.owner, path, service.owners.of_token(token))
        if record is None:
            raise not_found(f"source_path: there is no checkpoint {path}")
        if place.session is not None and request.model_seq_id is not None:
            place.session.reserve(request.model_seq_id)
        run = RunRecord(
            run_id=place.run_id,
            session_id="" if place.session is None else place.session.session_id,
            owner=call.owner,
            base_model=record.base_model,
            lora=record.lora,
            created_at=service.now(),
            user_metadata={},
            project_id=place.project_id,
            copied_from=path,
        )
        try:
            copy = await service.offload.run(partial(service.catalog.copy, record, run, request.ttl_seconds))
        except DamagedCheckpoint as error:
            raise gone(str(error)) from error
        except OSError as error:
            raise unavailable(f"the copy could not be kept: {error}") from error
    service.activity.audit.add(
        call.owner,
        "checkpoints",
        "checkpoint_copied",
        model_id=run.run_id,
        tinker_path=copy.path,
        details={"source_path": path},
    )
    return CopyWeightsResponse(tinker_path=copy.path)


def _place(service: LocalService, call: Incoming[CopyWeightsRequest]) -> _Place:
    request = call.body
    if request.session_id is not None and request.model_seq_id is not None:
        check_model_number(request.model_seq_id)
        session = service.sessions.get(call.owner, request.session_id)
        return _Place(f"{session.session_id}:train:{request.model_seq_id}", session, None)
    key = call.headers.get(_KEY_HEADER)
    if key:
        name = hashlib.sha256(f"{call.owner}\n{key}".encode()).hexdigest()[:16]
    else:
        name = f"{service.random.getrandbits(_ID_BITS):016x}"
    return _Place(f"copy-{name}", None, request.destination_project_id)


def _again(
    service: LocalService, call: Incoming[CopyWeightsRequest], run: RunRecord, path: str
) -> CopyWeightsResponse:
    found = service.catalog.checkpoints(call.owner, run.run_id)
    project = call.body.destination_project_id
    if run.copied_from != path or (project is not None and run.project_id != project):
        raise invalid(
            "copy_weights", "was asked for something else under this key", "Give each copy a key of its own"
        )
    if not found:
        raise gone(f"the copy of {path} in {run.run_id} is there no more. Make another")
    return CopyWeightsResponse(tinker_path=found[0].path)
