"""The ASGI application: keys, bodies, errors; and below it the table of endpoints.

Every error is JSON, {"detail": ...}, with its Content-Length: clients take an empty 400 for a proxy's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tinker_actors.codec.compression import decompress
from tinker_actors.codec.forward_backward import decode_forward_backward_request
from tinker_actors.codec.forward_backward_json import decode_forward_backward_json
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.local.endpoints.futures import JSON
from tinker_actors.local.endpoints.incoming import Incoming, Raw, Streamed
from tinker_actors.local.endpoints.query import decode_query
from tinker_actors.local.endpoints.table import ENDPOINTS, Endpoint
from tinker_actors.local.event_stream import EventStream
from tinker_actors.local.openapi import openapi
from tinker_actors.local.owners import NOBODY, Owner
from tinker_actors.local.presented import presented
from tinker_actors.local.refusals import Refusal
from tinker_actors.local.service import LocalService
from tinker_actors.local.settings import ServerSettings
from tinker_actors.local.tokens import is_token
from tinker_actors.types import ForwardBackwardRequest

__all__ = ["make_app"]

_ROOT = "/api/v1"
_PROTOBUF_TYPES = frozenset({"application/x-protobuf", "application/protobuf"})


def make_app(service: LocalService) -> Starlette:
    """The application in front of ``service``."""
    routes = [
        Route(_ROOT + endpoint.path, _handler(service, endpoint), methods=[endpoint.method]) for endpoint in ENDPOINTS
    ]
    routes.append(Route("/openapi.json", _openapi, methods=["GET"]))
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_exception})


def _handler(service: LocalService, endpoint: Endpoint[Any]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            owner = NOBODY if endpoint.open else _owner(service, request)
            body = await _body(service.settings, endpoint, request)
            answer = await endpoint.call(
                service,
                Incoming(
                    owner=owner,
                    body=body,
                    path=request.path_params,
                    query=dict(request.query_params),
                    accept=request.headers.get("accept", ""),
                    headers=request.headers,
                    base=str(request.base_url).rstrip("/") + _ROOT,
                ),
            )
        except Refusal as refusal:
            return _error(refusal.status, refusal.detail, refusal.headers)
        except DecodeError as error:
            return _error(422, str(error))
        except InvalidInput as error:
            return _error(400, str(error))
        except ClientDisconnect:
            return _error(400, "the connection ended within the body")
        if isinstance(answer, Streamed):
            return EventStream(answer.values)
        if answer is None:
            return Response(status_code=204)
        if isinstance(answer, Raw):
            return Response(answer.content, answer.status, answer.headers, answer.media_type)
        return Response(encode_json(answer), media_type=JSON)

    return handle


async def _openapi(_request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    return Response(encode_json(openapi()), media_type=JSON)


def _error(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return Response(encode_json({"detail": detail}), status, headers, JSON)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return _error(error.status_code, detail, dict(error.headers or {}))


def _owner(service: LocalService, request: Request) -> Owner:
    credential = presented(request.headers)
    return service.tokens.identify(credential) if is_token(credential) else service.owners.identify(credential)


async def _body(settings: ServerSettings, endpoint: Endpoint[Any], request: Request) -> Any:
    type_ = endpoint.body
    if type_ is type(None):
        return None
    if endpoint.method == "GET":
        return decode_query(request.query_params.multi_items(), type_)
    data = await _read(settings, request)
    encoding = request.headers.get("content-encoding")
    if encoding is not None:
        data = decompress(data, encoding, limit=settings.max_body_bytes)
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if type_ is not ForwardBackwardRequest:
        return decode_json(data, type_)
    if media_type in _PROTOBUF_TYPES:
        return decode_forward_backward_request(data)
    if media_type == JSON:  # WIRE 2.3: SDKs up to 0.24
        return decode_forward_backward_json(data)
    raise Refusal(415, f"the body is {media_type[:80]!r}. Send application/x-protobuf, or JSON as old SDKs do")


async def _read(settings: ServerSettings, request: Request) -> bytes:
    limit, patience = settings.max_body_bytes, settings.body_timeout
    pieces: list[bytes] = []
    size = 0
    with trio.CancelScope(deadline=trio.current_time() + patience) as waiting:
        async with aclosing(request.stream()) as stream:
            async for piece in stream:
                size += len(piece)
                if size > limit:
                    raise Refusal(413, f"the body is longer than {limit} bytes. Send less at a time")
                pieces.append(piece)
                waiting.deadline = trio.current_time() + patience
    if waiting.cancelled_caught:
        came = f"no byte of the body came for {patience:g} s, after {size} bytes"
        raise Refusal(408, f"{came}. Send the request again", [("connection", "close")])
    return b"".join(pieces)
