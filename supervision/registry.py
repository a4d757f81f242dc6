"""Names for places: unique names here, groups in groups.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from supervision.errors import ActorStopped, InvalidSpec, NameNotFound, NameTaken
from supervision.groups import Groups

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.ref import ActorRef

__all__ = ["Registry"]


@final
class Registry(Groups):
    """Unique names, and groups of any number of places. A name or a membership belongs to a place, through its
    restarts, and is gone before anyone can see that the place has closed.
    """

    __slots__ = ("_names", "_refs")

    def __init__(self) -> None:
        super().__init__()
        self._refs: dict[str, ActorRef] = {}
        self._names: dict[ActorPlace, dict[str, None]] = {}

    def register(self, name: str, ref: ActorRef) -> None:
        """Idempotent. Raises NameTaken if another place has the name, ActorStopped if this one is closed, InvalidSpec
        for an empty name and for an actor of another system.
        """
        if not name:
            raise InvalidSpec("a registered name must not be empty")
        self.check_own(ref, f"have the name {name!r}")
        holder = self._refs.get(name)
        if holder == ref:
            return
        if holder is not None:
            raise NameTaken(f"{name!r} is registered for {holder.path}; choose another name or stop that actor first")
        place = ref.place
        if place.closed is not None:
            raise ActorStopped(place.path, place.state, f"so it can't have the name {name!r}")
        self._refs[name] = ref
        self._names.setdefault(place, {})[name] = None

    def unregister(self, name: str) -> None:
        """Raises NameNotFound."""
        ref = self.whereis(name)
        del self._refs[name]
        del self._names[ref.place][name]

    def whereis(self, name: str) -> ActorRef:
        """Raises NameNotFound."""
        ref = self._refs.get(name)
        if ref is None:
            raise NameNotFound(
                f"no actor is registered as {name!r}; registered: {', '.join(sorted(self._refs)) or 'none'}"
            )
        return ref

    def find(self, name: str) -> ActorRef | None:
        """As whereis(), or None."""
        return self._refs.get(name)

    @property
    def names(self) -> dict[str, ActorRef]:
        """All names now."""
        return dict(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def names_of(self, place: ActorPlace) -> tuple[str, ...]:
        """The names of one place, in order of registration."""
        return tuple(self._names.get(place, ()))

    def forget(self, place: ActorPlace) -> None:
        """A place has closed."""
        for name in self._names.pop(place, ()):
            del self._refs[name]
        self.leave_all(place)
