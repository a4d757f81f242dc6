"""RateLimiter: the time until which a server wants to be left alone, known to all that use its key."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from typing import final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import msgspec
import trio

from tinker_actors.checks import number
from tinker_actors.errors import InvalidInput

__all__ = ["RateLimiter", "RateLimiterStatistics", "RateLimiters", "normalized_url"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SPREAD = 0.25  # of the window: over so much time after its end those who waited come back
_WIDEST_SPREAD = 1.0


class RateLimiterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that the window still lasts, how many wait for its end, and how often the server pushed back."""

    remaining: float
    waiting: int
    pushed_back: int


@final
class RateLimiter:
    """A back-off window. Times are of trio's clock, in seconds.

    A window is never shortened: of two the one that ends later counts. A success of a request that had begun before
    the window was set says nothing about it, and ends nothing.
    """

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._until = -math.inf
        self._set_at = -math.inf
        self._length = 0.0
        self._waiting = 0
        self._pushed_back = 0
        self._ended = trio.Event()

    @property
    def remaining(self) -> float:
        """Seconds until the window ends; 0 when there is none."""
        return max(0.0, self._until - trio.current_time())

    def recent(self, within: float) -> bool:
        """Whether a window lasts, or ended less than ``within`` seconds ago."""
        return trio.current_time() < self._until + within

    def back_off(self, seconds: float) -> None:
        """The server is to be left alone for ``seconds`` from now. Raises InvalidInput for what is no such time."""
        cure = "Give a number of seconds, 0 or more"
        seconds = number("seconds", seconds, cure)
        if not 0.0 <= seconds < math.inf:
            raise InvalidInput("seconds", f"{seconds} is no time to wait", cure)
        self._pushed_back += 1
        now = self._set_at = trio.current_time()
        if now + seconds > self._until:
            self._until = now + seconds
            self._length = seconds

    def succeeded(self, began: float) -> None:
        """A request that began at ``began`` was taken: a window set before that is over."""
        now = trio.current_time()
        if self._set_at < began and now < self._until:
            self._until = now
            self._ended.set()
            self._ended = trio.Event()

    async def wait(self, announce: Callable[[str], None] | None = None) -> None:
        """Return when there is no window; those who have waited return one after the other, not all at once.

        ``announce`` is told how long the wait is, each time it begins or grows. A checkpoint only when it waits.
        """
        while (remaining := self.remaining) > 0.0:
            if announce is not None:
                announce(f"the server asked for a pause, {remaining:.1f} s are left")
            self._waiting += 1
            try:
                with trio.move_on_after(remaining):
                    await self._ended.wait()
                # All of them at once would only be pushed back again.
                await trio.sleep(self._random.uniform(0.0, min(_SPREAD * self._length, _WIDEST_SPREAD)))
            finally:
                self._waiting -= 1

    def statistics(self) -> RateLimiterStatistics:
        """What lasts and who waits."""
        return RateLimiterStatistics(remaining=self.remaining, waiting=self._waiting, pushed_back=self._pushed_back)


@final
class RateLimiters:
    """One limiter for each server and key, for as long as somebody uses it. Of a key only its digest is kept."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._limiters: WeakValueDictionary[bytes, RateLimiter] = WeakValueDictionary()

    def limiter(self, base_url: str, api_key: str) -> RateLimiter:
        """That of ``base_url`` and ``api_key``: the same object to all who ask while any of them holds it.

        Raises InvalidInput for what is no URL.
        """
        name = f"{normalized_url(base_url)}\0{api_key}"
        key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = self._limiters[key] = RateLimiter(random.Random(self._random.getrandbits(64)))
        return limiter

    def __len__(self) -> int:
        return len(self._limiters)


def normalized_url(base_url: str) -> str:
    """``scheme://host[:port]`` of ``base_url``: in lower case, without its default port, path, query and user.

    Raises InvalidInput for what is no URL of a server.
    """
    cure = "Give one like https://host or http://127.0.0.1:8000"
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput("base_url", "is not a URL", cure) from None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise InvalidInput("base_url", "names no http or https server", cure)
    if ":" in host:
        host = f"[{host}]"
    return (
        f"{parts.scheme}://{host}"
        if port in (None, _DEFAULT_PORTS[parts.scheme])
        else f"{parts.scheme}://{host}:{port}"
    )
