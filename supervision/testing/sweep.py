"""The sweep: run a scenario once for every scheduler step, and each time let something go wrong there."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, final

import msgspec
import trio
from outcome import Error, Outcome

from supervision.crash import is_cancellation
from supervision.testing.seeded import run_seeded

__all__ = ["cancel_sweep", "InjectedFault", "Scenario", "SweepFailed", "SweepReport"]

Action = Literal["cancel", "timeout", "raise", "interrupt"]
Run = tuple[Action, int, int]
"""One disturbed run: the action, the step, the seed."""


class InjectedFault(Exception):
    """What the sweep raises in a task."""


class SweepFailed(AssertionError):
    """A run of the sweep went wrong; the cause says how, the text says which run, and how to repeat it."""

    def __init__(self, text: str, only: Run | None) -> None:
        super().__init__(text if only is None else f"{text}\n(to repeat it: cancel_sweep(..., only={only!r}))")
        self.only = only
        """(action, step, seed) of the run, for cancel_sweep(only=...); None: it failed undisturbed."""


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


class _Saboteur(trio.abc.Instrument):
    """Counts the steps of the tasks that it may strike, and strikes at one of them."""

    def __init__(self, step: float, strikes: Callable[[trio.lowlevel.Task], bool]) -> None:
        self.at = step
        self.strikes = strikes
        self.steps = 0
        self.struck = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.strikes(task):
            if self.steps == self.at:
                self.strike(task)
            self.steps += 1

    def strike(self, task: trio.lowlevel.Task) -> None:
        raise NotImplementedError


@final
class _Canceller(_Saboteur):
    def __init__(self, step: float, scope: trio.CancelScope) -> None:
        super().__init__(step, _everything)
        self.scope = scope

    def strike(self, task: trio.lowlevel.Task) -> None:
        self.struck = True
        self.scope.cancel(reason="the sweep cancels the scenario")


@final
class _Expirer(_Saboteur):
    def __init__(self, step: float, scope: trio.CancelScope) -> None:
        super().__init__(step, _everything)
        self.scope = scope

    def strike(self, task: trio.lowlevel.Task) -> None:
        self.struck = True
        self.scope.deadline = trio.current_time()


@final
class _Thrower(_Saboteur):
    """Makes whatever the task waited for raise."""

    def strike(self, task: trio.lowlevel.Task) -> None:
        self.struck = _throw(task, InjectedFault)


@final
class _Interrupter(_Saboteur):
    """^C. Where an actor's own code would run, it raises there; otherwise trio hands it to the main task."""

    def __init__(self, step: float, actors: Callable[[trio.lowlevel.Task], bool]) -> None:
        super().__init__(step, _everything)
        self.actors = actors

    def strike(self, task: trio.lowlevel.Task) -> None:
        self.struck = True
        if not self.actors(task) or not _throw(task, KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def _throw(task: trio.lowlevel.Task, error: type[BaseException]) -> bool:
    """Whether it could. Relies on a private name of trio's Task, which seeded.py checks."""
    waiting: object = task._next_send  # noqa: SLF001
    if not isinstance(waiting, Outcome):
        return False  # a task's very first step has nothing to raise from
    functions = {frame.f_code.co_name for frame, _ in task.iter_await_frames()}
    if "_nested_child_finished" in functions:
        return False  # the end of a nursery: trio lets nothing be raised from this wait
    task._next_send = Error(error(f"injected into {task.name}"))  # noqa: SLF001
    return True


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
    only: Run | None = None,
) -> SweepReport:
    """Run the scenario undisturbed, then once for each scheduler step k, action and seed.

    cancel: the scope around run() is cancelled before step k. timeout: its deadline expires at step k, as
    move_on_after() around run() would. raise: the k-th step of a task for which `strikes(task)` holds (by default:
    actors' tasks and the tasks they start) raises InjectedFault where it waited. interrupt: ^C before step k: a task
    for which `strikes(task)` holds raises KeyboardInterrupt where it waited, at any other step trio raises it in the
    main task. (It needs the main thread, with Python's own handler of SIGINT.)
    every: only each n-th step. limit: virtual seconds per run (then VirtualHang).
    only: (action, step, seed): this one disturbed run alone, as a failure names it.

    Raises SweepFailed for the first run whose check() raised; its text names action, step and seed, and its `only`
    repeats that run.
    """
    sweep = _Sweep(make_scenario, strikes, limit)
    if only is not None:
        if not sweep.disturb(*only):
            raise SweepFailed(f"{only[0]}: nothing can be struck at step {only[1]}, seed={only[2]}", None)
        return SweepReport(runs=1, steps=only[1])
    runs = longest = 0
    for seed in seeds:
        for action in actions:
            steps = sweep.count(action, seed)
            longest = max(longest, steps)
            runs += sum(sweep.disturb(action, step, seed, steps) for step in range(0, steps, every))
    return SweepReport(runs=runs, steps=longest)


@final
class _Sweep:
    def __init__(
        self, make_scenario: Callable[[], Scenario], strikes: Callable[[trio.lowlevel.Task], bool], limit: float
    ) -> None:
        self.make_scenario = make_scenario
        self.strikes = strikes
        self.limit = limit

    def saboteur(self, action: Action, step: float, scope: trio.CancelScope) -> _Saboteur:
        if action == "cancel":
            return _Canceller(step, scope)
        if action == "timeout":
            return _Expirer(step, scope)
        if action == "raise":
            return _Thrower(step, self.strikes)
        if action == "interrupt":
            if (
                threading.current_thread() is not threading.main_thread()
                or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            ):
                raise RuntimeError("cancel_sweep: interrupt needs the main thread, with Python's handler of SIGINT")
            return _Interrupter(step, self.strikes)
        raise ValueError(f"cancel_sweep: an action is cancel, timeout, raise or interrupt, got {action!r}")

    def count(self, action: Action, seed: int) -> int:
        """The steps of the undisturbed run that `action` could strike at."""
        scope = trio.CancelScope()
        saboteur = self.saboteur(action, math.inf, scope)
        self.run(saboteur, scope, seed, f"undisturbed, seed={seed}", None)
        return saboteur.steps

    def disturb(self, action: Action, step: int, seed: int, steps: int | None = None) -> bool:
        """One disturbed run; whether there was anything to strike at."""
        scope = trio.CancelScope()
        saboteur = self.saboteur(action, step, scope)
        at = step if steps is None else f"{step} of {steps}"
        self.run(saboteur, scope, seed, f"{action} at step {at}, seed={seed}", (action, step, seed))
        return saboteur.struck

    def run(self, saboteur: _Saboteur, scope: trio.CancelScope, seed: int, label: str, only: Run | None) -> None:
        scenario = self.make_scenario()
        error: BaseException | None
        try:
            error = run_seeded(_main, scenario, scope, seed=seed, limit=self.limit, instruments=[saboteur])
        except KeyboardInterrupt as late:
            if not saboteur.struck or not isinstance(saboteur, _Interrupter):
                raise
            error = late  # the program had ended before trio could hand it over
        except AssertionError as hang:
            raise SweepFailed(f"{label}: {hang}", only) from hang
        try:
            scenario.check(error)
        except Exception as wrong:
            raise SweepFailed(f"{label}: {type(wrong).__name__}: {wrong}", only) from wrong


async def _main(scenario: Scenario, scope: trio.CancelScope) -> BaseException | None:
    """What the program raised, Cancelled apart."""
    caught: BaseException | None = None
    with scope:
        try:
            await scenario.run()
        except BaseException as error:
            if isinstance(error, GeneratorExit) or is_cancellation(error):
                raise
            caught = error
    return caught
