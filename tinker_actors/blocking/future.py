"""BlockingFuture: what a thread, or an asyncio task, holds of something that goes on in the engine."""

from __future__ import annotations

import concurrent.futures
import logging
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar, final

from tinker_actors.checks import number
from tinker_actors.errors import InvalidInput, WaitTimeout, WrongPlace

__all__ = ["BlockingFuture", "Home", "seconds"]

T = TypeVar("T")

_log = logging.getLogger("tinker_actors.blocking")

_SECONDS = "Give seconds from 0, or None to wait for as long as it takes"
_HELD = 1.0  # seconds for which a blocking call may hold an asyncio loop before the log says so


class Home(Protocol):
    """Where a future's operation goes on, and what that place asks of those who wait."""

    def require_own_process(self, what: str) -> None:
        """Raise WrongPlace in a process that was forked from the engine's."""
        ...

    def require_thread(self, what: str) -> None:
        """Raise WrongPlace where blocking would stop an event loop of trio's, the engine's own included."""
        ...

    def describe(self, what: Callable[[], str]) -> str:
        """What the engine says of it now."""
        ...


@final
class BlockingFuture(concurrent.futures.Future[T]):
    """The result of an operation, or of a call made by an ``_async`` twin, as a ``concurrent.futures.Future``.

    ``result()`` blocks for it, ``await future`` waits for it in asyncio (and so does ``asyncio.wrap_future``), and
    ``concurrent.futures.wait`` and ``as_completed`` take it. Leaving a wait, by a timeout or a cancelled task, never
    touches what is waited for. Callbacks of ``add_done_callback`` run in the engine's thread: keep them short.
    """

    def __init__(self, home: Home, what: str, describe: Callable[[], str], take_back: Callable[[], bool]) -> None:
        super().__init__()
        self._home = home
        self.what = what
        self._describe = describe
        self._take_back = take_back

    def result(self, timeout: float | None = None) -> T:
        """The result; raises the error that there is instead of it.

        Raises WaitTimeout after ``timeout`` seconds, saying what is waited for; that goes on.
        """
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end; the error, or None if there is a result. Raises WaitTimeout as ``result`` does."""
        self._wait(timeout)
        return super().exception(0)

    def cancel(self) -> bool:
        """Give it up; True when that was possible, and then the result is ``concurrent.futures.CancelledError``.

        A training operation is taken back if it was not sent yet. After that the server will do it, and cancelling
        changes nothing and returns False. Any other call is cancelled where it is.
        """
        self._home.require_own_process(self.what)
        return self.cancelled() if self.done() else self._take_back()

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        self._home.require_own_process(self.what)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise WrongPlace(
                f"the future of {self.what} was awaited outside of asyncio. Elsewhere use its result(); in a trio "
                "program open_runtime() gives futures that trio awaits"
            ) from None
        return asyncio.shield(asyncio.wrap_future(self, loop=loop)).__await__()

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "pending"
        return f"<BlockingFuture {self.what}: {state}>"

    # ---- for the engine

    def give(self, result: T) -> None:
        """The result, unless it was given up before."""
        if not self.done():
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        """The error, unless it was given up before."""
        if not self.done():
            self.set_exception(error)

    def give_up(self) -> bool:
        """It was cancelled: everybody who waits hears of it."""
        super().cancel()
        self.set_running_or_notify_cancel()
        return True

    def _wait(self, timeout: float | None) -> None:
        self._home.require_own_process(self.what)
        timeout = seconds(timeout)
        if self.done():
            return
        self._home.require_thread(self.what)
        left = timeout
        if (timeout is None or timeout > _HELD) and _holds_asyncio():
            concurrent.futures.wait([self], _HELD)
            if not self.done():
                _log.warning(
                    "%s holds the asyncio loop of this thread: await the future, or that of its _async twin",
                    self.what,
                )
            left = None if timeout is None else timeout - _HELD
        concurrent.futures.wait([self], left)
        if not self.done():
            raise WaitTimeout(f"no result after {timeout:g} s: {self._home.describe(self._describe)}")


def seconds(timeout: object) -> float | None:
    """``timeout`` if it is a length of time, or None; else InvalidInput."""
    if timeout is None:
        return None
    checked = number("timeout", timeout, _SECONDS)
    if not checked >= 0:
        raise InvalidInput("timeout", f"{checked} is not a length of time", _SECONDS)
    return None if checked > threading.TIMEOUT_MAX else checked


def _holds_asyncio() -> bool:
    """Whether an asyncio loop runs in this thread, other than that of a notebook, whose cells are its callbacks."""
    if "asyncio" not in sys.modules or "ipykernel" in sys.modules:
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
