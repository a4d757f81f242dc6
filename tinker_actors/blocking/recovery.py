"""``runtime.recovery`` for threads and asyncio."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast, final

from msgspec import structs

from tinker_actors import clients
from tinker_actors.blocking.delegate import Handle, answered, at_once, blocking
from tinker_actors.blocking.engine import Engine
from tinker_actors.blocking.training import TrainingClient
from tinker_actors.recovery import RecoveredRun, Recovery

__all__ = ["BlockingRecovery", "shown"]

R = TypeVar("R")


def shown(engine: Engine) -> Callable[[Any], Any]:
    """What callbacks are given of a client: the handle for threads."""
    return lambda client: TrainingClient(engine, client) if isinstance(client, clients.TrainingClient) else client


def _recovered(engine: Engine, run: RecoveredRun) -> RecoveredRun:
    return structs.replace(run, client=shown(engine)(run.client))


def _taking_handles(method: Callable[..., R]) -> Callable[..., R]:
    """``method``, to which handles for threads may be given where trio's are due."""

    @wraps(method)
    def call(self: BlockingRecovery, /, *args: Any, **kwargs: Any) -> R:
        return method(self, *map(_inner, args), **{name: _inner(value) for name, value in kwargs.items()})

    return call


def _inner(value: Any) -> Any:
    if not isinstance(value, Handle):
        return value
    return cast("Handle[Any]", value)._place()[1]  # noqa: SLF001


@final
class BlockingRecovery(Handle[Recovery]):
    """Watches runs, and recovers those that their server has lost. Get it from ``runtime.recovery``.

    A policy's plain callbacks are called in threads, with training clients of this kind.
    """

    monitor_run = _taking_handles(blocking(Recovery.monitor_run))
    monitor_run_async = _taking_handles(at_once(Recovery.monitor_run_async))
    recover = _taking_handles(blocking(Recovery.recover, _recovered))
    recover_async = _taking_handles(at_once(Recovery.recover_async, _recovered))
    stop_monitoring = answered(Recovery.stop_monitoring)
    monitored = answered(Recovery.monitored)
    recoveries = answered(Recovery.recoveries)
    note_metrics = answered(Recovery.note_metrics)
