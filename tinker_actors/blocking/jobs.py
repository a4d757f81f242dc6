"""Jobs for threads and asyncio: the same blocks, loops and records."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

import numpy as np
import trio

from tinker_actors.blocking.delegate import Handle, answered, at_once
from tinker_actors.blocking.engine import Engine
from tinker_actors.blocking.service import ServiceClient
from tinker_actors.blocking.training import TrainingClient
from tinker_actors.recovery import jobs
from tinker_actors.recovery.jobs.interruption import Interruption

__all__ = ["BlockingJob", "BlockingJobBlock"]


@final
class BlockingJob(Handle[jobs.Job]):
    """A training run by name, for plain programs. Get it from ``with runtime.job(...) as job``.

    for step in job.steps():
        loss = job.client.forward_backward(data.draw(job.rng))
        job.client.optim_step(AdamParams(learning_rate=1e-3)).result()
        job.log({"loss": loss.result().metrics["loss:sum"]})
    """

    next_step = answered(jobs.Job.next_step)
    track = answered(jobs.Job.track)
    log = answered(jobs.Job.log)
    save = at_once(jobs.Job.save)
    stop = answered(jobs.Job.stop)
    usage = answered(jobs.Job.usage)
    cost = answered(jobs.Job.cost)

    def steps(self) -> Iterator[int]:
        """The numbers of the steps that are to be done, each when the one before is: for the program's loop.

        It ends early after ``stop()``, a Ctrl-C, or when the budget is used up. Raises InvalidInput when a step has
        made more optim_steps than ``updates_per_step`` says.
        """
        while (step := self.next_step()) is not None:
            yield step

    @property
    def client(self) -> TrainingClient:
        """The training client."""
        return TrainingClient(self._engine, self._inner.client, self._timeout)

    @property
    def service(self) -> ServiceClient:
        """Its session, for samplers and more clients."""
        return ServiceClient(self._engine, self._inner.service, self._timeout)

    @property
    def folder(self) -> Path:
        """Where metrics.jsonl and the record are."""
        return self._inner.folder

    @property
    def rng(self) -> random.Random:
        """A generator that goes on where it was recorded. Draw from it before the step's optim_step."""
        return self._inner.rng

    @property
    def generator(self) -> np.random.Generator:
        """The same, of numpy's kind."""
        return self._inner.generator

    @property
    def resumed_from(self) -> int | None:
        """The step that it goes on after; None for one that has begun anew."""
        return self._inner.resumed_from

    @property
    def name(self) -> str:
        """What it is resumed by."""
        return self._read("name", lambda inner: inner.name)

    @property
    def seed(self) -> int:
        """Of the adapter, ``rng`` and ``generator``; drawn at the first start where none was given."""
        return self._read("seed", lambda inner: inner.seed)

    @property
    def total(self) -> int | None:
        """How many steps it is to have; None: as many as the program likes."""
        return self._read("total", lambda inner: inner.total)

    @property
    def step(self) -> int:
        """The step that is being done, or was last: 1, 2, 3, ..."""
        return self._read("step", lambda inner: inner.step)

    @property
    def safe_step(self) -> int:
        """The step after which another process would go on if this one died now."""
        return self._read("safe_step", lambda inner: inner.safe_step)

    @property
    def crash_costs(self) -> int:
        """How many steps would have to be done again then."""
        return self._read("crash_costs", lambda inner: inner.crash_costs)

    @property
    def position(self) -> Any:
        """Where the program is in its data: whatever it has set that JSON can hold, 0 at first."""
        return self._read("position", lambda inner: inner.position)

    @position.setter
    def position(self, place: Any) -> None:
        self._engine.ask("position", lambda: setattr(self._inner, "position", place), after_end=True)

    @property
    def done(self) -> bool:
        """Whether all of its steps are done."""
        return self._read("done", lambda inner: inner.done)

    @property
    def stopped(self) -> str | None:
        """Why no further step begins, although there are some to do; None while there is no reason."""
        return self._read("stopped", lambda inner: inner.stopped)


@final
class BlockingJobBlock:
    """``with runtime.job(...) as job``: opens the job, and leaves it as the block ends."""

    def __init__(self, engine: Engine, block: jobs.JobBlock) -> None:
        self._engine = engine
        self._block = block
        self._signals = ExitStack()

    if not TYPE_CHECKING:  # type checkers know it

        def __getattr__(self, name: str) -> object:
            problem = f"a BlockingJobBlock has no {name!r}, the job within it may: with runtime.job(...) as job"
            raise AttributeError(problem, name=name, obj=self)

    def __enter__(self) -> BlockingJob:
        job = self._engine.run("job", self._block.open)
        if self._block.catches_signals:
            token = self._engine.token

            def asked(name: str) -> None:  # in the main thread, between any two instructions
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(job.stop, name)

            self._signals.enter_context(Interruption(asked))
        return BlockingJob(self._engine, job)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._signals:
            self._engine.run("job", lambda: self._block.close(error))
