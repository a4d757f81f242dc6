"""Significant children: their supervisor ends with them and, if it is restarted for it, begins anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervision.errors import StopReason
from supervision.events import AutoShutdown
from supervision.fate import CLOSE

if TYPE_CHECKING:
    from supervision.supervisor import SupervisorPlace

__all__: list[str] = []


def auto_shut_down(supervisor: SupervisorPlace, child: str) -> None:
    """The significant child of this path has ended; shut down, unless others hold the supervisor up."""
    if supervisor.auto_shutdown == "all_significant" and any(
        place.spec.significant and place.closed is None and not place.opening
        for place in supervisor.children.values()
    ):
        return
    system = supervisor.system
    system.events.emit(AutoShutdown(supervisor.path, child))
    reason = StopReason("shutdown", None, f"its significant child {child} has ended")
    if supervisor.parent is None:
        fate = CLOSE
        system.finish(child)
    else:
        fate = supervisor.parent.judge(supervisor, reason)
    supervisor.anew = fate.restarts
    supervisor.end_by_itself(fate, reason)


def renew(supervisor: SupervisorPlace) -> None:
    """Every child of the spec may begin, whatever became of it; those added at run time come after them."""
    supervisor.anew = False
    children = supervisor.children
    before = dict(children)
    children.clear()
    for spec in supervisor.specs:
        place = before.pop(spec.name, None)
        if place is None:
            place = supervisor.add(spec)
            place.opening = False  # nobody waits to be told why it did not start
            place.enter("down")
        elif place.closed is not None:
            place.reopen()
            place.enter("down")
        children[spec.name] = place
    children.update(before)
