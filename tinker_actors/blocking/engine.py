"""The Engine: a runtime in a thread of its own, and how other threads have things done there."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextvars
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar, cast, final

import trio

from tinker_actors.blocking.future import BlockingFuture, Home
from tinker_actors.errors import ClosedError, TinkerError, WaitTimeout, WrongPlace
from tinker_actors.flow.home import FORKED
from tinker_actors.ledger import Future
from tinker_actors.runtime import Runtime
from tinker_actors.sessions import SessionEnd

__all__ = ["Engine", "EngineThread"]

T = TypeVar("T")
W = TypeVar("W")

_log = logging.getLogger("tinker_actors.blocking")

_ANSWERS_WITHIN = 2.0  # seconds for a word about what is waited for; a loop that is held gives none
_CLOSED_AT_EXIT_WITHIN = 15.0  # seconds: the last events and the end of a session have less
_ABANDONED_WITHIN = 1.0  # seconds for the end of what was cut short, which waits for nothing but the loop


class EngineThread(threading.Thread):
    """The thread of an engine: a daemon, ended by whoever opened the engine, or by the interpreter's end."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="tinker-actors", daemon=True, target=engine.main)
        self.engine = engine


@final
class Engine(Home):
    """Runs ``open_``'s runtime. Calls reach it in the order in which they are made, whichever thread makes them.

    Everything here but ``main`` is for other threads than the engine's own.
    """

    def __init__(self, open_: Callable[[], AbstractAsyncContextManager[Runtime]]) -> None:
        self._open = open_
        self._pid = os.getpid()
        self._opened: concurrent.futures.Future[Runtime] = concurrent.futures.Future()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._waiting: dict[concurrent.futures.Future[Any], str] = {}
        self._calls: set[trio.CancelScope] = set()
        self._token: trio.lowlevel.TrioToken | None = None
        self._tasks: trio.Nursery | None = None
        self._everything: trio.CancelScope | None = None
        self._stop: trio.Event | None = None
        self._abandoned = False
        self._thread = EngineThread(self)
        self._end: SessionEnd | None = None

    # ---- opening and closing

    def open(self) -> Runtime:
        """Start the thread; the runtime, once it is open. Raises what ``open_runtime`` raises."""
        self.require_thread("the runtime")
        _close_at_exit(self)
        self._thread.start()
        try:
            runtime = self._opened.result()
        except BaseException:  # ^C, or no runtime
            self._abandon()
            raise
        return runtime

    def close(self, end: SessionEnd) -> None:
        """Leave the runtime, finish its sessions as ``end`` at the server, and return when the thread has ended.

        ^C meanwhile ends it there and then: nothing has time to finish. Raises what ended the runtime before, if
        anything did. In a process that was forked from the engine's it does nothing, for nothing of it is there.
        """
        if os.getpid() != self._pid:
            return
        self.require_thread("the end of the runtime")
        try:
            self._begin_end(end)
            self._thread.join()
        except BaseException:
            self._abandon()
            raise
        if self._failure is not None:
            raise self._failure

    def close_at_exit(self, within: float) -> None:
        """``close``, for the end of the interpreter: ``within`` seconds, whatever happens."""
        if os.getpid() != self._pid or self._ended.done() or self._abandoned:
            return
        _log.info("the program ends with a runtime that is open: closing it")
        self._begin_end(SessionEnd("interrupted", "the program ended without leaving its runtime"))
        concurrent.futures.wait([self._ended], within)
        if not self._ended.done():
            _log.warning("the runtime was not closed within %g s of the program's end: it is given up", within)
            self._abandon()

    @property
    def ended(self) -> bool:
        """Whether the runtime is over."""
        return self._ended.done()

    @property
    def runtime(self) -> Runtime:
        """The runtime that is open in it, for calls that are made in the engine."""
        return self._opened.result(0)

    @property
    def token(self) -> trio.lowlevel.TrioToken:
        """For signal handlers, which may take no lock."""
        assert self._token is not None, "the engine was opened"
        return self._token

    def is_open_for(self, base_url: str) -> bool:
        """Whether calls to the server at ``base_url`` can be made here."""
        usable = os.getpid() == self._pid and self._opened.done() and self._end is None and not self.ended
        return usable and self._opened.exception() is None and self.runtime.config.base_url == base_url

    def _begin_end(self, end: SessionEnd) -> None:
        def begin() -> None:
            if self._end is None:
                self._end = end
                assert self._stop is not None
                self._stop.set()

        self._soon(begin)

    def _abandon(self) -> None:
        def cancel() -> None:
            assert self._everything is not None
            self._everything.cancel()
            if self._opened.done() and self._opened.exception() is None:
                self.runtime.system.cut_short()

        with self._lock:
            self._abandoned = True
        self._soon(cancel)
        concurrent.futures.wait([self._ended], _ABANDONED_WITHIN)

    def _soon(self, step: Callable[[], object]) -> None:
        """Have ``step`` run in the engine, unless that is over or was never there."""
        with self._lock:
            token = self._token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(step)

    # ---- the engine's own thread

    def main(self) -> None:
        """What the thread runs."""
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001  # for the threads that wait
            self._fail(error)
        finally:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
                self._ended.set_result(None)
            for future, what in waiting.items():
                if not future.done():
                    future.set_exception(self._closed(what))
            if not self._opened.done():
                self._opened.set_exception(self._closed("the runtime"))

    async def _main(self) -> None:
        with trio.CancelScope() as everything:
            async with trio.open_nursery() as tasks:
                self._everything, self._tasks, self._stop = everything, tasks, trio.Event()
                with self._lock:
                    self._token = trio.lowlevel.current_trio_token()
                    if self._abandoned:
                        return
                try:
                    async with self._open() as runtime:
                        self._opened.set_result(runtime)
                        await self._stop.wait()
                        if self._end is not None:
                            runtime.end_as(self._end)
                        self._end_calls()
                except Exception as error:  # noqa: BLE001  # raised by close(), in a thread of the user's
                    self._fail(error)
                finally:
                    self._tasks = None
                    # the Futures of operations have their ends by now, those who wait for them are told in this step
                    tasks.cancel_scope.cancel()

    def _end_calls(self) -> None:
        for scope in tuple(self._calls):
            scope.cancel()

    def _fail(self, error: BaseException) -> None:
        if self._opened.done():
            self._failure = error
        else:
            self._opened.set_exception(error)

    async def _serve(
        self,
        future: BlockingFuture[T],
        call: Callable[[], Awaitable[T]],
        scope: trio.CancelScope,
        timeout: float | None,
    ) -> None:
        why: list[TinkerError] = []

        async def alarm(seconds: float) -> None:
            await trio.sleep(seconds)
            waits = "".join(f"\n  {line}" for line in self._lines())
            why.append(WaitTimeout(f"{future.what} was given up after {seconds:g} s. Waiting:{waits or ' nothing'}"))
            scope.cancel()

        with scope:
            async with trio.open_nursery() as nursery:
                if timeout is not None:
                    nursery.start_soon(alarm, timeout)
                try:
                    future.give(await call())
                except Exception as error:  # noqa: BLE001  # the caller's
                    future.fail(error)
                nursery.cancel_scope.cancel()
        self._calls.discard(scope)
        future.fail(why[0] if why else self._closed(future.what))

    async def _watch(self, inner: Future[T], future: BlockingFuture[T]) -> None:
        try:
            future.give(await inner)
        except Exception as error:  # noqa: BLE001  # the operation's
            future.fail(error)

    def _lines(self) -> tuple[str, ...]:
        return tuple(str(row) for row in self.runtime.pending())

    # ---- other threads

    def start(self, what: str, call: Callable[[], Awaitable[T]], timeout: float | None = None) -> BlockingFuture[T]:
        """Begin ``call`` in a task of the engine's, with the context variables of the caller.

        ``timeout`` seconds are all it gets. Raises ClosedError when the runtime is over.
        """
        self.require_own_process(what)
        scope = trio.CancelScope()

        def take_back() -> bool:
            def cancel() -> bool:
                scope.cancel()
                return future.done() or future.give_up()

            return self.ask(what, cancel)

        def describe() -> str:
            return "; ".join((what, *self._lines()))

        future: BlockingFuture[T] = BlockingFuture(self, what, describe, take_back)
        context = contextvars.copy_context()

        def begin() -> None:
            if self._tasks is None or self._end is not None:
                future.fail(self._closed(what))
                return
            self._calls.add(scope)
            context.run(self._tasks.start_soon, self._serve, future, call, scope, timeout)

        self._post(future, begin)
        return future

    def run(self, what: str, call: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """What ``call`` returns or raises, in the engine. ^C, or any other end of the wait, cancels it there."""
        self.require_thread(what)
        future = self.start(what, call, timeout)
        try:
            return future.result()
        finally:
            if not future.done():
                self._soon(future.cancel)

    def ask(self, what: str, function: Callable[[], T], *, after_end: bool = False) -> T:
        """What the plain ``function`` returns or raises, called in the engine; here, if that calls.

        Raises ClosedError when the runtime is over, but with ``after_end`` calls ``function`` here then.
        """
        self.require_own_process(what)
        if self._here():
            return function()
        if after_end and self.ended:
            return function()
        self.require_thread(what)
        answer: BlockingFuture[T] = BlockingFuture(self, what, lambda: what, lambda: False)

        def work() -> None:
            try:
                answer.give(function())
            except Exception as error:  # noqa: BLE001  # the caller's
                answer.fail(error)

        try:
            self._post(answer, work)
        except ClosedError:
            if after_end:
                return function()
            raise
        return answer.result()

    def adopt(self, inner: Future[T], what: str) -> BlockingFuture[T]:
        """In the engine: a future that ends as ``inner`` does."""

        def take_back() -> bool:
            def cancel() -> bool:
                return (not future.done()) and inner.cancel() and future.give_up()

            return self.ask(what, cancel)

        future: BlockingFuture[T] = BlockingFuture(self, what, lambda: repr(inner), take_back)
        with self._lock:
            self._waiting[future] = future.what
        future.add_done_callback(self._forget)
        if self._tasks is None:
            future.fail(self._closed(what))
        else:
            self._tasks.start_soon(self._watch, inner, future)
        return future

    def spawn(self, what: str, scope: trio.CancelScope, begin: Callable[[], Awaitable[object]]) -> None:
        """Call ``begin`` in the engine, and run what it returns in a task there until ``scope`` or the engine ends.

        Raises what ``begin`` raises, and ClosedError when the runtime is over. What the task raises is the engine's
        failure.
        """
        context = contextvars.copy_context()

        def step() -> None:
            if self._tasks is None or self._end is not None:
                raise self._closed(what)
            running = context.run(begin)
            self._calls.add(scope)
            context.run(self._tasks.start_soon, task, running)

        async def task(running: Awaitable[object]) -> None:
            try:
                await running
            finally:
                self._calls.discard(scope)

        self.ask(what, step)

    def signal(self, what: str) -> BlockingFuture[None]:
        """A future that somebody in the engine completes; it fails with ClosedError when the engine ends before.

        Raises WrongPlace in a process that was forked from the engine's.
        """
        self.require_own_process(what)

        def describe() -> str:
            return "; ".join((what, *self._lines()))

        future: BlockingFuture[None] = BlockingFuture(self, what, describe, lambda: False)
        with self._lock:
            if not self._ended.done():
                self._waiting[future] = what
                future.add_done_callback(self._forget)
                return future
        future.fail(self._closed(what))
        return future

    def cancel_soon(self, scope: trio.CancelScope) -> None:
        """Cancel what was spawned; from any thread and finalizer, since it takes no lock and waits for nothing."""
        token = self._token
        if token is not None and os.getpid() == self._pid:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)

    def describe(self, what: Callable[[], str]) -> str:
        """What the engine says of it now, or that it says nothing."""
        if self._here():
            return what()
        answer: concurrent.futures.Future[str] = concurrent.futures.Future()

        def say() -> None:
            try:
                answer.set_result(what())
            except Exception as error:  # noqa: BLE001  # what is raised here would end the engine
                answer.set_exception(error)

        self._soon(say)
        try:
            return answer.result(_ANSWERS_WITHIN)
        except TimeoutError:
            return f"the engine has not answered for {_ANSWERS_WITHIN:g} s, for something holds its loop"

    def require_own_process(self, what: str) -> None:
        """Raise WrongPlace in a process that was forked from the engine's."""
        if os.getpid() != self._pid:
            raise WrongPlace(
                f"{what} was used in a process that was forked from its runtime's, and nothing was done: {FORKED}"
            )

    def require_thread(self, what: str) -> None:
        """Raise WrongPlace where blocking would stop an event loop of trio's, the engine's own included."""
        if trio.lowlevel.in_trio_run():
            where = "a callback that the engine runs" if self._here() else "a trio program"
            cure = (
                "Do it in another thread, or after the callback"
                if self._here()
                else "Use open_runtime() there, or await trio.to_thread.run_sync"
            )
            raise WrongPlace(f"{what} would block the loop of {where}, and nothing was done. {cure}")

    def _here(self) -> bool:
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token

    def _post(self, future: BlockingFuture[Any], step: Callable[[], object]) -> None:
        with self._lock:
            token = self._token
            closed = token is None or self._ended.done()
            if not closed:
                self._waiting[future] = future.what
        future.add_done_callback(self._forget)
        try:
            if closed:
                raise self._closed(future.what)
            cast("trio.lowlevel.TrioToken", token).run_sync_soon(step)
        except trio.RunFinishedError:
            self._forget(future)
            raise self._closed(future.what) from None

    def _forget(self, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._waiting.pop(future, None)

    def _closed(self, what: str) -> ClosedError:
        error = ClosedError(f"{what} was not done: the runtime was closed")
        error.__cause__ = self._failure
        return error

    def __repr__(self) -> str:
        return f"<Engine {'closed' if self.ended else 'open'}>"


def _close_at_exit(engine: Engine) -> None:
    # atexit itself would be too late: no thread can be started by then, and looking up the server's name may need one
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    known = weakref.ref(engine)

    def close() -> None:
        if (living := known()) is not None:
            living.close_at_exit(_CLOSED_AT_EXIT_WITHIN)

    register(close)
