"""Services and lists of runs that do as a test says, in the place of the usual ones."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from supervision import Event
from tinker_actors.recovery.events import RecoveryEvent
from tinker_actors.testing.simulation import Outcome
from tinker_actors.types import Checkpoint, CheckpointsListResponse, TrainingRun

__all__ = ["Made", "Runs", "Service", "checkpoint", "told"]

EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def checkpoint(name: str, *, run: str = "run", number: int = 0, kind: Any = "training") -> Checkpoint:
    """A checkpoint of ``run``; a higher ``number`` is newer."""
    folder = {"training": "weights", "sampler": "sampler_weights"}[kind]
    return Checkpoint(
        checkpoint_id=f"{folder}/{name}",
        checkpoint_type=kind,
        time=EPOCH + datetime.timedelta(seconds=number),
        tinker_path=f"tinker://{run}/{folder}/{name}",
    )


class Runs:
    """A RestBehaviour: what it has of each run, or an error, or nothing for ever."""

    def __init__(self, *checkpoints: Checkpoint, last: bool = True) -> None:
        self.checkpoints = checkpoints
        self.last = last
        self.corrupted: set[str] = set()
        self.errors: dict[str, Exception] = {}
        self.hang: set[str] = set()
        self.asked: list[tuple[float, str]] = []

    async def get_training_run(self, training_run_id: str, /) -> TrainingRun:
        self.asked.append((trio.current_time(), training_run_id))
        await trio.sleep(0.1)
        if training_run_id in self.hang:
            await trio.sleep_forever()
        if training_run_id in self.errors:
            raise self.errors[training_run_id]
        trained = [one for one in self.checkpoints if one.checkpoint_type == "training"]
        newest = max(trained, key=lambda one: one.time, default=None)
        return TrainingRun(
            training_run_id=training_run_id,
            base_model="some",
            model_owner="me",
            is_lora=True,
            last_request_time=EPOCH,
            corrupted=training_run_id in self.corrupted,
            last_checkpoint=newest if self.last else None,
        )

    async def list_checkpoints(self, training_run_id: str, /) -> CheckpointsListResponse:
        await trio.sleep(0.1)
        return CheckpointsListResponse(checkpoints=self.checkpoints)


class Made:
    """What Service makes in the place of a training client."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


class Service:
    """A ServiceBehaviour. ``work`` is what each creation does first; it may raise."""

    def __init__(self, runs: Runs, work: Callable[[int], Awaitable[object]] | None = None) -> None:
        self.runs = runs
        self.work = work
        self.calls: list[tuple[float, str, bool]] = []
        self.made: list[Made] = []
        self.busy = 0
        self.busiest = 0

    async def create_rest_client(self) -> Runs:
        await trio.lowlevel.checkpoint()
        return self.runs

    async def create_training_client_from_state(self, path: str, /) -> Made:
        return await self._make(path, optimizer=False)

    async def create_training_client_from_state_with_optimizer(self, path: str, /) -> Made:
        return await self._make(path, optimizer=True)

    async def _make(self, path: str, *, optimizer: bool) -> Made:
        self.calls.append((trio.current_time(), path, optimizer))
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        try:
            await trio.sleep(1.0)
            if self.work is not None:
                await self.work(len(self.calls))
        finally:
            self.busy -= 1
        self.made.append(Made(f"made-{len(self.made)}"))
        return self.made[-1]


def told(outcome: Outcome[Any], run_id: str | None = None) -> list[str]:
    """The names of what was told of ``run_id``, or of any run, in order."""
    return [type(event).__name__ for event in heard(outcome) if run_id in (None, event.run_id)]


def heard(outcome: Outcome[Any]) -> list[RecoveryEvent]:
    """The events of recoveries."""
    events: tuple[Event, ...] = outcome.events
    return [event for event in events if isinstance(event, RecoveryEvent)]
