"""Results: waited for, and encoded as the asker can read them."""

from __future__ import annotations

import msgspec
import trio

from tinker_actors.codec.forward_backward_output import encode_forward_backward_output
from tinker_actors.codec.json import encode_json
from tinker_actors.codec.samples import encode_sample_response
from tinker_actors.errors import InvalidInput
from tinker_actors.local.endpoints.incoming import Incoming, Raw
from tinker_actors.local.owners import Owner
from tinker_actors.local.refusals import invalid
from tinker_actors.local.service import LocalService
from tinker_actors.types import (
    CancelFutureRequest,
    FailedResult,
    ForwardBackwardOutput,
    FutureCompletion,
    FutureFailed,
    FutureFinished,
    MetadataOnly,
    QueueState,
    RequestErrorCategory,
    RetrieveFutureRequest,
    RetrieveFuturesRequest,
    RetrieveFuturesResponse,
    SampleResponse,
    TryAgain,
)

__all__ = ["JSON", "PROTOBUF", "cancel_future", "retrieve_future", "retrieve_futures"]

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


class Cancelled(msgspec.Struct, frozen=True):
    """POST /cancel_future: clients do not read it."""


async def retrieve_future(
    service: LocalService, call: Incoming[RetrieveFutureRequest]
) -> Raw | TryAgain | MetadataOnly | FailedResult:
    """A promise's result, once it is there; try_again when that takes longer than one poll is held."""
    future = service.futures.find(call.owner, call.body.request_id)
    service.sessions.find(call.owner, future.session_id).touch()
    result = await service.futures.hold(future, service.settings.poll_hold)
    if result is None:
        progress = future.explain()
        return TryAgain(
            request_id=future.request_id,
            queue_state=QueueState(progress.queue_state),
            queue_state_reason=progress.reason,
        )
    if isinstance(result, FailedResult):
        return result
    try:
        raw = _encode(result, call.accept)
    except InvalidInput as error:
        return FailedResult(
            error=f"{future.what}: its result can't travel as JSON ({error}). Ask with Accept: {PROTOBUF}",
            category=RequestErrorCategory.USER,
        )
    above = service.settings.metadata_only_above
    if call.body.allow_metadata_only and above is not None and len(raw.content) > above:
        return MetadataOnly(response_payload_size=len(raw.content))
    return raw


async def retrieve_futures(service: LocalService, call: Incoming[RetrieveFuturesRequest]) -> RetrieveFuturesResponse:
    """Which requests of a sampler were completed after a cursor, once there are any (WIRE 3.7).

    Those that the client says it has retrieved are forgotten; with a ``timeout`` of 0 nothing is waited for.
    """
    request, target = call.body, call.body.target
    if target.cloned_sampler_id < 0 or request.prev_cursor < 0 or not (request.timeout or 0.0) >= 0.0:
        raise invalid("retrieve_futures", "holds a negative number", "Give numbers from 0")
    completions = service.find_sampler(call.owner, target.sampling_session_id).completions
    for request_id in request.retrieved_request_ids:
        service.futures.forget(call.owner, request_id)
    found = completions.after(target.cloned_sampler_id, request.prev_cursor)
    if not found:
        longest = service.settings.poll_hold
        seconds = longest if request.timeout is None else min(request.timeout, longest)
        await service.futures.hold_for(completions.next(target.cloned_sampler_id).wait, seconds)
        found = completions.after(target.cloned_sampler_id, request.prev_cursor)
    return RetrieveFuturesResponse(
        completions=tuple(_completion(service, call.owner, request_id) for _, request_id in found),
        cursor=found[-1][0] if found else request.prev_cursor,
    )


async def cancel_future(service: LocalService, call: Incoming[CancelFutureRequest]) -> Cancelled:
    """Nobody waits for this sample any more: it is not begun, if it was not. Asked again, nothing happens."""
    await trio.lowlevel.checkpoint()
    future = service.futures.find(call.owner, call.body.request_id)
    if future.cancel is None:
        raise invalid("request_id", f"{future.request_id} is no sample", "Training operations are not cancelled")
    future.cancel()
    return Cancelled()


def _completion(service: LocalService, owner: Owner, request_id: str) -> FutureCompletion:
    result = service.futures.result_of(owner, request_id)
    if isinstance(result, FailedResult):
        return FutureFailed(request_id=request_id)
    size = len(encode_sample_response(result)) if isinstance(result, SampleResponse) else None
    return FutureFinished(request_id=request_id, response_payload_uncompressed_size=size)


def _encode(result: object, accept: str) -> Raw:
    if PROTOBUF in accept:
        if isinstance(result, ForwardBackwardOutput):
            return Raw(encode_forward_backward_output(result), PROTOBUF)
        if isinstance(result, SampleResponse):
            return Raw(encode_sample_response(result), PROTOBUF)
    return Raw(encode_json(result), JSON)
