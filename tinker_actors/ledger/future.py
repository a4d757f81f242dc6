"""Futures: the caller's end of what goes on without it, be it an accepted operation or a task of the runtime."""

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
U = TypeVar("U")

_SECONDS = "Give seconds from 0, or None to wait for as long as it takes"


@final
class Future(Generic[T]):
    """The result of an accepted operation, or of a call that was started by its ``_async`` twin.

    ``await future`` waits for it; so does ``await future.result(timeout=...)``, in seconds. Several tasks may
    wait, now or later, and each gets the same result or error. Leaving a wait never touches what is waited for.
    ``gather``, ``first`` and ``as_completed`` wait for several.
    """

    __slots__ = ("_cancel", "_compute", "_describe", "_done", "_error", "_home", "_listeners", "_result")

    def __init__(self, describe: Callable[[], str], cancel: Callable[[], bool], home: Home) -> None:
        self._home = home
        self._describe = describe
        self._cancel = cancel
        self._done = trio.Event()
        self._result: T | None = None
        self._error: BaseException | None = None
        self._compute: Callable[[], T] | None = None
        self._listeners: list[Callable[[], object]] = []

    def done(self) -> bool:
        """True when there is a result or an error."""
        return self._done.is_set()

    async def result(self, timeout: float | None = None) -> T:
        """The result; raises the error that there is instead of it.

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
        return self.outcome()

    def __await__(self) -> Generator[Any, None, T]:
        return self.result().__await__()

    async def exception(self) -> BaseException | None:
        """Wait for the end; the error, or None if there is a result."""
        if not self._done.is_set():
            self._home.require(self)
        await self._done.wait()
        try:
            self.outcome()
        except Exception:  # noqa: BLE001  # it is what was asked for
            return self._error
        return None

    def cancel(self) -> bool:
        """Give it up; True when that was possible.

        An operation that was not sent yet is taken back: it uses no seq_id, and its result is OperationCancelled.
        After it was sent the server will do it, so cancelling then changes nothing and returns False: simply stop
        waiting. A call that was started by an ``_async`` twin is cancelled where it is and undoes what it had begun;
        its result is OperationCancelled, unless it ends in this very moment. What ``gather``, ``first`` or ``map``
        gave cancels all that it was made of.
        """
        if self.done():
            return False
        self._home.require(self)
        return self._cancel()

    def map(self, function: Callable[[T], U]) -> Future[U]:
        """A Future of what ``function`` makes of the result.

        It is called once, in whichever task asks first for what it makes; what it raises is the error of that Future.
        """
        if not callable(function):
            raise InvalidInput("function", f"{function!r} can't be called", "Give a function of one result")
        made: Future[U] = Future(lambda: f"{self._describe()}, then {_named(function)}", self.cancel, self._home)
        self.when_done(lambda: made.settle_as(self, lambda: function(self.outcome())))
        return made

    def __repr__(self) -> str:
        return f"<Future {self._describe()}>"

    # ---- for whoever gives the result

    def resolve(self, result: T) -> None:
        """Give the result. A future resolves once; a second time is a bug and says so."""
        self._require_open()
        self._result = result
        self._settle()

    def resolve_later(self, compute: Callable[[], T]) -> None:
        """Give what ``compute`` returns or raises, once somebody asks for it."""
        self._require_open()
        self._compute = compute
        self._settle()

    def reject(self, error: BaseException) -> None:
        """Give the error, once."""
        self._require_open()
        self._error = error
        self._settle()

    def settle_as(self, other: Future[Any], compute: Callable[[], T]) -> None:
        """``other`` is done: take its error or, if it has none so far, what ``compute`` makes of its result."""
        if other._error is not None:
            self.reject(other._error)
        else:
            self.resolve_later(compute)

    @property
    def home(self) -> Home:
        """Where it may be waited for."""
        return self._home

    @property
    def description(self) -> str:
        """What is waited for, for people."""
        return self._describe()

    def when_done(self, listener: Callable[[], object]) -> None:
        """Call ``listener``, which must not raise, in the step in which this is settled; now, if it is."""
        if self._done.is_set():
            listener()
        else:
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], object]) -> None:
        """Forget ``listener``, if it is still to be called."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def failed(self) -> bool:
        """Whether it has ended with an error, as far as that is known without computing anything."""
        return self._error is not None

    def outcome(self) -> T:
        """The result of a future that is done; raises its error."""
        compute = self._compute
        if compute is not None:
            try:
                self._result = compute()
            except Exception as error:  # noqa: BLE001  # kept for everybody who asks, and raised below
                self._error = error
            self._compute = None
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def _require_open(self) -> None:
        if self._done.is_set():
            raise AssertionError(f"resolved twice: {self._describe()}")

    def _settle(self) -> None:
        self._done.set()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()


def _named(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", type(function).__name__)
