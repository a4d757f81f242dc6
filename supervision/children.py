"""What users do with a supervisor's children at run time (see SupervisorRef)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec
import trio
from outcome import Error, Value
from trio.lowlevel import enable_ki_protection

from supervision.errors import (
    CallCycle,
    ChildNotFound,
    ChildNotStopped,
    InvalidSpec,
    NameTaken,
    NotRunning,
    TooManyChildren,
)
from supervision.handshake import Handshake, PlaceEdge
from supervision.spec import AnySpec, ChildSpec, DynamicSupervisorSpec, Restart, check_significance

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.ref import ActorRef, SupervisorRef
    from supervision.supervisor import SupervisorPlace

__all__ = ["ChildCounts", "ChildInfo"]

_ACTIVE = frozenset({"starting", "running", "stopping"})


class ChildInfo(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One child of a supervisor, as it is now."""

    name: str
    kind: Literal["actor", "supervisor"]
    state: str
    """starting, running, stopping, waiting (for its restart), down (its supervisor restarts it), stopped, degraded"""
    ref: ActorRef | SupervisorRef
    restart: Restart
    significant: bool


class ChildCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many children a supervisor has now."""

    specs: int
    """All, stopped and degraded ones included."""
    active: int
    """Those that live: not those that are stopped or degraded, nor those that wait for their restart."""
    supervisors: int
    """Among all."""
    actors: int
    """Among all."""


def child_of(supervisor: SupervisorPlace, name: str) -> ActorPlace | SupervisorPlace:
    """Raises ChildNotFound."""
    place = supervisor.children.get(name)
    if place is None:
        known = ", ".join(supervisor.children) or "none"
        raise ChildNotFound(f"{supervisor.path} has no child {name!r}; it has: {known}")
    return place


async def start_child(supervisor: SupervisorPlace, spec: AnySpec) -> ActorRef | SupervisorRef:
    """As SupervisorRef.start_child."""
    children = supervisor.children
    _check_spec(spec, supervisor)
    if supervisor.state != "running":
        raise NotRunning(supervisor.path, supervisor.state, f"it can't start {spec.name!r}")
    known = children.get(spec.name)
    if known is not None and known.closed is None:
        raise NameTaken(f"{supervisor.path} has a child {spec.name!r} already; stop it first, or choose another name")
    limit = supervisor.spec.max_children if isinstance(supervisor.spec, DynamicSupervisorSpec) else None
    if limit is not None and len(children) >= limit:  # degraded ones among them do not count
        living = sum(1 for place in children.values() if place.closed is None)
        if living >= limit:
            raise TooManyChildren(f"{supervisor.path}: max_children is {limit}, {living} live")
    if known is not None:
        del children[spec.name]
    place = supervisor.add(spec)
    caller = supervisor.system.mains.get(trio.lowlevel.current_task())
    if caller is not None:
        caller.waiting = PlaceEdge(place)
    try:
        await place.open()
    except BaseException:
        if place.closed is None:  # ^C, just when it had started
            place.request_stop("shutdown", math.inf, restarting=False)
            with trio.CancelScope(shield=True):
                await place.wait_down()
        if children.get(spec.name) is place:
            del children[spec.name]
        raise
    finally:
        if caller is not None:
            caller.waiting = None
    return place.ref


async def stop_child(supervisor: SupervisorPlace, name: str) -> None:
    """As SupervisorRef.stop_child."""
    supervisor.system.check_thread(supervisor.path, "stop_child()")
    place = child_of(supervisor, name)
    _check_not_inside(place, "stop_child")
    if place.closed is not None:
        if supervisor.dynamic:
            del supervisor.children[name]
        await trio.lowlevel.checkpoint()
        return
    place.request_stop("shutdown", math.inf, restarting=False)
    await place.wait_down()


async def delete_child(supervisor: SupervisorPlace, name: str) -> None:
    """As SupervisorRef.delete_child."""
    await trio.lowlevel.checkpoint_if_cancelled()
    _check_not_fixed(supervisor, "delete_child")
    place = child_of(supervisor, name)
    if place.closed is None:
        raise ChildNotStopped(place.path, place.state)
    del supervisor.children[name]
    await trio.lowlevel.cancel_shielded_checkpoint()


def which_children(supervisor: SupervisorPlace) -> tuple[ChildInfo, ...]:
    """As SupervisorRef.which_children."""
    return tuple(
        ChildInfo(
            name=place.name,
            kind="actor" if isinstance(place.spec, ChildSpec) else "supervisor",
            state=place.state,
            ref=place.ref,
            restart=place.spec.restart,
            significant=place.spec.significant,
        )
        for place in supervisor.children.values()
    )


def count_children(supervisor: SupervisorPlace) -> ChildCounts:
    """As SupervisorRef.count_children."""
    places = supervisor.children.values()
    actors = sum(isinstance(place.spec, ChildSpec) for place in places)
    return ChildCounts(
        specs=len(places),
        active=sum(place.state in _ACTIVE for place in places),
        supervisors=len(places) - actors,
        actors=actors,
    )


async def restart_child(supervisor: SupervisorPlace, name: str) -> None:
    """As SupervisorRef.restart_child."""
    supervisor.system.check_thread(supervisor.path, "restart_child()")
    place = child_of(supervisor, name)
    _check_not_inside(place, "restart_child")
    if place.spec.restart == "temporary":
        raise InvalidSpec(
            f"restart_child: {place.path} is temporary and never started again; "
            "stop_child() it and start_child() another one"
        )
    _check_running(supervisor, place)
    # In a task of its own: a caller that leaves half-way must not leave the child down.
    done = Handshake(None, kills=False)
    supervisor.system.spawn(_restart, supervisor, place, done, name=f"{place.path}/restart")
    await done.wait()


@enable_ki_protection
async def _restart(supervisor: SupervisorPlace, place: ActorPlace | SupervisorPlace, done: Handshake) -> None:
    with trio.CancelScope(shield=True):
        try:
            closed = place.closed
            if closed is None:
                place.request_stop("shutdown", math.inf, restarting=True)
                await place.wait_down()
            _check_running(supervisor, place)
            due = place.state == "down" if closed is None else place.closed is closed
            if due and supervisor.children.get(place.name) is place:
                await place.revive()
            elif place.closed is not None:  # someone else has stopped or forgotten it meanwhile, and that stands
                raise place.not_running()
        except Exception as error:  # noqa: BLE001  # raised at the caller
            done.resolve(Error(error))
        else:
            done.resolve(Value(True))


def _check_spec(given: object, supervisor: SupervisorPlace) -> None:
    path = supervisor.path
    supervisor.system.check_thread(path, "start_child()")
    if not isinstance(given, AnySpec):
        raise InvalidSpec(f"{path}: start_child takes a ChildSpec or a supervisor's spec, got {given!r}")
    check_significance(given, supervisor.auto_shutdown, path)
    _check_not_fixed(supervisor, "start_child")


def _check_running(supervisor: SupervisorPlace, place: ActorPlace | SupervisorPlace) -> None:
    if supervisor.state != "running":
        raise NotRunning(supervisor.path, supervisor.state, f"it can't restart {place.name!r}")


def _check_not_fixed(supervisor: SupervisorPlace, what: str) -> None:
    if supervisor.fixed:
        raise InvalidSpec(f"{supervisor.path}: no {what}(): {supervisor.fixed}")


def _check_not_inside(place: ActorPlace | SupervisorPlace, what: str) -> None:
    caller = place.system.mains.get(trio.lowlevel.current_task())
    if caller is None:
        return
    if caller.place is place or caller.place.is_below(place):
        raise CallCycle((caller.place.path, place.path), f"{what} {place.name!r}")
