"""What a supervisor's spec comes down to: a plain supervisor, and what its users are given of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervision.partition import PartitionSupervisorRef, PartitionSupervisorSpec
from supervision.ref import SupervisorRef
from supervision.spec import AnySupervisorSpec, SupervisorWithIntensity
from supervision.supervised_task import TaskKeeper
from supervision.task_supervisor import TaskSupervisor, TaskSupervisorSpec

if TYPE_CHECKING:
    from supervision.supervisor import SupervisorPlace

__all__: list[str] = []


def front_of(
    place: SupervisorPlace, spec: AnySupervisorSpec
) -> tuple[SupervisorWithIntensity, SupervisorRef, str, TaskKeeper | None]:
    """The plain spec, the ref, why users can't add or delete children (if so), and the keeper of tasks."""
    if isinstance(spec, PartitionSupervisorSpec):
        return spec.plain(), PartitionSupervisorRef[Any](place), "its partitions are fixed", None
    if isinstance(spec, TaskSupervisorSpec):
        keeper = TaskKeeper(place, spec.max_tasks, spec.grace)
        return spec.plain(), TaskSupervisor(place), "it runs tasks, see start()", keeper
    assert isinstance(spec, SupervisorWithIntensity)
    return spec, SupervisorRef(place), "", None
