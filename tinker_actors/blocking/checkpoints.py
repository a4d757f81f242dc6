"""A training client's automatic checkpoints for threads and asyncio."""

from __future__ import annotations

from typing import final

from tinker_actors.blocking.delegate import Handle, answered, at_once
from tinker_actors.clients.training.checkpoints import AutomaticCheckpoints
from tinker_actors.config import CheckpointPolicy
from tinker_actors.sessions import SavedCheckpoint

__all__ = ["BlockingCheckpoints"]


@final
class BlockingCheckpoints(Handle[AutomaticCheckpoints]):
    """The checkpoints that a training client saves by itself. Get it from ``client.checkpoints``."""

    pin = answered(AutomaticCheckpoints.pin)
    unpin = answered(AutomaticCheckpoints.unpin)
    report = answered(AutomaticCheckpoints.report)
    save = at_once(AutomaticCheckpoints.save)

    @property
    def policy(self) -> CheckpointPolicy | None:
        """What they are saved and kept by; None: nothing is saved by itself."""
        return self._read("policy", lambda inner: inner.policy)

    @property
    def step(self) -> int:
        """How many optim_steps were accepted."""
        return self._read("step", lambda inner: inner.step)

    @property
    def saved(self) -> tuple[SavedCheckpoint, ...]:
        """Those that are there, the oldest first."""
        return self._read("saved", lambda inner: inner.saved)
