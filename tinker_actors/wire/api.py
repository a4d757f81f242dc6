"""The Api: requests of the Tinker protocol over a Transport, one attempt each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, final

import msgspec

from tinker_actors.codec.compression import decompress
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.config import Config, Secret
from tinker_actors.errors import APIConnectionError, APIResponseError, APIStatusError, DecodeError, status_error
from tinker_actors.ports import Credential, Credentials, FixedCredentials, Purpose, Request, Response, Transport
from tinker_actors.version import __version__
from tinker_actors.wire.replies import expected_seq_id, reply_detail, request_id_of, retry_after

__all__ = ["CONTROL_LIMIT", "JSON", "PROTOBUF", "RESULT_LIMIT", "Api", "Body", "Headers", "Reply"]

T = TypeVar("T")

Headers = tuple[tuple[str, str], ...]
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
_HIDDEN = "[hidden]"
_REMEMBERED = 32  # secrets of the past that a late reply may still echo


class Reply(msgspec.Struct, frozen=True):
    """A reply, its body whole and decompressed. ``name`` is the request's method and path."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    name: str

    @property
    def content_type(self) -> str:
        """In lower case, with its parameters."""
        return self.headers.get("content-type", "").lower()


@final
class Api:
    """Builds requests below the configured base URL and reads their replies. Never repeats anything.

    The credential goes into its own headers and nowhere else: where a server echoes it, it is hidden. It is asked
    of ``credentials`` for each request; without them it is the key of ``config``.
    """

    def __init__(self, transport: Transport, config: Config, credentials: Credentials | None = None) -> None:
        self._transport = transport
        self._base_url = config.base_url
        self._timeout = config.timeout
        self.credentials = credentials if credentials is not None else FixedCredentials(config.api_key.reveal())
        self._credential: Credential | None = None
        self._secrets: dict[Secret, None] = {config.api_key: None}
        self._common: Headers = (
            ("accept-encoding", "gzip, zstd"),
            ("user-agent", f"tinker-actors/{__version__}"),
        )

    def renew(self, secret: Secret) -> None:
        """Use another key from now on."""
        self._remember(secret)
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
    ) -> T:
        """Exchange JSON: ``body`` (None for none) goes out, the reply is read as ``result_type``.

        Raises as ``exchange`` does, and APIResponseError for a reply that is no ``result_type``.
        """
        pieces = (encode_json(body),) if body is not None else ()
        reply = await self.exchange(
            method, path, pieces, purpose=purpose, key=key, timeout=timeout, headers=(*headers, ("accept", JSON))
        )
        return self.decode(reply, result_type)

    async def exchange(
        self,
        method: str,
        path: str,
        body: Body = (),
        *,
        purpose: Purpose,
        key: str | None = None,
        timeout: float | None = None,
        headers: Headers = (),
        content_type: str = JSON,
        limit: int = CONTROL_LIMIT,
        also: int | None = None,
    ) -> Reply:
        """One request to ``path`` below /api/v1 and its whole reply.

        ``key`` is the idempotency key; ``timeout`` is for the whole exchange and defaults to the configuration's.
        A request refused with 401 is sent once more if the credentials then have another one.
        Raises APIConnectionError, APITimeoutError, the APIStatusError of any status from 300 but ``also``, and
        APIResponseError for a body above ``limit`` bytes or one that can't be decompressed.
        """
        all_headers = [*headers, *self._common]
        if method != "GET":
            all_headers.append(("content-type", content_type))
        if key is not None:
            all_headers.append(("x-idempotency-key", key))
        name = f"{method} /api/v1{path}"

        async def send(credential: Credential) -> Response:
            return await self._transport.send(
                Request(
                    method=method,
                    url=f"{self._base_url}/api/v1{path}",
                    headers=(*all_headers, *credential.headers),
                    body=body,
                    timeout=self._timeout if timeout is None else timeout,
                    purpose=purpose,
                )
            )

        credential = await self._authorised()
        response = await send(credential)
        if response.status == 401:
            refusal = await self._error(response, name)
            if not await self.credentials.refused(credential, response.headers.get("www-authenticate", "")):
                raise refusal
            response = await send(await self._authorised())
        if response.status >= 300 and response.status != also:
            raise await self._error(response, name)
        content = await response.read(limit)
        reply = Reply(response.status, response.headers, content, name)
        encoding = response.headers.get("content-encoding")
        if encoding is None:
            return reply
        return msgspec.structs.replace(
            reply, body=self.read(reply, lambda body: decompress(body, encoding, limit=limit))
        )

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
        for secret in self._secrets:
            text = text.replace(secret.reveal(), _HIDDEN)
        return text

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
        )

    async def _authorised(self) -> Credential:
        credential = await self.credentials.current()
        if credential is not self._credential:
            self._credential = credential
            for secret in credential.secrets:
                self._remember(Secret(secret))
        return credential

    def _remember(self, secret: Secret) -> None:
        self._secrets.pop(secret, None)  # a known one becomes the youngest
        self._secrets[secret] = None
        while len(self._secrets) > _REMEMBERED:
            del self._secrets[next(iter(self._secrets))]

    async def _error(self, response: Response, name: str) -> APIStatusError:
        content = _unpacked(response, await _start_of(response, _ERROR_LIMIT))
        return self.status_error(Reply(response.status, response.headers, content, name))

    def __repr__(self) -> str:
        return f"<Api {self._base_url}>"


def _unpacked(response: Response, body: bytes) -> bytes:
    """An error's body; nothing where it is damaged, since the status is known."""
    try:
        return decompress(body, response.headers.get("content-encoding", ""), limit=_ERROR_LIMIT)
    except DecodeError:
        return b""


async def _start_of(response: Response, limit: int) -> bytes:
    """The first ``limit`` bytes; what is cut off counts as well, since the status is known."""
    body = bytearray()
    pieces: Any = response.stream()
    try:
        async for piece in pieces:
            body += piece
            if len(body) >= limit:
                break
    except APIConnectionError:
        pass
    finally:
        await pieces.aclose()
        await response.aclose()
    return bytes(body[:limit])
