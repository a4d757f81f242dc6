"""The Transport port over an ``httpx.AsyncClient`` of the user's: proxies, HTTP/2, client certificates, mounts.

``HttpTransport`` is the one that runtimes use by themselves; it costs about half the CPU, but speaks plain HTTP/1.1
to the server itself. Where a network needs more than that, httpx has it, and this adapter keeps to the same rules:
one attempt, one deadline for the whole exchange, the same errors.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import final
from urllib.parse import urlsplit

import httpcore
import httpx
import trio

from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError
from tinker_actors.ports import Purpose, Request, Response, Transport
from tinker_actors.wire.connection import without_quotes
from tinker_actors.wire.limits import checked_limits

__all__ = ["HttpxTransport"]

# What httpx raises before it has written anything of the request.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
# What comes of reading on in a response that was closed.
_ENDED = (httpx.HTTPError, httpx.StreamError, httpcore.NetworkError, trio.ClosedResourceError)


@final
class HttpxTransport(Transport):
    """``client`` as a Transport: ``open_runtime(transport=HttpxTransport(httpx.AsyncClient(proxy=...)))``.

    The client's own timeouts are not used: each Request has its deadline. It follows no redirect, whatever it was
    made for. Its own headers, ``auth`` and ``params`` go to every host that a redirect leads to, so secrets belong
    into ``Config.default_headers``. Retries of its transport should stay off (they are by default), since flow
    repeats by itself. ``aclose`` closes it. ``limits`` is how many requests of a
    purpose are under way at once, each purpose for itself; further ones wait for their turn. A purpose that it does
    not name has no bound but the client's own. Raises InvalidInput for a limit that is no positive integer.
    """

    def __init__(self, client: httpx.AsyncClient, *, limits: Mapping[Purpose, int] | None = None) -> None:
        self._client = client
        self._turns = {purpose: trio.CapacityLimiter(limit) for purpose, limit in checked_limits(limits).items()}

    async def send(self, request: Request) -> Response:
        """Send ``request`` and return when the head of its response is there.

        Raises APIConnectionError, APITimeoutError, and APIResponseError for an answer that is no HTTP.
        """
        name = f"{request.method} {urlsplit(request.url).path}"
        deadline = trio.current_time() + request.timeout
        size = request.size
        headers = list(request.headers)
        if size or (size is not None and request.method not in ("GET", "HEAD")):
            headers.append(("content-length", str(size)))
        try:
            outgoing = self._client.build_request(
                request.method,
                request.url,
                headers=headers,
                content=None
                if size == 0
                else _pieces(request)
                if request.stream is None
                else request.stream.pieces(),
                timeout=None,  # the deadline below is for the whole exchange
            )
            outgoing.url.raw_host.decode("ascii").encode("idna")  # as the resolver will, deep below
        except (httpx.InvalidURL, UnicodeError):
            text = f"{name}: can't connect to {urlsplit(request.url).hostname}: no host has such a name"
            raise APIConnectionError(text, request=name, sent=False) from None
        turn = _Turn(self._turns.get(request.purpose))
        with trio.move_on_at(deadline):
            await turn.come()
            try:
                # a client that follows redirects by itself would carry the key to any host
                response = await self._client.send(outgoing, stream=True, follow_redirects=False)
            except httpx.HTTPError as error:
                problem = _translated(error, name)
            except RuntimeError as error:  # httpx's word for a client that was closed
                problem = APIConnectionError(f"{name}: {error}", request=name, sent=False)
            except BaseException:
                turn.pass_on()
                raise
            else:
                return _HttpxResponse(response, name, deadline, request.timeout, turn)
            # outside of the handler: httpx's error holds the request, and with it the key
            turn.pass_on()
            raise problem
        what = "no answer" if turn.came else "not sent: others of its purpose were under way"
        raise APITimeoutError(f"{name}: {what} within {request.timeout:g} s", request=name, sent=turn.came)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()


@final
class _Turn:
    """One request's place among those of its purpose; without a ``limiter`` there is always one."""

    def __init__(self, limiter: trio.CapacityLimiter | None) -> None:
        self._limiter = limiter
        self.came = False

    async def come(self) -> None:
        if self._limiter is not None:
            await self._limiter.acquire_on_behalf_of(self)
        self.came = True

    def pass_on(self) -> None:
        """Let another one go; once is enough."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.release_on_behalf_of(self)


@final
class _HttpxResponse(Response):
    """A response whose head has arrived."""

    def __init__(self, response: httpx.Response, name: str, deadline: float, timeout: float, turn: _Turn) -> None:
        self._response = response
        self._name = name
        self._deadline = deadline
        self._timeout = timeout
        self._turn = turn
        self._pieces: AsyncIterator[bytes] | None = None

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def stream(self) -> AsyncGenerator[bytes]:
        """The body as it was sent, still compressed if it was, within the request's timeout."""
        if self._pieces is not None:
            return
        pieces = self._pieces = self._response.aiter_raw()
        piece: bytes | None = None
        try:
            while True:
                problem = None
                with trio.move_on_at(self._deadline) as scope:
                    try:
                        piece = await anext(pieces, None)
                    except httpx.HTTPError as error:
                        problem = _translated(error, self._name)
                if problem is not None:
                    raise problem
                if scope.cancelled_caught:
                    text = f"{self._name}: the answer was not complete within {self._timeout:g} s"
                    raise APITimeoutError(text, request=self._name)
                if piece is None:
                    return
                yield piece
        finally:
            await self.aclose()

    async def read(self, limit: int) -> bytes:
        """The whole body; APIResponseError when it is longer than ``limit`` bytes."""
        body = bytearray()
        pieces = self.stream()
        try:
            async for piece in pieces:
                body += piece
                if len(body) > limit:
                    raise APIResponseError(f"{self._name}: an answer of more than {limit} bytes", request=self._name)
        finally:
            await pieces.aclose()
        return bytes(body)

    async def aclose(self) -> None:
        """Give up the rest of the body."""
        try:
            with trio.CancelScope(shield=True):
                with suppress(httpx.HTTPError):
                    await self._response.aclose()
                # httpx nests generators that close one another only by being read to their end, which is here now
                if self._pieces is not None:
                    with suppress(
                        httpx.HTTPError, httpx.StreamError, httpcore.NetworkError, trio.ClosedResourceError
                    ):
                        async for _ in self._pieces:
                            pass
        finally:
            self._turn.pass_on()


async def _pieces(request: Request) -> AsyncGenerator[bytes]:
    for part in request.body:
        yield bytes(part)


def _translated(error: httpx.HTTPError, name: str) -> APIConnectionError | APIResponseError:
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        # a reply that is cut short reaches us as such an error, too, and is a lost connection
        if "peer closed" in str(error):
            return APIConnectionError(f"{name}: {error}", request=name)
        return APIResponseError(f"{name}: an answer that is no HTTP: {without_quotes(str(error))}", request=name)
    text = str(error) or type(error).__name__
    return APIConnectionError(f"{name}: {text}", request=name, sent=not isinstance(error, _UNSENT))
