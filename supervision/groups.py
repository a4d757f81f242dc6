"""Groups of places: one name, many members, and a message to all of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervision.errors import ActorStopped, InvalidSpec, SupervisionError
from supervision.message import Cast
from supervision.ref import ActorRef

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace

__all__ = ["Published"]


class Published(msgspec.Struct, frozen=True, eq=False):
    """What became of one publish(), members in the order in which they had joined."""

    delivered: tuple[ActorRef, ...]
    """Whose mailboxes have accepted the message."""
    refused: dict[ActorRef, SupervisionError]
    """Who has not, and why: MailboxFull, UnknownMessage, NotRunning."""


class Groups:
    """The half of the Registry in which a name has many places."""

    __slots__ = ("_groups", "_joined")

    def __init__(self) -> None:
        # Both ways as dicts, so that joining, leaving and closing cost the same however many the members are.
        self._groups: dict[str, dict[ActorPlace, ActorRef]] = {}
        self._joined: dict[ActorPlace, dict[str, None]] = {}

    def join(self, group: str, ref: ActorRef) -> None:
        """Make a place a member, until it leaves or closes; through its restarts it stays one. Idempotent: it keeps
        its turn. A place may be in many groups. Raises ActorStopped if it is closed, InvalidSpec for an empty name
        and for an actor of another system.
        """
        if not group:
            raise InvalidSpec("a group's name must not be empty")
        self.check_own(ref, f"join the group {group!r}")
        place = ref.place
        if place.closed is not None:
            raise ActorStopped(place.path, place.state, f"so it can't join the group {group!r}")
        self._groups.setdefault(group, {}).setdefault(place, ref)
        self._joined.setdefault(place, {})[group] = None

    def leave(self, group: str, ref: ActorRef) -> None:
        """End a membership. Idempotent: a place that has closed has left already."""
        joined = self._joined.get(ref.place)
        if joined is None or group not in joined:
            return
        del joined[group]
        if not joined:
            del self._joined[ref.place]
        self._remove(group, ref.place)

    def members(self, group: str) -> tuple[ActorRef, ...]:
        """In the order in which they joined; nobody if there is no such group. None of them is closed."""
        return tuple(self._groups.get(group, {}).values())

    @property
    def groups(self) -> dict[str, tuple[ActorRef, ...]]:
        """All groups that have members now."""
        return {group: tuple(members.values()) for group, members in self._groups.items()}

    def publish(self, group: str, message: Cast) -> Published:
        """Send `message` to every member, as cast_nowait() does. It never waits, and a member that doesn't take it
        keeps it from nobody: it is reported. Publishing to nobody is fine. Raises InvalidSpec for what is no Cast.
        """
        _check_cast(message, group)
        delivered: list[ActorRef] = []
        refused: dict[ActorRef, SupervisionError] = {}
        for ref in self.members(group):
            try:
                ref.cast_nowait(message)
            except SupervisionError as error:
                refused[ref] = error
            else:
                delivered.append(ref)
        return Published(tuple(delivered), refused)

    def groups_of(self, place: ActorPlace) -> tuple[str, ...]:
        """The groups of one place, in the order in which it joined them."""
        return tuple(self._joined.get(place, ()))

    def leave_all(self, place: ActorPlace) -> None:
        """A place has closed."""
        for group in self._joined.pop(place, ()):
            self._remove(group, place)

    def check_own(self, given: object, what: str) -> None:
        """Raises InvalidSpec for what is no actor, and for an actor whose end this registry would not hear of."""
        if not isinstance(given, ActorRef):
            raise InvalidSpec(f"{given!r} can't {what}: the registry knows actors only, by their ActorRef")
        system = given.place.system
        if system.registry is not self:
            raise InvalidSpec(
                f"{given.path} can't {what} here: it lives in another system; use system.registry of its own"
            )

    def _remove(self, group: str, place: ActorPlace) -> None:
        members = self._groups[group]
        del members[place]
        if not members:
            del self._groups[group]


def _check_cast(given: object, group: str) -> None:
    if not isinstance(given, Cast):
        raise InvalidSpec(f"publish to {group!r}: {given!r} is no Cast; a call has one callee")
