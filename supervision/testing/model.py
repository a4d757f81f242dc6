"""A sequential model of a supervision tree: plain Python, without tasks, trio or actors.

It takes operations one at a time and works each off to the end before the next: what stands here in a row, the real
tree does with tasks. It is meant to be read as the definition of what supervisors do.
"""

from __future__ import annotations

from typing import final

from supervision.spec import AnySpec, DynamicSupervisorSpec, SupervisorSpec
from supervision.testing.model_lives import Lives
from supervision.testing.model_places import ACTIVE, ActorModel, SupervisorModel
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
    Stop,
    TreeScenario,
)

__all__ = ["TreeModel"]


@final
class TreeModel(Lives):
    """A whole system. `apply()` operations, then `finish()`; `trace` says what happened, in order.

    Backoffs must have no jitter. Actors are taken to end and to fail in init() only as operations say.
    """

    def __init__(self, scenario: TreeScenario) -> None:
        super().__init__(
            SupervisorSpec(
                scenario.name,
                max_restarts=scenario.max_restarts,
                max_seconds=scenario.max_seconds,
                auto_shutdown=scenario.auto_shutdown,
            )
        )
        self.open(self.root)
        self.trace.clear()  # nobody can have subscribed yet

    def apply(self, operation: Operation) -> str:
        """Do it, let SETTLE seconds pass, and say what it comes to: "ok", "skipped", or the name of the error."""
        outcome = self._do(operation)
        self.work_off()
        if not self.over:
            self.let_pass(SETTLE)
        return outcome

    def finish(self) -> None:
        """The system's block is left."""
        self.stop(self.root, restarting=False)
        self.work_off()

    def states(self) -> dict[str, str]:
        """By path: the state; for supervisors also how many children live, and how many there are."""
        states: dict[str, str] = {}
        pending: list[ActorModel | SupervisorModel] = [self.root]
        while pending:
            place = pending.pop()
            states[place.path] = place.state
            if isinstance(place, SupervisorModel):
                below = place.children.values()
                states[place.path] += f" {sum(child.state in ACTIVE for child in below)}/{len(below)}"
                pending.extend(below)
        return states

    def _do(self, operation: Operation) -> str:
        match operation:
            case Crash(path) | Quit(path):
                actor = self._find(path)
                if not isinstance(actor, ActorModel) or actor.state != "running":
                    return "skipped"
                self.end_by_itself(actor, crashed=isinstance(operation, Crash))
            case FailNextInit(path):
                self.failing.add(path)
            case Advance(seconds):
                self.let_pass(seconds)
            case Start(path) | Stop(path) | Restart(path) | Delete(path):
                supervisor = self._find(path)
                if not isinstance(supervisor, SupervisorModel):
                    return "skipped"
                if isinstance(operation, Start):
                    return self._start_child(supervisor, operation.spec)
                place = supervisor.children.get(operation.name)
                if place is None:
                    return "ChildNotFound"
                if isinstance(operation, Stop):
                    return self._stop_child(supervisor, place)
                if isinstance(operation, Restart):
                    return self._restart_child(supervisor, place)
                if not place.closed:
                    return "ChildNotStopped"
                del supervisor.children[place.spec.name]
            case _:
                raise TypeError(f"no operation of this model: {operation!r}")
        return "ok"

    def _start_child(self, supervisor: SupervisorModel, spec: AnySpec) -> str:
        if spec.significant and supervisor.auto_shutdown == "never":
            return "InvalidSpec"
        if supervisor.state != "running":
            return "NotRunning"
        known = supervisor.children.get(spec.name)
        if known is not None:
            if not known.closed:
                return "NameTaken"
            del supervisor.children[spec.name]
        limit = supervisor.spec.max_children if isinstance(supervisor.spec, DynamicSupervisorSpec) else None
        if limit is not None and sum(not place.closed for place in supervisor.children.values()) >= limit:
            return "TooManyChildren"
        return "ok" if self.open(supervisor.add(spec)) else "init"

    def _stop_child(self, supervisor: SupervisorModel, place: ActorModel | SupervisorModel) -> str:
        if not place.closed:
            self.stop(place, restarting=False)
        elif supervisor.dynamic:
            del supervisor.children[place.spec.name]
        return "ok"

    def _restart_child(self, supervisor: SupervisorModel, place: ActorModel | SupervisorModel) -> str:
        if place.spec.restart == "temporary":
            return "InvalidSpec"
        if supervisor.state != "running":
            return "NotRunning"
        living = not place.closed
        if living:
            self.stop(place, restarting=True)
        if living and isinstance(place, SupervisorModel):
            self.begin(place)
            return "ok"
        self.reopen(place)
        return "ok" if self.open(place) else "init"

    def _find(self, path: str) -> ActorModel | SupervisorModel | None:
        name, *names = path.split("/")
        place: ActorModel | SupervisorModel | None = self.root if name == self.root.spec.name else None
        for name in names:
            place = place.children.get(name) if isinstance(place, SupervisorModel) else None
        return place
