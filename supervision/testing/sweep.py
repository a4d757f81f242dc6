"""The cancel sweep: run a scenario once for every scheduler step, and each time let something go wrong there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, final

import msgspec
import trio
from outcome import Error, Outcome

from supervision.crash import is_cancellation
from supervision.testing.seeded import run_seeded

__all__ = ["cancel_sweep", "InjectedFault", "Scenario", "SweepFailed", "SweepReport"]

Action = Literal["cancel", "raise"]


class InjectedFault(Exception):
    """What the sweep raises in a task."""


class SweepFailed(AssertionError):
    """A run of the sweep went wrong; the cause says how, the text says which run, and how to repeat it."""


class Scenario(Protocol):
    """One run's program and its verdict; a sweep makes a fresh one for each run."""

    async def run(self) -> None:
        """The program. It is cancelled from outside, or an error is raised in one of its tasks."""
        ...

    def check(self, error: BaseException | None) -> None:
        """After the run: raise if something is not as it should be. `error` is what run() raised, Cancelled apart."""
        ...


class SweepReport(msgspec.Struct, frozen=True, kw_only=True):
    """How much was tried."""

    runs: int
    """Disturbed runs, in each of which the disturbance happened."""
    steps: int
    """Scheduler steps of the longest undisturbed run."""


@final
class _Counter(trio.abc.Instrument):
    def __init__(self, strikes: Callable[[trio.lowlevel.Task], bool]) -> None:
        self.steps = 0
        self.strikes = strikes

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.strikes(task):
            self.steps += 1


@final
class _Canceller(trio.abc.Instrument):
    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self.left = step
        self.scope = scope
        self.struck = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.left == 0:
            self.struck = True
            self.scope.cancel(reason="the sweep cancels the scenario")
        self.left -= 1


@final
class _Thrower(trio.abc.Instrument):
    """Makes whatever the task waited for raise. Relies on two private names of trio's Task, as seeded.py does."""

    def __init__(self, step: int, strikes: Callable[[trio.lowlevel.Task], bool]) -> None:
        self.left = step
        self.strikes = strikes
        self.struck = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.strikes(task):
            return
        if self.left == 0:
            waiting: object = task._next_send  # noqa: SLF001
            if isinstance(waiting, Outcome):  # a task's very first step has nothing to raise from
                self.struck = True
                task._next_send = Error(InjectedFault(f"injected into {task.name}"))  # noqa: SLF001
        self.left -= 1


def _everything(_: trio.lowlevel.Task) -> bool:
    return True


def _actors(task: trio.lowlevel.Task) -> bool:
    """Where an actor's own code, or the idle actor, waits; not where the library waits for the actor's tasks."""
    if getattr(task.coro, "__qualname__", "") not in {"Incarnation.run", "ActorTask.run"}:
        return False
    functions = {frame.f_code.co_qualname for frame, _ in task.iter_await_frames()}
    return "end_life" not in functions or "run_terminate" in functions


def cancel_sweep(
    make_scenario: Callable[[], Scenario],
    *,
    seeds: Sequence[int] = (0,),
    actions: Sequence[Action] = ("cancel", "raise"),
    strikes: Callable[[trio.lowlevel.Task], bool] = _actors,
    every: int = 1,
    limit: float = 1e5,
) -> SweepReport:
    """Run the scenario undisturbed, then once for each scheduler step k, action and seed.

    cancel: the scope around run() is cancelled before step k. raise: the k-th step of a task for which
    `strikes(task)` holds (by default: actors' tasks and the tasks they start) raises InjectedFault where it waited.
    every: only each n-th step. limit: virtual seconds per run (then VirtualHang).

    Raises SweepFailed for the first run whose check() raised; its text names action, step and seed.
    """
    runs = longest = 0
    for seed in seeds:
        for action in actions:
            counter = _Counter(_everything if action == "cancel" else strikes)
            scenario = make_scenario()
            error = _run(scenario, seed, limit, None, counter)
            _check(scenario, error, f"undisturbed, seed={seed}")
            longest = max(longest, counter.steps)
            for step in range(0, counter.steps, every):
                scenario = make_scenario()
                scope = trio.CancelScope()
                saboteur = _Canceller(step, scope) if action == "cancel" else _Thrower(step, strikes)
                label = f"{action} at step {step} of {counter.steps}, seed={seed}"
                try:
                    error = _run(scenario, seed, limit, scope, saboteur)
                except AssertionError as hang:
                    raise SweepFailed(f"{label}: {hang}") from hang
                runs += saboteur.struck
                _check(scenario, error, label)
    return SweepReport(runs=runs, steps=longest)


def _run(
    scenario: Scenario, seed: int, limit: float, scope: trio.CancelScope | None, instrument: trio.abc.Instrument
) -> BaseException | None:
    caught: list[BaseException] = []

    async def main() -> None:
        with scope or trio.CancelScope():
            try:
                await scenario.run()
            except BaseException as error:
                if isinstance(error, GeneratorExit) or is_cancellation(error):
                    raise
                caught.append(error)

    run_seeded(main, seed=seed, limit=limit, instruments=[instrument])
    return caught[0] if caught else None


def _check(scenario: Scenario, error: BaseException | None, label: str) -> None:
    try:
        scenario.check(error)
    except Exception as wrong:
        raise SweepFailed(f"{label}: {type(wrong).__name__}: {wrong}") from wrong
