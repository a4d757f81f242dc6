"""What the user wants to be told: each call in a task of its own, which does no harm whatever it does."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast, final

from supervision import Event, NotRunning, TaskSupervisor
from tinker_actors.ports import Offload
from tinker_actors.recovery.events import RecoveryCallbackFailed
from tinker_actors.recovery.queue import Wanted

__all__ = ["Callbacks"]

_log = logging.getLogger("tinker_actors.recovery")


@final
class Callbacks:
    """A plain object: begins each call within the step in which it became due, so that none is made twice."""

    def __init__(self, tasks: TaskSupervisor, offload: Offload, tell: Callable[[Event], None]) -> None:
        self._tasks = tasks
        self._offload = offload
        self._tell = tell
        self.present: Callable[[Any], Any] = lambda client: client
        """What the user is shown of a client."""

    def on_recovery(self, wanted: Wanted, new: Any, checkpoint: str | None) -> None:
        """The run goes on in ``new``."""
        callback = wanted.policy.on_recovery
        if callback is not None:
            old = None if wanted.client is None else self.present(wanted.client)
            self._begin("on_recovery", wanted, callback, old, self.present(new), checkpoint)

    def on_failure(self, wanted: Wanted, reason: str) -> None:
        """The run is given up."""
        callback = wanted.policy.on_failure
        if callback is not None:
            self._begin("on_failure", wanted, callback, wanted.run_id, reason)

    def _begin(self, name: str, wanted: Wanted, callback: Callable[..., object], *arguments: Any) -> None:
        with suppress(NotRunning):  # the runtime is ending
            self._tasks.start_nowait(self._call, name, wanted, callback, arguments)

    async def _call(
        self, name: str, wanted: Wanted, callback: Callable[..., object], arguments: tuple[Any, ...]
    ) -> None:
        try:
            if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__):
                await cast("Awaitable[object]", callback(*arguments))
            else:
                # apart: one that never returns takes nobody's room
                given = await self._offload.apart().run(lambda: callback(*arguments))
                if inspect.isawaitable(given):  # as of a lambda that calls an async function
                    await given
        except Exception as error:  # noqa: BLE001  # whatever a user's code raises
            _log.error("%s of run %s failed", name, wanted.run_id, exc_info=error)
            text = f"{type(error).__name__}: {error}"
            self._tell(RecoveryCallbackFailed(self._tasks.path, wanted.run_id, wanted.metadata, name, text))
