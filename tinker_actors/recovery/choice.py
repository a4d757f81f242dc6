"""Where a run goes on from: its newest checkpoint, its best one, or the one that the policy names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import RecoveryFailed
from tinker_actors.recovery.behaviours import RestBehaviour
from tinker_actors.types import Checkpoint, checkpoint_path

__all__ = ["PolicyChooser", "Scores"]

_KEPT = 4096  # checkpoints: a job of weeks must not grow by each of its saves


@final
class Scores:
    """A plain object: metrics of checkpoints, by tinker path, the latest 4,096 of them."""

    def __init__(self) -> None:
        self._metrics: dict[str, Mapping[str, float]] = {}

    def note(self, path: str, metrics: Mapping[str, float]) -> None:
        """``path`` has these, besides those noted before."""
        self._metrics[path] = {**self._metrics.pop(path, {}), **metrics}
        if len(self._metrics) > _KEPT:
            del self._metrics[next(iter(self._metrics))]

    def known(self, path: str) -> dict[str, float]:
        """All of them."""
        return dict(self._metrics.get(path, {}))

    def of(self, path: str, metric: str) -> float | None:
        """The value of ``metric``; None where nobody has said."""
        return self._metrics.get(path, {}).get(metric)


@final
class PolicyChooser:
    """Chooses as the policy's ``checkpoint`` says. Raises RecoveryFailed where there is none of that kind."""

    def __init__(self, policy: RecoveryPolicy, scores: Scores) -> None:
        self._policy = policy
        self._scores = scores

    async def choose(self, run_id: str, given: str | None, rest: RestBehaviour, /) -> str:
        """The tinker path; InvalidInput where ``given`` is none that can be loaded."""
        strategy = self._policy.checkpoint
        if strategy == "best":
            return self._best(run_id, (await rest.list_checkpoints(run_id)).checkpoints)
        if strategy != "latest":
            return strategy
        if given is not None:
            return checkpoint_path(given, kind="weights", field="checkpoint")
        newest = (await rest.get_training_run(run_id)).last_checkpoint
        if newest is None:
            known = _trained((await rest.list_checkpoints(run_id)).checkpoints)
            newest = max(known, key=lambda one: one.time, default=None)
        if newest is None:
            raise _none(run_id, "it has no training checkpoint. Save its state now and then")
        return newest.tinker_path

    def _best(self, run_id: str, checkpoints: tuple[Checkpoint, ...]) -> str:
        metric = self._policy.best_metric
        assert metric is not None
        judged: dict[str, float] = {}
        for one in _trained(checkpoints):
            value = self._scores.of(one.tinker_path, metric)
            if value is not None and not math.isnan(value):
                judged[one.tinker_path] = value
        if not judged:
            why = f"of none of its checkpoints {metric!r} is known, which runtime.recovery.note_metrics tells"
            raise _none(run_id, why)
        # of equal ones the newest, which comes first
        return (min if self._policy.best == "lowest" else max)(judged, key=lambda path: judged[path])


def _trained(checkpoints: tuple[Checkpoint, ...]) -> list[Checkpoint]:
    found = [one for one in checkpoints if one.checkpoint_type == "training"]
    return sorted(found, key=lambda one: one.time, reverse=True)


def _none(run_id: str, why: str) -> RecoveryFailed:
    return RecoveryFailed(f"run {run_id} can't be recovered: {why}", run_id=run_id, attempts=0)
