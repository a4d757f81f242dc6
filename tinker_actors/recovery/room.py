"""What the actors and tasks of recovery share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, final

from supervision import Event, TaskSupervisor
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import ClosedError
from tinker_actors.ledger import Tasks
from tinker_actors.metrics import Metrics
from tinker_actors.recovery.callbacks import Callbacks
from tinker_actors.recovery.queue import RecoveryQueue
from tinker_actors.recovery.watches import Watches

__all__ = ["RecoveryRoom"]


@final
class RecoveryRoom:
    """A plain object of the runtime's: what is on the places of Executor and Monitor, and what they work with."""

    def __init__(
        self,
        *,
        policy: RecoveryPolicy | None,
        queue: RecoveryQueue,
        watches: Watches,
        attempts: TaskSupervisor,
        callbacks: Callbacks,
        tasks: Tasks,
        metrics: Metrics,
        tell: Callable[[Event], None],
    ) -> None:
        self.policy = policy
        self.queue = queue
        self.watches = watches
        self.attempts = attempts
        self.callbacks = callbacks
        self.metrics = metrics
        self.tell = tell
        self._tasks = tasks

    @property
    def max_concurrent(self) -> int:
        """How many attempts may be under way."""
        return (self.policy or RecoveryPolicy()).max_concurrent

    def require_open(self, run_id: str) -> None:
        """Raise ClosedError where nothing comes of watching a run any more."""
        self.queue.require_open(run_id)
        if self.watches.closed:
            raise ClosedError(f"run {run_id} is not watched: the Monitor is no more")

    def close(self, client: Any) -> None:
        """Close a client that nobody wants any more, where it can be closed."""

        async def aclose() -> None:
            await client.aclose()

        if hasattr(client, "aclose"):
            with suppress(ClosedError):  # the runtime is ending, and its clients with it
                self._tasks.start("close a client that nobody waits for", aclose)
