"""POST /retrieve_future: asking for what a promise stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import msgspec

from tinker_actors.codec.forward_backward_output import decode_forward_backward_output
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.codec.samples import decode_sample_response
from tinker_actors.errors import DecodeError
from tinker_actors.types import (
    CancelFutureRequest,
    FailedResult,
    ForwardBackwardOutput,
    MetadataOnly,
    QueueState,
    RequestErrorCategory,
    RetrieveFutureRequest,
    RetrieveFuturesRequest,
    RetrieveFuturesResponse,
    SampleResponse,
    TryAgain,
)
from tinker_actors.wire.api import JSON, PROTOBUF, RESULT_LIMIT, Api, Reply

__all__ = ["cancel_future", "retrieve_future", "retrieve_futures"]

T = TypeVar("T")

_CANCEL_TIMEOUT = 30.0

_IN_PROTOBUF: Mapping[Any, Callable[[bytes], Any]] = {
    ForwardBackwardOutput: decode_forward_backward_output,
    SampleResponse: decode_sample_response,
}


class _Marks(msgspec.Struct):
    """What tells the kinds of JSON replies apart; values of any kind, since a result has its own."""

    type: Any = None
    status: Any = None
    error: Any = msgspec.UNSET
    category: Any = None
    queue_state: Any = None
    queue_state_reason: Any = None
    response_payload_size: Any = None


async def retrieve_future(
    api: Api,
    request_id: str,
    result_type: type[T],
    *,
    iteration: int,
    request_type: str,
    timeout: float,
    allow_metadata_only: bool = False,
    roundtrip: float | None = None,
    decoding: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> T | TryAgain | FailedResult | MetadataOnly:
    """Ask once for the result of the promise ``request_id``.

    ``iteration`` counts the polls of this promise from 0, ``request_type`` says what was promised, such as
    "ForwardBackward", ``roundtrip`` how many seconds the promise took; all of them only inform the server. The server
    may hold the request; ``timeout`` bounds the poll in seconds. Results of samples and forward passes are taken in
    protobuf and in JSON, all others in JSON. ``decoding`` is entered while a result is decoded. A 408 that says why
    is a TryAgain. Raises APIError otherwise.
    """
    in_protobuf = result_type in _IN_PROTOBUF
    body = encode_json(RetrieveFutureRequest(request_id=request_id, allow_metadata_only=allow_metadata_only))
    reply = await api.exchange(
        "POST",
        "/retrieve_future",
        (body,),
        purpose="poll",
        timeout=timeout,
        limit=RESULT_LIMIT,
        also=408,
        headers=(
            ("accept", f"{PROTOBUF}, {JSON}" if in_protobuf else JSON),
            ("x-tinker-request-iteration", str(iteration)),
            ("x-tinker-request-type", request_type),
            *((("x-tinker-create-promise-roundtrip-time", repr(roundtrip)),) if roundtrip is not None else ()),
        ),
    )
    if reply.status == 408:
        marks = _marks(reply)
        if marks is None:
            raise api.status_error(reply)
        return _try_again(api, request_id, marks)
    return _interpret(api, reply, request_id, result_type, decoding)


async def retrieve_futures(api: Api, request: RetrieveFuturesRequest, *, timeout: float) -> RetrieveFuturesResponse:
    """POST /retrieve_futures: which promises of a sampling session are kept by now. ``timeout`` bounds the poll."""
    return await api.call("/retrieve_futures", RetrieveFuturesResponse, request, purpose="poll", timeout=timeout)


async def cancel_future(api: Api, request_id: str, *, key: str) -> None:
    """POST /cancel_future: nobody waits for this sample any more."""
    body = encode_json(CancelFutureRequest(request_id=request_id))
    await api.exchange("POST", "/cancel_future", (body,), purpose="poll", key=key, timeout=_CANCEL_TIMEOUT)


def _interpret(
    api: Api,
    reply: Reply,
    request_id: str,
    result_type: type[T],
    decoding: Callable[[], AbstractContextManager[object]],
) -> T | TryAgain | FailedResult | MetadataOnly:
    if PROTOBUF in reply.content_type:
        read = _IN_PROTOBUF.get(result_type)
        if read is None:
            raise api.unreadable(reply, f"protobuf where a {result_type.__name__} in JSON is due")
        with decoding():
            value: T = api.read(reply, read)
        return value
    marks = _marks(reply)
    if marks is None:
        raise api.unreadable(reply, "no JSON object")
    if marks.type == "try_again":
        return _try_again(api, request_id, marks)
    if marks.status == "complete_metadata":
        size = marks.response_payload_size
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise api.unreadable(reply, "a withheld result without its size")
        return MetadataOnly(response_payload_size=size)
    if marks.error is not msgspec.UNSET:
        return FailedResult(
            error=api.redact(_text(marks.error) or "the server gives no reason"),
            category=RequestErrorCategory.parse(_text(marks.category)),
        )
    with decoding():
        return api.decode(reply, result_type)


def _marks(reply: Reply) -> _Marks | None:
    """None for anything but a JSON object."""
    try:
        return decode_json(reply.body, _Marks)
    except DecodeError:
        return None


def _try_again(api: Api, request_id: str, marks: _Marks) -> TryAgain:
    reason = _text(marks.queue_state_reason)
    return TryAgain(
        request_id=request_id,
        queue_state=QueueState.parse(_text(marks.queue_state)),
        queue_state_reason=None if reason is None else api.redact(reason),
    )


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
