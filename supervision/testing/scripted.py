"""The real tree under the same operations as its model, and the comparison."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import groupby
from typing import final

import msgspec
import trio

from supervision.actor import Actor, handles
from supervision.errors import IntensityExceeded, SupervisionError
from supervision.events import Event
from supervision.message import Cast
from supervision.ref import ActorRef, SupervisorRef
from supervision.spec import AnySpec, ChildSpec, DynamicSupervisorSpec, SupervisorSpec
from supervision.system import ActorSystem, open_system
from supervision.testing.model import TreeModel
from supervision.testing.operations import (
    SETTLE,
    Advance,
    Crash,
    Delete,
    FailNextInit,
    Operation,
    Quit,
    Restart,
    Start,
    Step,
    Stop,
    TreeScenario,
    trace_of,
)
from supervision.testing.seeded import run_seeded

__all__ = ["check_against_model", "Observed", "run_scenario", "Scripted", "ScriptedCrash"]


class ScriptedCrash(Exception):
    """What a Scripted actor raises when an operation says so."""


class CrashNow(Cast, frozen=True):
    """Raise ScriptedCrash."""


class QuitNow(Cast, frozen=True):
    """End by one's own will."""


@final
class Scripted(Actor):
    """The factory for the actors of a scenario: `ChildSpec("a", Scripted)`. They do what its operations say."""

    def __init__(self, failing: set[str] | None = None) -> None:
        self.failing = set[str]() if failing is None else failing
        """Where the next init() raises; shared by all of a run."""

    async def init(self) -> None:
        if self.context.path in self.failing:
            self.failing.discard(self.context.path)
            raise ScriptedCrash(f"init of {self.context.path}")

    @handles(CrashNow)
    def crash(self, message: CrashNow) -> None:
        raise ScriptedCrash(self.context.path)

    @handles(QuitNow)
    def quit(self, message: QuitNow) -> None:
        self.context.stop()


class Observed(msgspec.Struct, kw_only=True):
    """What a scenario came to."""

    outcomes: list[str] = []
    """Of each operation: "ok", "skipped", or the name of the error."""
    states: list[dict[str, str]] = []
    """After each operation; see TreeModel.states()."""
    trace: list[Step] = []
    failed: bool = False
    """open_system() raised IntensityExceeded."""
    finished_by: str | None = None


def run_scenario(scenario: TreeScenario, *, seed: int) -> Observed:
    """Run it with the real library, under a virtual clock and a schedule that `seed` fixes. Whatever the factories of
    its specs, the actors are Scripted ones.
    """
    return run_seeded(_run, scenario, seed=seed, limit=1e7)


async def _run(scenario: TreeScenario) -> Observed:
    seen = Observed(outcomes=[], states=[])
    events: list[Event] = []
    failing: set[str] = set()
    try:
        async with open_system(
            scenario.name,
            random=random.Random(0),
            max_restarts=scenario.max_restarts,
            max_seconds=scenario.max_seconds,
            auto_shutdown=scenario.auto_shutdown,
        ) as system:
            system.events.subscribe(events.append)
            for operation in scenario.operations:
                seen.outcomes.append(await _do(system, operation, failing))
                if isinstance(operation, Advance):
                    await trio.sleep(operation.seconds)
                await trio.sleep(SETTLE)
                seen.states.append(_states(system))
        seen.finished_by = system.finished_by
    except IntensityExceeded:
        seen.failed = True
    seen.trace = trace_of(events)
    return seen


def _scripted(spec: AnySpec, failing: set[str]) -> AnySpec:
    """The spec with actors that know where to fail."""
    if isinstance(spec, ChildSpec):
        return msgspec.structs.replace(spec, factory=lambda: Scripted(failing))
    if isinstance(spec, SupervisorSpec):
        return msgspec.structs.replace(spec, children=[_scripted(child, failing) for child in spec.children])
    return spec


async def _do(system: ActorSystem, operation: Operation, failing: set[str]) -> str:
    before = trio.current_time()
    try:
        match operation:
            case Crash(path) | Quit(path):
                ref = _find(system, path)
                if not isinstance(ref, ActorRef) or ref.state != "running":
                    return "skipped"
                ref.cast_nowait(CrashNow() if isinstance(operation, Crash) else QuitNow())
            case FailNextInit(path):
                failing.add(path)
            case Start(path) | Stop(path) | Restart(path) | Delete(path):
                supervisor = _find(system, path)
                if not isinstance(supervisor, SupervisorRef):
                    return "skipped"
                if isinstance(operation, Start):
                    await supervisor.start_child(_scripted(operation.spec, failing))
                elif isinstance(operation, Stop):
                    await supervisor.stop_child(operation.name)
                elif isinstance(operation, Restart):
                    await supervisor.restart_child(operation.name)
                else:
                    await supervisor.delete_child(operation.name)
            case _:
                pass
    except SupervisionError as error:
        return type(error).__name__
    except ScriptedCrash:
        return "init"
    assert trio.current_time() == before, f"{operation} has waited"
    return "ok"


def _find(system: ActorSystem, path: str) -> ActorRef | SupervisorRef | None:
    name, *names = path.split("/")
    ref: ActorRef | SupervisorRef | None = system.root if name == system.name else None
    for part in names:
        ref = ref.children().get(part) if isinstance(ref, SupervisorRef) else None
    return ref


def _states(system: ActorSystem) -> dict[str, str]:
    states = {node.path: node.state for node in system.tree()}
    for path in states:
        ref = _find(system, path)
        if isinstance(ref, SupervisorRef):
            counts = ref.count_children()
            assert counts.specs == len(ref.which_children()) == counts.actors + counts.supervisors
            states[path] += f" {counts.active}/{counts.specs}"
    return states


# ---- the comparison


def check_against_model(scenario: TreeScenario, *, seed: int) -> Observed:
    """Run the scenario with the model and with the real library; AssertionError where they part.

    Compared: what each operation comes to; all states and numbers of children after each; how the system ends; for
    each place, all that happens there, in order; for each supervisor whose children have an order, the order in
    which they start and end. (Those of a dynamic supervisor end in any order; so does a supervisor that fails by
    itself, while its parent stops others.) Of the real trace also: children end before their supervisor. An operation
    that ends the system may be cancelled by that end, and then comes to nothing.
    """
    model = TreeModel(scenario)
    expected = Observed(outcomes=[], states=[])
    for operation in scenario.operations:
        expected.outcomes.append(model.apply(operation))
        if model.over:
            break
        expected.states.append(model.states())
    model.finish()
    seen = run_scenario(scenario, seed=seed)
    if model.over and len(seen.outcomes) == len(expected.outcomes) - 1:
        expected.outcomes.pop()
    for number, operation in enumerate(scenario.operations):
        where = f"operation {number}, {operation}"
        for ours, real in ((expected.outcomes, seen.outcomes), (expected.states, seen.states)):
            assert real[number : number + 1] == ours[number : number + 1], (
                f"{where}: the model has {ours[number:][:1]}, really it is {real[number:][:1]}"
            )
    assert (seen.failed, seen.finished_by) == (model.failed, model.finished_by)
    _compare(by_place(model.trace), by_place(seen.trace), "at")
    unordered = {*_dynamic_paths(scenario), *model.overtaken}
    _compare(by_parent(model.trace, unordered), by_parent(seen.trace, unordered), "below")
    _check_nesting(seen.trace)
    return seen


def _compare(expected: dict[str, list[Step]], seen: dict[str, list[Step]], where: str) -> None:
    for path in sorted({*expected, *seen}):
        ours, real = expected.get(path, []), seen.get(path, [])
        assert real == ours, f"{where} {path} the model has {ours}, really it is {real}"


def by_place(trace: list[Step]) -> dict[str, list[Step]]:
    """What happened at each place."""
    steps = sorted(trace, key=lambda step: step.path)
    return {path: list(group) for path, group in groupby(steps, key=lambda step: step.path)}


def by_parent(trace: list[Step], unordered: set[str]) -> dict[str, list[Step]]:
    """The order in which the children of each supervisor start and end; not for those in `unordered`."""
    found: dict[str, list[Step]] = {}
    fallen: set[str] = set()
    for step in trace:
        parent = step.path.rpartition("/")[0]
        if step.kind in {"gave_up", "auto_shutdown"}:
            fallen.add(step.path)
        elif step.kind == "ended" and step.path in fallen:
            fallen.discard(step.path)
        elif step.kind in {"started", "restarted", "ended"} and parent not in unordered:
            found.setdefault(parent, []).append(step)
    return found


def _dynamic_paths(scenario: TreeScenario) -> Iterator[str]:
    pending = [(step.supervisor, step.spec) for step in scenario.operations if isinstance(step, Start)]
    while pending:
        above, spec = pending.pop()
        path = f"{above}/{spec.name}"
        if isinstance(spec, DynamicSupervisorSpec):
            yield path
        elif isinstance(spec, SupervisorSpec):
            pending.extend((path, child) for child in spec.children)


def _check_nesting(trace: list[Step]) -> None:
    running: set[str] = set()
    for step in trace:
        if step.kind in {"started", "restarted"}:
            assert step.path not in running, f"{step.path} lives twice"
            running.add(step.path)
        elif step.kind == "ended":
            running.discard(step.path)
            below = sorted(path for path in running if path.startswith(f"{step.path}/"))
            assert not below, f"{step.path} ended before {below}"
    assert not running, f"not ended: {sorted(running)}"
