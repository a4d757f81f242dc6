"""Results: waited for, and encoded as the asker can read them."""

from __future__ import annotations

from tinker_actors.codec.forward_backward_output import encode_forward_backward_output
from tinker_actors.codec.json import encode_json
from tinker_actors.codec.samples import encode_sample_response
from tinker_actors.errors import InvalidInput
from tinker_actors.local.endpoints.incoming import Incoming, Raw
from tinker_actors.local.service import LocalService
from tinker_actors.types import (
    FailedResult,
    ForwardBackwardOutput,
    MetadataOnly,
    QueueState,
    RequestErrorCategory,
    RetrieveFutureRequest,
    SampleResponse,
    TryAgain,
)

__all__ = ["JSON", "PROTOBUF", "retrieve_future"]

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


async def retrieve_future(
    service: LocalService, call: Incoming[RetrieveFutureRequest]
) -> Raw | TryAgain | MetadataOnly | FailedResult:
    """A promise's result, once it is there; try_again when that takes longer than one poll is held."""
    future = service.futures.find(call.owner, call.body.request_id)
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


def _encode(result: object, accept: str) -> Raw:
    if PROTOBUF in accept:
        if isinstance(result, ForwardBackwardOutput):
            return Raw(encode_forward_backward_output(result), PROTOBUF)
        if isinstance(result, SampleResponse):
            return Raw(encode_sample_response(result), PROTOBUF)
    return Raw(encode_json(result), JSON)
