"""The places of the sequential model: what survives restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, final

from supervision.errors import InvalidSpec
from supervision.spec import AnySpec, ChildSpec, DynamicSupervisorSpec, SupervisorSpec, SupervisorWithIntensity

__all__: list[str] = []

Verdict = Literal["restart", "held", "close", "done", "degrade"]
"""What becomes of a child that has ended: restart: by its own timer; held: its supervisor starts it; close: it is
over; done: it is over and was significant; degrade: it is over, for it crashed too often.
"""

AGAIN = ("restart", "held")
UP = ("starting", "running")
ACTIVE = ("starting", "running", "stopping")


class PlaceModel:
    """What survives restarts."""

    def __init__(self, parent: SupervisorModel | None, spec: ChildSpec | SupervisorWithIntensity) -> None:
        self.parent = parent
        self.spec = spec
        self.path = spec.name if parent is None else f"{parent.path}/{spec.name}"
        self.state = "starting"
        self.number = 0
        self.since = 0.0
        """When the present incarnation came up."""
        self.attempt = 0
        self.opening = True
        self.closed = False
        self.delay = 0.0
        """What the verdict "restart" says."""
        self.timer: TimerModel | None = None
        self.restarts: list[float] = []
        """The window of restarts: of this child's own intensity, or of a supervisor's children."""

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.action = None


@final
class ActorModel(PlaceModel):
    spec: ChildSpec


@final
class SupervisorModel(PlaceModel):
    spec: SupervisorWithIntensity

    def __init__(self, parent: SupervisorModel | None, spec: SupervisorWithIntensity) -> None:
        super().__init__(parent, spec)
        self.children: dict[str, ActorModel | SupervisorModel] = {}
        self.anew = True
        """The next start begins all children of the spec."""
        self.life = 0
        """Counted up when it goes down: what was under way for an earlier one is void."""
        self.verdict: Verdict | None = None
        self.why = "shutdown"
        self.restarting = False
        # group strategies
        self.broken: set[PlaceModel] = set()
        self.not_before = 0.0
        self.mending = False
        self.busy = False

    @property
    def specs(self) -> Iterable[AnySpec]:
        return self.spec.children if isinstance(self.spec, SupervisorSpec) else ()

    @property
    def dynamic(self) -> bool:
        return isinstance(self.spec, DynamicSupervisorSpec)

    @property
    def strategy(self) -> str:
        return self.spec.strategy if isinstance(self.spec, SupervisorSpec) else "one_for_one"

    @property
    def auto_shutdown(self) -> str:
        return self.spec.auto_shutdown if isinstance(self.spec, SupervisorSpec) else "never"

    def add(self, spec: AnySpec) -> ActorModel | SupervisorModel:
        if isinstance(spec, ChildSpec):
            place: ActorModel | SupervisorModel = ActorModel(self, spec)
        elif isinstance(spec, (SupervisorSpec, DynamicSupervisorSpec)):
            place = SupervisorModel(self, spec)
        else:
            raise InvalidSpec(f"the model knows no {type(spec).__name__}")
        self.children[spec.name] = place
        return place


@final
class TimerModel:
    def __init__(self, due: float, action: Callable[[], None]) -> None:
        self.due = due
        self.action: Callable[[], None] | None = action
