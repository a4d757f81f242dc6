"""Training operations: checked, numbered and promised here, done by the model's actor."""

from __future__ import annotations

from tinker_actors.codec.digest import operation_digest
from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.endpoints.models import create_by_load
from tinker_actors.local.owners import Owner
from tinker_actors.local.refusals import invalid
from tinker_actors.local.sequence_numbers import check_sampler_number, check_seq_id
from tinker_actors.local.service import LocalService
from tinker_actors.types import (
    ForwardBackwardRequest,
    LoadWeightsRequest,
    OptimStepRequest,
    Promise,
    SaveWeightsExternalRequest,
    SaveWeightsForSamplerRequest,
    SaveWeightsRequest,
    TinkerPath,
    checkpoint_name,
)

__all__ = [
    "check_ttl",
    "forward",
    "forward_backward",
    "load_weights",
    "optim_step",
    "save_weights",
    "save_weights_external",
    "save_weights_for_sampler",
]


_LONGEST_SHOWN = 60
_LONGEST_TTL = 100 * 365 * 24 * 3600  # seconds; dates end in the year 9999


async def forward_backward(service: LocalService, call: Incoming[ForwardBackwardRequest]) -> Promise:
    """Losses, and unless forward_only gradients."""
    if not call.body.data:
        raise invalid("data", "is empty", "Give at least one datum")
    return await _submit(service, call.owner, call.body.model_id, call.body.seq_id, call.body)


async def forward(service: LocalService, call: Incoming[ForwardBackwardRequest]) -> Promise:
    """Losses only: what SDKs up to 0.24 ask for in an endpoint of its own."""
    if not call.body.forward_only:
        raise invalid("forward_input", "is missing", "Give it, or use /forward_backward")
    return await forward_backward(service, call)


async def optim_step(service: LocalService, call: Incoming[OptimStepRequest]) -> Promise:
    """One AdamW step."""
    if call.body.optimizer_params is not None:
        family = str(call.body.optimizer_params.get("type"))[:_LONGEST_SHOWN]
        raise invalid("optimizer_params", f"are of {family!r}, which is not offered", "Give adam_params for AdamW")
    if call.body.adam_params is None:
        raise invalid("adam_params", "is missing", "Give adam_params: only AdamW is offered")
    return await _submit(service, call.owner, call.body.model_id, call.body.seq_id, call.body)


async def save_weights(service: LocalService, call: Incoming[SaveWeightsRequest]) -> Promise:
    """A training checkpoint."""
    if call.body.path is not None:
        checkpoint_name(call.body.path, field="path")
    check_ttl(call.body.ttl_seconds)
    return await _submit(service, call.owner, call.body.model_id, call.body.seq_id, call.body)


async def save_weights_for_sampler(service: LocalService, call: Incoming[SaveWeightsForSamplerRequest]) -> Promise:
    """Weights to sample from: under a name, or for one sampling session.

    "inflight" ones become those of all the model's inflight sampling sessions (WIRE 2.4).
    """
    request = call.body
    if (request.path is None) == (request.sampling_session_seq_id is None):
        raise invalid("path", "and sampling_session_seq_id are both given or both missing", "Give exactly one")
    if request.path is not None:
        checkpoint_name(request.path, field="path")
    if request.sampling_session_seq_id is not None:
        check_sampler_number(request.sampling_session_seq_id)
    if request.kind not in ("snapshot", "inflight"):
        raise invalid("kind", f"{request.kind[:_LONGEST_SHOWN]!r} is not known", "Use 'snapshot' or 'inflight'")
    if request.kind == "inflight" and request.path is not None:
        raise invalid("kind", "'inflight' weights have no name", "Leave path out, or use 'snapshot'")
    check_ttl(request.ttl_seconds)
    return await _submit(service, call.owner, request.model_id, request.seq_id, request)


async def save_weights_external(service: LocalService, call: Incoming[SaveWeightsExternalRequest]) -> Promise:
    """Weights for use elsewhere: files to download, not to load or to sample from."""
    request = call.body
    checkpoint_name(request.path, field="path")
    if request.age_encryption_recipients:
        raise invalid("age_encryption_recipients", "are given, but nothing is encrypted here", "Leave them out")
    check_ttl(request.ttl_seconds)
    return await _submit(service, call.owner, request.model_id, request.seq_id, request)


async def load_weights(service: LocalService, call: Incoming[LoadWeightsRequest]) -> Promise:
    """Weights of a checkpoint: into a model, or as a new model."""
    request = call.body
    if request.model_id is None:
        return await create_by_load(service, call.owner, request)
    TinkerPath.parse(request.path, kind="weights")
    if service.settings.load_first_only and request.seq_id != 1:
        problem = f"a state is loaded by the first request of a model, not by number {request.seq_id}"
        raise invalid("seq_id", problem, "Load into a new model")
    return await _submit(service, call.owner, request.model_id, request.seq_id, request)


async def _submit(
    service: LocalService,
    owner: Owner,
    model_id: str,
    seq_id: int | None,
    request: ForwardBackwardRequest
    | OptimStepRequest
    | SaveWeightsRequest
    | SaveWeightsForSamplerRequest
    | SaveWeightsExternalRequest
    | LoadWeightsRequest,
) -> Promise:
    if seq_id is None:
        raise invalid("seq_id", "is missing", "Number a model's requests 1, 2, 3, ...")
    check_seq_id(seq_id)
    model = service.find_model(owner, model_id)
    session = service.sessions.find(owner, model.run.session_id)
    session.touch()
    model.last_request_at = service.now()
    await model.created.wait()
    digest = operation_digest(request)
    request_id = model.promised(seq_id, request, digest)
    if request_id is None:
        model.require_open()
        filled = service.filled(model, request)
        service.check(model, filled)
        request_id = model.submit(seq_id, filled, digest)
    return Promise(request_id=request_id, model_id=model_id)


def check_ttl(seconds: int | None) -> None:
    """Refuse (400) a lifetime that no checkpoint can have; None is for good."""
    if seconds is not None and seconds < 1:
        raise invalid("ttl_seconds", f"{seconds} is not positive", "Give seconds, or null to keep it")
    if seconds is not None and seconds > _LONGEST_TTL:
        raise invalid("ttl_seconds", f"{seconds} is more than a century", "Give less, or null to keep it")
