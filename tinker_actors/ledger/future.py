"""Futures: the caller's end of an accepted operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, cast, final

import trio

from tinker_actors.checks import number
from tinker_actors.errors import InvalidInput, WaitTimeout
from tinker_actors.flow.home import Home

__all__ = ["Future"]

T = TypeVar("T")

_SECONDS = "Give seconds from 0, or None to wait for as long as it takes"


@final
class Future(Generic[T]):
    """The result of an accepted operation, there as soon as the server has it.

    ``await future`` waits for it; so does ``await future.result(timeout=...)``, in seconds. Several tasks may
    wait, now or later, and each gets the same result or error. Leaving a wait never touches the operation.
    """

    __slots__ = ("_cancel", "_describe", "_done", "_error", "_home", "_result")

    def __init__(self, describe: Callable[[], str], cancel: Callable[[], bool], home: Home) -> None:
        self._home = home
        self._describe = describe
        self._cancel = cancel
        self._done = trio.Event()
        self._result: T | None = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """True when there is a result or an error."""
        return self._done.is_set()

    async def result(self, timeout: float | None = None) -> T:
        """The result; raises the operation's error.

        Raises WaitTimeout after ``timeout`` seconds, saying what the operation is waiting for; it goes on.
        """
        if timeout is not None:
            timeout = number("timeout", timeout, _SECONDS)
            if not timeout >= 0:
                raise InvalidInput("timeout", f"{timeout} is not a length of time", _SECONDS)
        if not self._done.is_set():
            self._home.require(self)
            with trio.move_on_after(math.inf if timeout is None else timeout):
                await self._done.wait()
            if not self._done.is_set():
                raise WaitTimeout(f"no result after {timeout:g} s: {self._describe()}")
        else:
            await trio.lowlevel.checkpoint()
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def __await__(self) -> Generator[Any, None, T]:
        return self.result().__await__()

    async def exception(self) -> BaseException | None:
        """Wait for the end; the operation's error, or None if it has a result."""
        if not self._done.is_set():
            self._home.require(self)
        await self._done.wait()
        return self._error

    def cancel(self) -> bool:
        """Take the operation back if it was not sent yet; True when it was.

        After it was sent the server will do it, so cancelling then changes nothing and returns False: simply
        stop waiting.
        """
        if self.done():
            return False
        self._home.require(self)
        return self._cancel()

    def __repr__(self) -> str:
        return f"<Future {self._describe()}>"

    def resolve(self, result: T) -> None:
        """For the ledger: give the result. A future resolves once; a second time is a bug and says so."""
        self._settle()
        self._result = result

    def reject(self, error: BaseException) -> None:
        """For the ledger: give the error, once."""
        self._settle()
        self._error = error

    def _settle(self) -> None:
        if self._done.is_set():
            raise AssertionError(f"resolved twice: {self._describe()}")
        self._done.set()
