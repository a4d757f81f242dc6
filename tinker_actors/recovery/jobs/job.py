"""The Job: a training run that goes on in another process where this one ends, whatever ends it."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, final

import numpy as np

from tinker_actors.checks import integer, text
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import ClosedError, InvalidInput, TinkerError
from tinker_actors.flow.home import Home
from tinker_actors.ledger import Future
from tinker_actors.metrics import ModelUsage, Price, cost_of
from tinker_actors.recovery.jobs.budget import Budget
from tinker_actors.recovery.jobs.record import JobStatus, how_far
from tinker_actors.recovery.jobs.recorder import Candidate, Captured, Recorder
from tinker_actors.recovery.jobs.tracked import Tracked, as_json, state_of_generator
from tinker_actors.types import SaveWeightsResponse

__all__ = ["Capture", "Job"]

T = TypeVar("T")
Capture: TypeAlias = Literal["update", "step"]
"""When what a job tracks is captured for a record: with the step's last optim_step, or at the step's end."""

_log = logging.getLogger("tinker_actors.jobs")


@final
class Job:
    """A training run by name. Get it from ``async with runtime.job(...) as job``.

        for step in job.steps():
            batch = data.draw(job.rng)
            loss = await job.client.forward_backward(batch)
            await job.client.optim_step(AdamParams(learning_rate=1e-3))
            job.log({"loss": (await loss).metrics["loss:sum"]})

    With each checkpoint it records what a process needs to go on from there. Run the same program again, and the loop
    begins with the step after the record; the weights, the optimizer, ``rng``, ``generator``, ``position``, whatever
    is tracked and metrics.jsonl are as they were then. What came after the record is done again, from the same state.
    """

    def __init__(
        self,
        *,
        client: TrainingClient,
        service: ServiceClient,
        recorder: Recorder,
        folder: Path,
        budget: Budget | None,
        before: Mapping[str, ModelUsage],
        captures: Capture,
        home: Home,
    ) -> None:
        record = recorder.record
        self.client = client
        """The training client."""
        self.service = service
        """Its session, for samplers and more clients."""
        self.folder = folder
        """Where metrics.jsonl and the record are."""
        self.rng = random.Random(record.config.seed)
        """A generator that goes on where it was recorded. Draw from it before the step's optim_step."""
        self.generator = np.random.default_rng(record.config.seed)
        """The same, of numpy's kind."""
        self.resumed_from: int | None = None if record.point is None else record.point.step
        """The step that it goes on after; None for one that has begun anew."""
        self._recorder = recorder
        self._budget = budget
        self._before = dict(before)
        self._home = home
        self._captures: Capture = captures
        self._captured: Candidate | None = None
        self._warned = False
        self._uncaptured: TinkerError | None = None
        self._position: Any = 0
        self._step = record.step
        self._in_step = False
        self._updates = 0
        self._accepted_before = 0
        self._stopping: str | None = None
        self._finished = record.total is not None and record.step >= record.total
        if record.status == "done" and record.total is None:
            self._finished = True
        self._closed = False
        self._operations_before = 0 if record.point is None else record.point.op_no
        self._tracked = Tracked({} if record.point is None else record.point.states)
        self._tracked.add("job.rng", self.rng)
        self._tracked.add("job.generator", self.generator)
        self._tracked.add("job.position", _Position(self))
        client.checkpoints.follow(self)

    @property
    def name(self) -> str:
        """What it is resumed by."""
        return self._recorder.record.name

    @property
    def seed(self) -> int:
        """Of the adapter, ``rng`` and ``generator``; drawn at the first start where none was given."""
        return self._recorder.record.config.seed

    @property
    def total(self) -> int | None:
        """How many steps it is to have; None: as many as the program likes."""
        return self._recorder.record.total

    @property
    def step(self) -> int:
        """The step that is being done, or was last: 1, 2, 3, ..."""
        return self._step

    @property
    def safe_step(self) -> int:
        """The step after which another process would go on if this one died now."""
        return self._recorder.record.step

    @property
    def crash_costs(self) -> int:
        """How many steps would have to be done again then."""
        return self._recorder.cost

    @property
    def position(self) -> Any:
        """Where the program is in its data: whatever it has set that JSON can hold, 0 at first."""
        return self._position

    @position.setter
    def position(self, place: Any) -> None:
        try:
            as_json(place)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput("position", f"can't be kept: {error}", "Give what JSON can hold") from None
        self._position = place

    @property
    def done(self) -> bool:
        """Whether all of its steps are done."""
        return self._finished

    @property
    def stopped(self) -> str | None:
        """Why no further step begins, although there are some to do; None while there is no reason."""
        return None if self._finished else self._stopping

    def steps(self) -> Iterator[int]:
        """The numbers of the steps that are to be done, each when the one before is: for the program's loop.

        It ends early after ``stop()``, a Ctrl-C, or when the budget is used up. Raises InvalidInput when a step has
        made more optim_steps than ``updates_per_step`` says.
        """
        while (step := self.next_step()) is not None:
            yield step

    def next_step(self) -> int | None:
        """End the step that is being done, and begin the next: its number, None when there is none to do."""
        self._home.require("the job")
        self._require_open("next_step")
        self._end_step()
        if self._budget is not None and self._stopping is None:
            self._stopping = self._budget.spent(self.usage())
        if self._finished or (self.total is not None and self._step >= self.total):
            self._finished = True
            return None
        if self._stopping is not None:
            return None
        for name in self._tracked.forgotten() if self._step == self.resumed_from else ():
            _log.warning("the job %s had tracked %r, and this program does not", self.name, name)
        self._step += 1
        self._in_step = True
        self._updates = 0
        self._accepted_before = self.client.checkpoints.operations
        return self._step

    def track(self, name: str, target: T) -> T:
        """Keep the state of ``target`` with each record, and give it now the state that it had in the record.

        It is a ``random.Random``, a numpy Generator, or has ``get_state()`` and ``set_state(state)``, or
        ``state_dict()`` and ``load_state_dict(state)``, with states that JSON can hold. Raises InvalidInput for
        anything else, and JobError where it does not take its state back.
        """
        self._home.require("the job")
        return self._tracked.add(name, target)

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """The row of ``step``, by default the one that is being done, for metrics.jsonl, where each stands once.

        Rows come in the order of their steps, also while the program is ahead of them. Raises InvalidInput for the
        second row of a step, and for what is no number or text.
        """
        self._home.require("the job")
        self._require_open("log")
        if step is None and not self._step:
            raise InvalidInput("job.log()", "was called when no step has begun", "Call it within job.steps()")
        number = self._step if step is None else integer("step", step, "Give the number of a step", low=1)
        if number > self._step:
            raise InvalidInput("step", f"{number} has not begun, for {self._step} is the last", "Give one that has")
        self.client.checkpoints.judge(metrics, number * self._recorder.record.config.updates_per_step)
        self._recorder.log(number, metrics)

    def save(self) -> Future[SaveWeightsResponse]:
        """Save a checkpoint now, with a record of this place, whatever the cadence says.

        Raises InvalidInput within a step, from its beginning to its last optim_step: there is no place to go on from.
        """
        self._home.require("the job")
        self._require_open("save")
        if self._in_step and self._updates < self._recorder.record.config.updates_per_step:
            problem = f"was called in step {self._step}, before its optim_step"
            raise InvalidInput("job.save()", problem, "Call it after that, or between two steps")
        return self.client.checkpoints.save()

    def stop(self, reason: str = "the program asked for it") -> None:
        """Let no further step begin: the loop ends after this one, and the block with a checkpoint.

        Raises InvalidInput for a ``reason`` that is no text.
        """
        self._home.require("the job")
        text("reason", reason, "Say in a few words why the job stops")
        if self._stopping is None:
            self._stopping = reason

    def usage(self) -> dict[str, ModelUsage]:
        """Tokens trained on, read in prompts and sampled, by base model, earlier processes included."""
        total = dict(self._before)
        for model, one in self.service.usage().items():
            known = total.get(model, ModelUsage())
            total[model] = ModelUsage(
                trained=known.trained + one.trained,
                prompted=known.prompted + one.prompted,
                sampled=known.sampled + one.sampled,
            )
        return total

    def cost(self, prices: Mapping[str, Price]) -> float:
        """What ``usage()`` costs by ``prices``. Raises InvalidInput for a model without a price."""
        return cost_of(self.usage(), prices)

    # ---- for the client's checkpoints

    def stepped(self) -> bool:
        """An optim_step was accepted: whether the step is complete with it."""
        self._updates += 1
        due = self._recorder.record.config.updates_per_step
        if self._updates > due:
            self._recorder.drop(self._step)
        return self._in_step and self._updates == due

    def accepted(self, op_no: int, saved: Future[SaveWeightsResponse]) -> None:
        """A save was accepted: what is captured now belongs to it."""
        if self._in_step and self._updates != self._recorder.record.config.updates_per_step:
            return  # asked for by the program itself, where nothing can go on
        captured = self._capture()
        if captured is not None:
            whole = not self._in_step or self._captures == "update"
            candidate = Candidate(
                step=self._step, op_no=self._operations_before + op_no, captured=captured, whole=whole
            )
            self._captured = candidate
            self._recorder.propose(candidate, saved)

    # ---- for its block

    async def finish(self) -> tuple[JobStatus, str]:
        """The block is left: save, and wait for all that was accepted. How it ended, and why.

        Raises what keeps the checkpoint from being saved, or a place from being recorded.
        """
        self._recorder.tell("finishing")
        whole = self._leave_step()
        open_end = self.total is None and self._stopping is None
        self._finished = self._finished or (whole and open_end)
        status: JobStatus = "done" if self._finished else "stopped"
        reason = "" if self._finished else self._stopping or "the program left its loop"
        if not whole:  # no place to go on from
            reason = f"its loop was left within step {self._step}"
        self._closed = True
        checkpoints = self.client.checkpoints
        if whole and self._finished and self._recorder.record.status != "done":
            await checkpoints.save(f"{self.name}-final-{self._step}")
        elif whole and self._step > (self.resumed_from or 0):
            await checkpoints.save()
        await checkpoints.drained()
        if whole and self._uncaptured is not None:
            raise self._uncaptured
        return status, reason

    def leave(self) -> None:
        """The block is left by an exception: nothing is saved, and the record before counts."""
        self._closed = True

    def _end_step(self) -> None:
        if not self._in_step:
            return
        due = self._recorder.record.config.updates_per_step
        self._in_step = False
        if self._captured is not None and self._captured.step == self._step:
            self._capture_again(self._captured)
        self._recorder.advance(self._step)
        if self._updates > due:
            raise InvalidInput(
                "job.steps()",
                f"step {self._step} made {self._updates} optim_steps, and the job has updates_per_step={due}",
                "Begin a job with as many as each step makes",
            )

    def _capture(self) -> Captured | None:
        try:
            states = self._tracked.states()
        except TinkerError as error:
            _log.error("the job %s records nothing: %s", self.name, error)
            self._uncaptured = error
            return None
        self._uncaptured = None
        return Captured(states=states, sampling=json.dumps(state_of_generator(self.service.seeds)))

    def _capture_again(self, candidate: Candidate) -> None:
        """The step of ``candidate`` has ended."""
        captured = self._capture()
        if captured is None or captured == candidate.captured:
            candidate.whole = True
        elif self._captures == "step":
            candidate.captured, candidate.whole = captured, True
        elif not self._warned:
            self._warned = True
            _log.warning(
                "the job %s: what it tracks has changed in step %d after its optim_step. The record has it as it was "
                "at the optim_step, which is right if that was for a later step. If it was for this one, give "
                'capture="step"',
                *(self.name, self._step),
            )

    def _leave_step(self) -> bool:
        """Whether the place where the loop was left is one to go on from."""
        if not self._in_step:
            return True
        due = self._recorder.record.config.updates_per_step
        if self._updates == due:
            self._end_step()
            return True
        if self._updates == 0 and self.client.checkpoints.operations == self._accepted_before and self.total is None:
            self._in_step = False
            self._step -= 1
            return True
        return False

    def _require_open(self, what: str) -> None:
        if self._closed:
            raise ClosedError(f"{what} was not done: the block of the job {self.name} was left")

    def __repr__(self) -> str:
        return f"<Job {self.name} step {how_far(self._step, self.total)}>"


@final
class _Position:
    def __init__(self, job: Job) -> None:
        self._job = job

    def get_state(self) -> Any:
        return self._job.position

    def set_state(self, state: Any) -> None:
        self._job.position = state
