"""Sampling sessions and samples."""

from __future__ import annotations

import hashlib
from functools import partial

import msgspec
import trio

from tinker_actors.codec.json import encode_json
from tinker_actors.local.endpoints.incoming import Incoming, Streamed
from tinker_actors.local.refusals import invalid, not_found, overloaded
from tinker_actors.local.sampler import Sample, Sampler
from tinker_actors.local.sequence_numbers import check_sample_number, check_sampler_number
from tinker_actors.local.service import LocalService
from tinker_actors.types import (
    CreateSamplingSessionRequest,
    CreateSamplingSessionResponse,
    JoinSamplingSessionRequest,
    JoinSamplingSessionResponse,
    Promise,
    SampleRequest,
    TinkerPath,
)

__all__ = ["asample", "create_sampling_session", "get_sampler", "join_sampling_session", "stream_sample"]

_SEED_BITS = 31
_MOST_SAMPLES = 1024
_NOT_STREAMED = (
    "prompt_logprobs",
    "topk_prompt_logprobs",
    "topk_sample_logprobs",
    "target_prompt_logprobs",
    "prompt_alt_tokens_k",
    "prompt_logprobs_last_n",
    "record_stability_info",
)


class SamplerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """GET /samplers/{id}."""

    sampler_id: str
    base_model: str
    model_path: str | None


async def create_sampling_session(
    service: LocalService, call: Incoming[CreateSamplingSessionRequest]
) -> CreateSamplingSessionResponse:
    """A sampler of a base model or of a checkpoint; asked again with the same number, the same one."""
    await trio.lowlevel.checkpoint()
    request = call.body
    session = service.sessions.get(call.owner, request.session_id)
    check_sampler_number(request.sampling_session_seq_id)
    base_model = request.base_model
    path = None
    if request.model_path is not None:
        parsed = TinkerPath.parse(request.model_path, field="model_path")
        if parsed.kind == "external_weights":
            raise invalid("model_path", f"{parsed} can't be sampled from", "Use sampler_weights or weights")
        path = str(parsed)
        record = service.catalog.readable(call.owner, path)
        if record is None:
            raise not_found(f"model_path: there is no checkpoint {path}")
        if base_model not in (None, record.base_model):
            raise invalid("base_model", f"{base_model!r} is not that of {path}", f"It is {record.base_model!r}")
        base_model = record.base_model
    if base_model is None:
        raise invalid("base_model", "and model_path are both missing", "Give one of them")
    if base_model not in service.bases:
        offered = ", ".join(service.bases)
        raise invalid("base_model", f"{base_model!r} is not offered", f"Use one of: {offered}")
    name = f"{session.session_id}:sample:{request.sampling_session_seq_id}"
    sampler = Sampler(name, session.session_id, base_model, owner=call.owner, model_path=path)
    if not service.samplers.add(sampler):
        known = service.samplers.find(name)
        if known is None or known.ephemeral or (known.base_model, known.model_path) != (base_model, path):
            raise invalid(
                "sampling_session_seq_id",
                f"{request.sampling_session_seq_id} of session {session.session_id} was used for another sampler",
                "Give each new sampler the next number",
            )
    return CreateSamplingSessionResponse(sampling_session_id=name)


async def asample(service: LocalService, call: Incoming[SampleRequest]) -> Promise:
    """Samples; asked again under the same seq_id, the same promise."""
    await trio.lowlevel.checkpoint()
    request = call.body
    if request.sampling_session_id is None or request.seq_id is None:
        raise invalid(
            "sampling_session_id", "or seq_id is missing", "Create a sampling session and number its requests"
        )
    sampler = _sampler(service, call, request.sampling_session_id, request.seq_id)
    digest = hashlib.sha256(encode_json(request)).hexdigest()
    known = sampler.promised(request.seq_id, digest)
    if known is not None:
        return known
    if not 1 <= request.num_samples <= _MOST_SAMPLES:
        raise invalid("num_samples", f"{request.num_samples} is out of range", f"Ask for 1 to {_MOST_SAMPLES}")
    _check_sample(service, sampler, request)
    settings = service.settings
    if len(service.samples) >= settings.max_queued_samples:
        raise overloaded(f"{len(service.samples)} samples are waiting already (max_queued_samples)")
    if service.samples.count(call.owner) >= settings.max_queued_samples_per_owner:
        count = service.samples.count(call.owner)
        raise overloaded(f"{count} samples of yours are waiting already (max_queued_samples_per_owner)")
    if request.sampling_params.seed is None:
        seeded = msgspec.structs.replace(request.sampling_params, seed=service.random.getrandbits(_SEED_BITS))
        request = msgspec.structs.replace(request, sampling_params=seeded)
    future = service.futures.create(
        call.owner, sampler.session_id, f"sample {request.seq_id} of {sampler.sampling_session_id}"
    )
    assert request.seq_id is not None
    promise = sampler.promise(request.seq_id, digest, future, request.num_samples)
    future.cancel = partial(service.cancel_sample, future)
    future.explain = service.samples.push(Sample(sampler, request, future))
    return promise


async def stream_sample(service: LocalService, call: Incoming[SampleRequest]) -> Streamed:
    """One sample as server-sent events, each token when it is drawn (WIRE 2.5).

    Its tokens are those that asample gives for the request. It is not remembered: asked again, it is sampled again.
    """
    await trio.lowlevel.checkpoint()
    request = call.body
    if request.sampling_session_id is None:
        raise invalid("sampling_session_id", "is missing", "Create a sampling session")
    if request.num_samples != 1:
        raise invalid("num_samples", f"{request.num_samples} can't be streamed", "Ask for 1, or use asample")
    wanted = [name for name in _NOT_STREAMED if getattr(request, name)]
    if wanted:
        raise invalid(wanted[0], "is not part of a stream", "Leave it out, or use asample")
    sampler = _sampler(service, call, request.sampling_session_id, request.seq_id or 0)
    _check_sample(service, sampler, request)
    if request.seq_id is None and request.sampling_params.seed is None:
        seeded = msgspec.structs.replace(request.sampling_params, seed=service.random.getrandbits(_SEED_BITS))
        request = msgspec.structs.replace(request, sampling_params=seeded)
    service.streams.require_room()
    return Streamed(service.streams.chunks(sampler, request))


def _sampler(service: LocalService, call: Incoming[SampleRequest], sampling_session_id: str, seq_id: int) -> Sampler:
    check_sample_number(seq_id)
    return service.find_sampler(call.owner, sampling_session_id)


def _check_sample(service: LocalService, sampler: Sampler, request: SampleRequest) -> None:
    if request.prompt.length < 1:
        raise invalid("prompt", "is empty", "Give at least one token")
    service.check_sample(sampler, request)


async def join_sampling_session(
    service: LocalService, call: Incoming[JoinSamplingSessionRequest]
) -> JoinSamplingSessionResponse:
    """A number for one more client of a sampling session, from 1 on: its block of seq_ids (WIRE 4.5)."""
    await trio.lowlevel.checkpoint()
    sampler = service.find_sampler(call.owner, call.body.sampling_session_id)
    return JoinSamplingSessionResponse(client_counter=sampler.join())


async def get_sampler(service: LocalService, call: Incoming[None]) -> SamplerInfo:
    """What a sampling session samples from."""
    await trio.lowlevel.checkpoint()
    sampler = service.find_sampler(call.owner, call.path["sampling_session_id"])
    return SamplerInfo(
        sampler_id=sampler.sampling_session_id, base_model=sampler.base_model, model_path=sampler.model_path
    )
