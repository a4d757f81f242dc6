"""capture_exceptions: what leaves a block or a function as an exception is recorded, and goes on its way."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, final

import trio

from tinker_actors.checks import flag
from tinker_actors.errors import InvalidInput
from tinker_actors.telemetry.events import parse_severity
from tinker_actors.telemetry.provider import Recorder, TelemetryProvider
from tinker_actors.telemetry.telemetry import LAST_WORDS, Telemetry
from tinker_actors.types import Severity

__all__ = ["Capture", "capture_exceptions"]

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("tinker_actors.telemetry")


@final
class Capture:
    """What ``capture_exceptions`` gives: a context manager, async or not, and a decorator of functions, async or not.

    What passes through is recorded once and raised on unchanged, be there a Telemetry or not. A cancellation and the
    end of a generator are no exceptions in this sense. ``fatal`` has what is recorded sent at once; an async block
    waits for it, for five seconds at most and whether or not it is cancelled.
    """

    def __init__(self, provider: TelemetryProvider | Telemetry | None, *, fatal: bool, severity: Severity) -> None:
        self._provider = provider
        self._fatal = fatal
        self._severity = severity

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, where: TracebackType | None) -> None:
        telemetry = self._record(error)
        if telemetry is not None and self._fatal:
            telemetry.flush_soon()

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint()

    async def __aexit__(self, kind: object, error: BaseException | None, where: TracebackType | None) -> None:
        telemetry = self._record(error)
        if isinstance(telemetry, Telemetry) and self._fatal:
            # or a cancellation would take the exception's place
            with trio.CancelScope(shield=True):
                await telemetry.flush(LAST_WORDS)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function`` as it was, with what it raises recorded."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidInput("function", "is a generator", "Use the context manager within it")
        if inspect.iscoroutinefunction(function):
            work = cast("Callable[P, Awaitable[Any]]", function)

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self:
                    return await work(*args, **kwargs)

            return cast("Callable[P, R]", awaited)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return called

    def _record(self, error: BaseException | None) -> Recorder | None:
        if error is None:
            return None
        try:
            telemetry = self._provider if isinstance(self._provider, Telemetry) else _provided(self._provider)
            found = _without_cancellations(error)
            if telemetry is None or found is None:
                return None
            telemetry.log_exception(found, self._severity)
        except Exception:  # noqa: BLE001  # the block's own exception is what its caller has to see
            _log.exception("an exception could not be recorded")
            return None
        return telemetry


def capture_exceptions(
    provider: TelemetryProvider | Telemetry | None, *, fatal: bool = False, severity: Severity | str = "ERROR"
) -> Capture:
    """Record the exceptions of a block or a function in the telemetry of ``provider``: a client, a Telemetry, None.

        async with capture_exceptions(client, fatal=True):
            await train(client)

    ``fatal`` sends at once what is recorded; an async block waits for it. Raises InvalidInput for what is none of
    these.
    """
    given = (TelemetryProvider, Telemetry, type(None))
    if not isinstance(provider, given):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
        problem = f"is of type {type(provider).__name__}, which has no get_telemetry"
        raise InvalidInput("provider", problem, "Give a client, its get_telemetry(), or None")
    return Capture(provider, fatal=flag("fatal", fatal), severity=parse_severity(severity))


def _provided(provider: TelemetryProvider | None) -> Recorder | None:
    return None if provider is None else provider.get_telemetry()


def _without_cancellations(error: BaseException) -> BaseException | None:
    passing = (trio.Cancelled, GeneratorExit)
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(passing)[1]
    return None if isinstance(error, passing) else error
