"""The Api: requests of the Tinker protocol over a Transport, one attempt each."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, final
from urllib.parse import urlsplit

import msgspec
import trio

from tinker_actors.codec.compression import decompress
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.config import Config, Secret, access_headers, require_key
from tinker_actors.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    DecodeError,
    status_error,
)
from tinker_actors.ports import (
    Credential,
    Credentials,
    FixedCredentials,
    Purpose,
    Request,
    Response,
    StreamedBody,
    Transport,
)
from tinker_actors.wire.edge import EdgeRejections
from tinker_actors.wire.forms import RequestForms
from tinker_actors.wire.headers import Headers, common_headers, merged, redacted
from tinker_actors.wire.redirects import REDIRECTS, origin, redirected
from tinker_actors.wire.replies import (
    category,
    deprecation,
    expected_seq_id,
    reply_detail,
    request_id_of,
    retry_after,
    should_retry,
)
from tinker_actors.wire.reply import ParsedReply, Reply, start_of, unpacked
from tinker_actors.wire.secrets import Secrets
from tinker_actors.wire.streamed import StreamedReply
from tinker_actors.wire.urls import Query, build_url, check_confidential

__all__ = ["CONTROL_LIMIT", "JSON", "PROTOBUF", "RESULT_LIMIT", "Api", "Body", "Headers", "Reply"]

T = TypeVar("T")

Body = tuple[bytes | memoryview, ...]

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
CONTROL_LIMIT = 8 << 20
"""Bytes of a reply that carries no result; longer ones are refused."""
RESULT_LIMIT = 512 << 20
"""Bytes of a reply that may carry the result of an operation."""
_ERROR_LIMIT = 64 << 10  # of an error's body; the rest is not read
_LONGEST_TEXT = 1000
_LONGEST_DETAIL = 600
_MOST_REDIRECTS = 5
_MOST_NOTES = 64  # deprecation notices that are told once each; a server that words each anew can't fill memory
_log = logging.getLogger(__name__)


@final
class Api:
    """Builds requests below the configured base URL and reads their replies. Never repeats anything.

    The credential goes into its own headers and nowhere else: where a server echoes it, it is hidden. It is asked
    of ``credentials`` for each request; without them it is the key of ``config``. Raises InvalidInput for a base URL
    that would carry it unencrypted to another host, unless the configuration allows it.
    Redirects are followed, five at most; only the same host gets the credential.
    """

    def __init__(self, transport: Transport, config: Config, credentials: Credentials | None = None) -> None:
        check_confidential(config.base_url, allow_plain_http=config.allow_plain_http)
        self._transport = transport
        self._base_url = config.base_url
        self._timeout = config.timeout
        self._default_headers: Headers = tuple(config.default_headers.items())
        self._default_query: Query = config.default_query
        self._dump = logging.INFO if config.dump_headers else logging.DEBUG
        self._edge = EdgeRejections()
        self.forms = RequestForms()
        self.answered_at = -math.inf
        """When the server last answered anything but telemetry, by trio's clock."""
        self._noted: set[str] = set()
        if credentials is None:
            credentials = FixedCredentials(require_key(config).reveal(), access_headers(config))
        self.credentials = credentials
        self._credential: Credential | None = None
        self._secrets = Secrets()
        if config.api_key is not None:
            self._secrets.remember(config.api_key)
        self._common: Headers = ()

    @property
    def transport(self) -> Transport:
        """What carries the requests, for those that are to carry no credential."""
        return self._transport

    def renew(self, secret: Secret) -> None:
        """Use another key from now on."""
        self._secrets.remember(secret)
        self.credentials.renew(secret.reveal())

    async def call(
        self,
        path: str,
        result_type: type[T],
        body: object = None,
        *,
        method: str = "POST",
        purpose: Purpose,
        key: str | None = None,
        timeout: float | None = None,
        headers: Headers = (),
        query: Query | None = None,
        attempt: int = 0,
    ) -> T:
        """Exchange JSON: ``body`` (None for none) goes out, the reply is read as ``result_type``.

        Raises as ``exchange`` does, and APIResponseError for a reply that is no ``result_type``.
        """
        pieces = (encode_json(body),) if body is not None else ()
        reply = await self.exchange(
            method,
            path,
            pieces,
            purpose=purpose,
            key=key,
            timeout=timeout,
            headers=(*headers, ("accept", JSON)),
            query=query,
            attempt=attempt,
        )
        return self.decode(reply, result_type)

    async def parsed(
        self, path: str, result_type: type[T], body: object = None, *, method: str = "POST", purpose: Purpose
    ) -> ParsedReply[T]:
        """As ``call``, with the reply beside the value: its status, headers and bytes."""
        pieces = (encode_json(body),) if body is not None else ()
        reply = await self.exchange(method, path, pieces, purpose=purpose, headers=(("accept", JSON),))
        return ParsedReply(self.decode(reply, result_type), reply)

    async def exchange(
        self,
        method: str,
        path: str,
        body: Body | StreamedBody = (),
        *,
        purpose: Purpose,
        key: str | None = None,
        timeout: float | None = None,
        headers: Headers = (),
        content_type: str = JSON,
        limit: int = CONTROL_LIMIT,
        also: int | None = None,
        query: Query | None = None,
        attempt: int = 0,
    ) -> Reply:
        """One request to ``path`` below /api/v1 and its whole reply.

        ``key`` is the idempotency key; ``timeout`` is for the whole exchange, redirects included, and defaults to
        the configuration's; ``attempt`` counts from 0 how often this has been asked before.
        A request refused with 401 is sent once more, within the same time, if the credentials then have another one.
        Raises APIConnectionError, APITimeoutError, the APIStatusError of any status from 300 but ``also``, and
        APIResponseError for a body above ``limit`` bytes or one that can't be decompressed.
        """
        name = _name(method, path)
        request = self._request(
            method,
            path,
            body,
            purpose=purpose,
            key=key,
            timeout=timeout,
            headers=headers,
            content_type=content_type,
            query=query,
            attempt=attempt,
        )
        response = await self._answered(request, name, also)
        content = await self._secrets.guarded(response.read(limit), name)
        self._edge.succeeded(purpose)
        reply = Reply(response.status, response.headers, content, name)
        encoding = response.headers.get("content-encoding")
        if encoding is None:
            return reply
        return msgspec.structs.replace(
            reply, body=self.read(reply, lambda body: decompress(body, encoding, limit=limit))
        )

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        purpose: Purpose,
        key: str | None = None,
        timeout: float | None = None,
        headers: Headers = (),
        limit: int = RESULT_LIMIT,
        query: Query | None = None,
    ) -> AsyncGenerator[StreamedReply]:
        """One request like ``call``'s, and its reply as a stream of at most ``limit`` bytes.

        ``timeout`` is for all of it. Leaving the block gives up the rest of the body. Raises as ``exchange`` does.
        """
        pieces = (encode_json(body),) if body is not None else ()
        # a stream is read as it arrives, so it may not be packed
        plain = (*headers, ("accept-encoding", "identity"))
        name = _name(method, path)
        request = self._request(
            method, path, pieces, purpose=purpose, key=key, timeout=timeout, headers=plain, query=query
        )
        response = await self._answered(request, name)
        reply = StreamedReply(response, name, limit, self._secrets)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise APIResponseError(f"{name}: a stream that is packed, though that was not asked", request=name)
            yield reply
        finally:
            with trio.CancelScope(shield=True):
                await reply.aclose()

    def _request(
        self,
        method: str,
        path: str,
        body: Body | StreamedBody,
        *,
        purpose: Purpose,
        key: str | None,
        timeout: float | None,
        headers: Headers,
        content_type: str = JSON,
        query: Query | None,
        attempt: int = 0,
    ) -> Request:
        """All but what goes with every request."""
        seconds = self._timeout if timeout is None else timeout
        about = [
            ("x-stainless-retry-count", str(attempt)),
            ("x-stainless-read-timeout", f"{seconds:g}"),
        ]
        if method != "GET":
            about.append(("content-type", content_type))
        if key is not None:
            about.append(("x-idempotency-key", key))
        return Request(
            method=method,
            url=build_url(f"{self._base_url}/api/v1", path, default=self._default_query, query=query),
            headers=(*about, *headers),
            body=body if isinstance(body, tuple) else (),
            stream=None if isinstance(body, tuple) else body,
            timeout=seconds,
            purpose=purpose,
        )

    async def _answered(self, request: Request, name: str, also: int | None = None) -> Response:
        """A response with a status of success, or ``also``; its body is unread."""
        credential = await self._authorised()
        deadline = trio.current_time() + request.timeout
        response, carried = await self._send(self._complete(request), name, also)
        # another host's 401 says nothing of a credential that it has not seen
        if response.status == 401 and carried:
            refusal = await self._failure(response, name, request.purpose)
            if request.stream is not None and not request.stream.again:
                raise refusal
            if not await self.credentials.refused(credential, response.headers.get("www-authenticate", "")):
                raise refusal
            await self._authorised()
            left = deadline - trio.current_time()
            if left <= 0:
                raise refusal
            request = msgspec.structs.replace(request, timeout=left)
            response, _ = await self._send(self._complete(request), name, also)
        if response.status >= 300 and response.status != also:
            raise await self._failure(response, name, request.purpose)
        return response

    def _complete(self, request: Request) -> Request:
        return msgspec.structs.replace(request, headers=merged(self._common, request.headers))

    async def _send(self, request: Request, name: str, also: int | None) -> tuple[Response, bool]:
        """Up to the head of a response that leads nowhere else, or has the status ``also``; and whether the
        credential was shown to whoever gave it.
        """
        deadline = trio.current_time() + request.timeout
        headers = request.headers
        followed = 0
        while (response := await self._attempt(request, name)).status in REDIRECTS - {also}:
            left = max(0.0, deadline - trio.current_time())
            following = redirected(request, response.status, response.headers.get("location"), timeout=left)
            await response.aclose()
            if followed == _MOST_REDIRECTS:
                following = f"more than {_MOST_REDIRECTS} redirects"
            if isinstance(following, str):
                raise self._lost_way(response, name, following)
            request = following
            followed += 1
        return response, request.headers == headers

    async def _attempt(self, request: Request, name: str) -> Response:
        response = await self._secrets.guarded(self._transport.send(request), name)
        if request.purpose != "telemetry":  # of which nothing else may depend
            self.answered_at = trio.current_time()
        if "x-deprecation-note" in response.headers:
            self._note(response)
        if _log.isEnabledFor(self._dump):
            shown = ", ".join(f"{field}: {value}" for field, value in redacted(request.headers))
            # not the URL: its query may hold what a user would not show
            place = urlsplit(request.url).hostname
            _log.log(self._dump, "%s", self.redact(f"{name} at {place} -> {response.status} ({shown})"))
        return response

    def _note(self, response: Response) -> None:
        found = deprecation(response.headers)
        text = None if found is None else self.redact(found.text)[:_LONGEST_DETAIL]
        if found is None or text is None or text in self._noted or len(self._noted) >= _MOST_NOTES:
            return
        self._noted.add(text)
        _log.log(found.level, "the server says: %s", text)

    def _lost_way(self, response: Response, name: str, problem: str) -> APIStatusError:
        place = origin(response.headers.get("location", ""))[1]
        detail = self.redact(f"{problem} ({place})" if place else problem)
        return status_error(response.status, detail, request=name)

    async def _failure(self, response: Response, name: str, purpose: Purpose) -> APIError:
        start = await self._secrets.guarded(start_of(response, _ERROR_LIMIT), name)
        content = unpacked(response, start, _ERROR_LIMIT)
        reply = Reply(response.status, response.headers, content, name)
        if self._edge.rejected(reply.status, reply.headers, reply.body, purpose):
            text = f"{name}: refused by something in front of the server (a 400 without a word)"
            return APIConnectionError(text, request=name)
        return self.status_error(reply)

    def decode(self, reply: Reply, result_type: type[T]) -> T:
        """The JSON of ``reply`` as a ``result_type``; APIResponseError when it is none."""
        return self.read(reply, lambda body: decode_json(body, result_type))

    def read(self, reply: Reply, decoder: Callable[[bytes], T]) -> T:
        """What ``decoder`` makes of the body; APIResponseError where it raises DecodeError."""
        try:
            return decoder(reply.body)
        except DecodeError as error:
            problem = str(error)
        # outside of the handler: that error may quote a credential, so it must not become this one's context
        raise self.unreadable(reply, problem)

    def unreadable(self, reply: Reply, problem: str) -> APIResponseError:
        """The error for a reply that was received whole and makes no sense."""
        kind = reply.headers.get("content-type", "no content type")
        text = (
            f"{reply.name}: HTTP {reply.status} with {len(reply.body)} bytes of {kind} that can't be read: {problem}"
        )
        return APIResponseError(self.redact(text)[:_LONGEST_TEXT], request=reply.name)

    def redact(self, text: str) -> str:
        """``text`` without the credential. To be called before a text is cut, or a part of it might stay."""
        return self._secrets.redact(text)

    def status_error(self, reply: Reply) -> APIStatusError:
        """The error for a reply with an error status."""
        detail = self.redact(reply_detail(reply.status, reply.body))
        if len(detail) > _LONGEST_DETAIL:
            detail = f"{detail[:_LONGEST_DETAIL]}..."
        request_id = request_id_of(reply.headers)
        return status_error(
            reply.status,
            detail,
            request=reply.name,
            request_id=None if request_id is None else self.redact(request_id),
            retry_after=retry_after(reply.headers),
            expected_seq_id=expected_seq_id(reply.status, reply.body, detail),
            should_retry=should_retry(reply.headers),
            category=category(reply.body),
        )

    async def _authorised(self) -> Credential:
        credential = await self.credentials.current()
        if credential is not self._credential:
            self._credential = credential
            self._common = merged(common_headers(), credential.headers, self._default_headers)
            for secret in credential.secrets:
                self._secrets.remember(Secret(secret))
        return credential

    def __repr__(self) -> str:
        return f"<Api {self._base_url}>"


def _name(method: str, path: str) -> str:
    return f"{method} /api/v1{path.partition('?')[0]}"
