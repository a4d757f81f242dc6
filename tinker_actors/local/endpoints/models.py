"""Models: created, described, unloaded."""

from __future__ import annotations

import hashlib

import msgspec
import trio

from tinker_actors.codec.json import encode_json
from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.owners import Owner
from tinker_actors.local.refusals import invalid, not_found
from tinker_actors.local.sequence_numbers import check_model_number
from tinker_actors.local.service import LocalService
from tinker_actors.local.storage import RunRecord
from tinker_actors.types import (
    CreateModelRequest,
    GetInfoResponse,
    LoadWeightsRequest,
    LoraConfig,
    ModelData,
    ModelIdRequest,
    Promise,
    TinkerPath,
)

__all__ = ["create_by_load", "create_model", "get_info", "unload_model"]

_SEED_BITS = 31
_LONGEST_SHOWN = 60


async def create_model(service: LocalService, call: Incoming[CreateModelRequest]) -> Promise:
    """A new LoRA adapter on a base model; asked again with the same numbers, the same one."""
    request = call.body
    _check_optimizer(request)
    place = _Place(call.owner, request.session_id, request.model_seq_id)
    return await _create(service, request, place, request.base_model, request.lora_config or LoraConfig())


async def create_by_load(service: LocalService, owner: Owner, request: LoadWeightsRequest) -> Promise:
    """load_weights by session: a new model with the weights, and the LoRA shape, of a checkpoint."""
    await trio.lowlevel.checkpoint()
    if request.session_id is None or request.model_seq_id is None:
        raise invalid("load_weights", "names no model", "Give model_id and seq_id, or session_id and model_seq_id")
    _check_optimizer(request)
    path = str(TinkerPath.parse(request.path, kind="weights"))
    record = service.catalog.readable(owner, path, service.owners.of_token(request.weights_access_token))
    if record is None:
        raise not_found(f"path: there is no checkpoint {path}")
    if request.base_model not in (None, record.base_model):
        raise invalid(
            "base_model",
            f"{request.base_model!r} is not that of {path}, which is {record.base_model!r}",
            "Leave base_model out",
        )
    place = _Place(owner, request.session_id, request.model_seq_id)
    return await _create(service, request, place, record.base_model, record.lora)


def _check_optimizer(request: CreateModelRequest | LoadWeightsRequest) -> None:
    family = (request.optimizer_config or {}).get("type", "adamw")
    if family != "adamw":
        problem = f"{str(family)[:_LONGEST_SHOWN]!r} is not offered"
        raise invalid("optimizer_config", problem, "Leave it out, or use {'type': 'adamw'}")


class _Place(msgspec.Struct, frozen=True):
    owner: Owner
    session_id: str
    model_seq_id: int


async def _create(
    service: LocalService,
    request: CreateModelRequest | LoadWeightsRequest,
    place: _Place,
    base_model: str,
    lora: LoraConfig,
) -> Promise:
    owner, session_id, model_seq_id = place.owner, place.session_id, place.model_seq_id
    check_model_number(model_seq_id)
    session = service.sessions.get(owner, session_id)
    model_id = f"{session_id}:train:{model_seq_id}"
    digest = hashlib.sha256(encode_json(request)).hexdigest()
    known = session.creation(model_seq_id, digest)
    if known is not None:
        return Promise(request_id=known.request_id, model_id=model_id)
    if base_model not in service.bases:
        offered = ", ".join(service.bases)
        raise invalid("base_model", f"{base_model!r} is not offered", f"Use one of: {offered}")
    if lora.rank > service.settings.max_rank:
        raise invalid(
            "lora_config.rank",
            f"{lora.rank} is above this server's limit",
            f"Use a rank of at most {service.settings.max_rank}",
        )
    if lora.seed is None:
        lora = msgspec.structs.replace(lora, seed=service.random.getrandbits(_SEED_BITS))
    run = RunRecord(
        run_id=model_id,
        session_id=session_id,
        owner=owner,
        base_model=base_model,
        lora=lora,
        created_at=service.now(),
        user_metadata=request.user_metadata or {},
    )
    service.check_creation(run)
    service.limits.check_model(session)
    future = service.futures.create(owner, session_id, f"creation of {model_id}")
    session.promise_creation(model_seq_id, digest, future)
    await service.start_model(session, run, request, future)
    return Promise(request_id=future.request_id, model_id=model_id)


async def get_info(service: LocalService, call: Incoming[ModelIdRequest]) -> GetInfoResponse:
    """What a model is. Refuses (410) one that is over."""
    await trio.lowlevel.checkpoint()
    model = service.find_model(call.owner, call.body.model_id)
    model.require_open()
    service.sessions.find(call.owner, model.run.session_id).touch()
    base = service.bases[model.run.base_model]
    return GetInfoResponse(
        model_id=model.model_id,
        model_data=ModelData(
            arch="decoder-only transformer",
            model_name=base.name,
            tokenizer_id=base.name,
            vocab_size=base.config.vocab_size,
        ),
        is_lora=True,
        lora_rank=model.run.lora.rank,
        model_name=base.name,
    )


async def unload_model(service: LocalService, call: Incoming[ModelIdRequest]) -> Promise:
    """Free a model behind what it still has to do."""
    await trio.lowlevel.checkpoint()
    model = service.find_model(call.owner, call.body.model_id)
    return Promise(request_id=service.unload(model).request_id, model_id=model.model_id)
