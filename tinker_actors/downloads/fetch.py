"""One file from a URL that a server named: without any credential, and continued where it breaks off."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import urlsplit

import msgspec
import trio

from tinker_actors.downloads.digests import digest_of
from tinker_actors.downloads.growing import Expected, GrowingFile
from tinker_actors.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    DownloadError,
    status_error,
)
from tinker_actors.ports import Offload, Request, Response, Transport
from tinker_actors.wire.redirects import REDIRECTS, redirected
from tinker_actors.wire.urls import is_loopback

__all__ = ["DownloadProgress", "Fetcher"]

_TRIES: Final = 6  # failures in a row without a byte between them
_STALL: Final = 60.0  # seconds without a byte
_LONGEST_PAUSE: Final = 30.0
_AT_ONCE: Final = 1 << 20  # bytes that go to the disk together
_REDIRECTS: Final = 5
_REFUSED: Final = frozenset((401, 403, 404, 410))  # what an expired URL gets; a new one may do
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class DownloadProgress(msgspec.Struct, frozen=True, kw_only=True):
    """``received`` bytes of ``file`` are on the disk, of ``total`` (None where the server does not say)."""

    file: str
    received: int
    total: int | None


class _Wrong(APIConnectionError):
    """What arrived was wrong or broke off; the next attempt may be better."""


@final
class Fetcher:
    """Fetches files for one download.

    ``target`` is the user's folder, for errors; no file may have more than ``limit`` bytes. URLs that lead over plain
    http to another machine are refused unless ``plain_http``.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        offload: Offload,
        rng: random.Random,
        target: Path,
        limit: int,
        plain_http: bool,
        progress: Callable[[DownloadProgress], object] | None = None,
    ) -> None:
        self._transport = transport
        self._offload = offload
        self._random = rng
        self._target = target
        self._limit = limit
        self._plain_http = plain_http
        self._progress = progress

    async def fetch(
        self, name: str, folder: Path, url: str | None, renew: Callable[[], Awaitable[str]]
    ) -> GrowingFile:
        """The whole file ``name``, from ``url`` or where ``renew`` says, kept in ``folder``.

        Bytes that are there already are not asked for again where the server still has that version of the file.
        Raises DownloadError after six failures without a further byte between them, with a new URL of ``renew`` after
        each; APIResponseError for a URL that may not be asked and for a file that is too large; what ``renew`` does.
        """
        file = GrowingFile(name, folder, self._target)
        await self._offload.run(file.take_up)
        failures, best = 0, file.size
        last: APIError
        while True:
            if url is None:
                url = await renew()
            try:
                await self._attempt(name, url, file)
            except APIConnectionError as error:
                last = error
            except APIStatusError as error:
                if error.status not in _REFUSED and error.status < 500 and error.status not in (408, 416, 429):
                    raise
                last = error
            else:
                return file
            failures = 1 if file.size > best else failures + 1
            best = max(best, file.size)
            if failures >= _TRIES or (failures > 1 and getattr(last, "status", None) in _REFUSED):
                received = f"{file.size:,} bytes"
                if file.expected.total is not None:
                    received += f" of {file.expected.total:,}"
                raise DownloadError(
                    f"{name} could not be downloaded, {received} are there: {last}",
                    request=name,
                    received=file.size,
                    total=file.expected.total,
                ) from last
            url = None
            pause = min(_LONGEST_PAUSE, 2.0 ** (failures - 2)) * self._random.uniform(0.5, 1.0)
            await trio.sleep(max(pause, getattr(last, "retry_after", None) or 0.0))

    async def _attempt(self, name: str, url: str, file: GrowingFile) -> None:
        headers = [("accept", "*/*"), ("accept-encoding", "identity")]
        if file.resumes_at:
            headers += [("range", f"bytes={file.resumes_at}-"), ("if-range", file.expected.validator or "")]
        async with self._opened(name, url, tuple(headers)) as response:
            if response.status == 416:
                await self._offload.run(file.drop)
                raise _Wrong(f"{name}: what is there already is no part of it any more", request=name)
            if response.status not in (200, 206):
                detail = "the place that the server named for it refuses it"
                raise status_error(response.status, detail, request=name, retry_after=_seconds(response.headers))
            if response.headers.get("content-encoding", "identity") not in ("identity", ""):
                raise APIResponseError(f"{name}: a file that is packed, though that was not asked", request=name)
            at = await self._begin(name, response, file)
            await self._receive(name, response, file, at)
        total = file.expected.total
        if total is not None and file.size != total:
            raise _Wrong(f"{name}: it ended after {file.size:,} bytes of {total:,}", request=name)
        if not await self._offload.run(file.is_sound):
            await self._offload.run(file.drop)
            raise _Wrong(f"{name}: its bytes are not those of the digest that it was sent with", request=name)

    async def _begin(self, name: str, response: Response, file: GrowingFile) -> int:
        headers = response.headers
        at, total = 0, _number(headers.get("content-length"))
        if response.status == 206:
            match = _RANGE.fullmatch(headers.get("content-range", ""))
            if match is None or int(match[1]) != file.resumes_at or not file.resumes_at:
                await self._offload.run(file.drop)
                raise _Wrong(f"{name}: another part than the one that was asked for", request=name)
            at, total = file.resumes_at, None if match[3] == "*" else int(match[3])
            known = file.expected.total
            if known is not None and total not in (known, None):
                await self._offload.run(file.drop)
                raise _Wrong(f"{name}: {total:,} bytes where it had {known:,}", request=name)
            expected = msgspec.structs.replace(
                file.expected,
                total=known if known is not None else total,
                digest=file.expected.digest or digest_of(headers, whole=False),
            )
        else:
            expected = Expected(_validator(headers), total, digest_of(headers, whole=True))
        if expected.total is not None and expected.total > self._limit:
            raise self._too_large(name)
        await self._offload.run(lambda: file.begin(expected, at=at))
        self._tell(name, file)
        return at

    async def _receive(self, name: str, response: Response, file: GrowingFile, at: int) -> None:
        pieces: list[bytes] = []
        size = 0
        stream: Any = response.stream()
        try:
            while True:
                piece = await self._next(name, stream)
                if piece is None:
                    return
                pieces.append(bytes(piece))
                size += len(piece)
                if at + size > self._limit:
                    raise self._too_large(name)
                if size - (file.size - at) >= _AT_ONCE:
                    await self._store(name, file, pieces)
        finally:
            with trio.CancelScope(shield=True):
                if hasattr(stream, "aclose"):
                    await stream.aclose()
                if pieces:
                    await self._store(name, file, pieces)

    async def _next(self, name: str, stream: Any) -> bytes | None:
        with trio.move_on_after(_STALL):
            return await anext(stream, None)
        raise APITimeoutError(f"{name}: nothing more came for {_STALL:g} s", request=name)

    async def _store(self, name: str, file: GrowingFile, pieces: list[bytes]) -> None:
        taken = pieces[:]
        pieces.clear()
        await self._offload.run(lambda: file.write(taken))
        self._tell(name, file)

    def _tell(self, name: str, file: GrowingFile) -> None:
        if self._progress is not None:
            self._progress(DownloadProgress(file=name, received=file.size, total=file.expected.total))

    def _too_large(self, name: str) -> APIResponseError:
        return APIResponseError(f"{name}: a file of more than {self._limit:,} bytes", request=name)

    @asynccontextmanager
    async def _opened(self, name: str, url: str, headers: tuple[tuple[str, str], ...]) -> AsyncGenerator[Response]:
        request = Request(method="GET", url=url, headers=headers, timeout=float("inf"), purpose="rest")
        for _ in range(_REDIRECTS + 1):
            self._check(name, request.url)
            response = await self._sent(name, request)
            if response.status not in REDIRECTS:
                break
            await response.aclose()
            following = redirected(request, response.status, response.headers.get("location"), timeout=float("inf"))
            if isinstance(following, str):
                raise APIResponseError(f"{name}: {following}", request=name)
            request = following
        else:
            raise APIResponseError(f"{name}: more than {_REDIRECTS} redirects", request=name)
        try:
            yield response
        finally:
            with trio.CancelScope(shield=True):
                await response.aclose()

    async def _sent(self, name: str, request: Request) -> Response:
        with trio.move_on_after(_STALL):
            return await self._transport.send(request)
        raise APITimeoutError(f"{name}: no answer within {_STALL:g} s", request=name)

    def _check(self, name: str, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, 0, urlsplit("")
        if parts.scheme not in ("http", "https") or not host or port == 0 or parts.username or parts.password:
            kind = f"a {parts.scheme}: URL" if parts.scheme else "no URL"
            raise APIResponseError(f"{name}: the server names {kind} for it, not one of http or https", request=name)
        if parts.scheme == "http" and not self._plain_http and not is_loopback(host):
            problem = f"{name}: the server names a place for it that is asked over plain http"
            raise APIResponseError(f"{problem}; allow_plain_http=True allows that", request=name)


def _validator(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    # a weak tag does not say that the bytes are the same, and a date is one that If-Range takes
    return headers.get("last-modified") if not etag else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def _seconds(headers: Mapping[str, str]) -> float | None:
    found = _number(headers.get("retry-after"))
    return None if found is None else float(found)
