"""Links: two incarnations that end together. They are kept with what is noted of each one's end (see End)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervision.errors import LinkBroken, NotRunning

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.errors import StopReason
    from supervision.incarnation import Incarnation
    from supervision.ref import ActorRef
    from supervision.supervisor import SupervisorPlace

__all__: list[str] = []


def link(life: Incarnation, ref: ActorRef) -> None:
    """As Context.link."""
    life.require_alive("link")
    other = ref.place.life
    if other is life:
        return
    if other is None or other.ending or other.ends.errors:
        state = ref.place.state if other is None else "ending"
        raise NotRunning(ref.path, state, f"{life.place.path} can link only with an incarnation that lives")
    for one, another in ((life, other), (other, life)):
        if one.ends.links is None:
            one.ends.links = {}
        one.ends.links[another] = None


def unlink(life: Incarnation, ref: ActorRef) -> None:
    """As Context.unlink."""
    other = ref.place.life
    if other is not None:
        _forget(life, other)
        _forget(other, life)


def break_links(life: Incarnation, reason: StopReason) -> None:
    """A life is over: whoever is linked with it ends, too, unless it ended in order."""
    others, life.ends.links = life.ends.links, None
    for other in others or ():
        _forget(other, life)
        if reason.kind in {"crash", "killed"} and not _ends_anyway(other):
            other.crash(LinkBroken(other.place.path, life.place.path, life.number, reason))


def _forget(life: Incarnation, other: Incarnation) -> None:
    links = life.ends.links
    if links is not None:
        links.pop(other, None)


def _ends_anyway(life: Incarnation) -> bool:
    """Whether it ends already, or is about to be stopped: by word to itself, or by a supervisor above it."""
    if life.ending or life.ends.errors or (life.stop is not None and life.stop != "normal"):
        return True
    place: ActorPlace | SupervisorPlace = life.place
    while place.parent is not None:
        if not place.parent.up or place.parent.group.takes_along(place):
            return True
        place = place.parent
    return False
