"""Partitions: one supervisor of N like children, and a key that always leads to the same one."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Generic, TypeVar, cast, final, overload

import msgspec

from supervision.errors import InvalidKey, InvalidSpec
from supervision.ref import ActorRef, SupervisorRef
from supervision.spec import AnySpec, AnySupervisorSpec, ChildSpec, SupervisorSpec, SupervisorWithIntensity

__all__ = ["PartitionSupervisorRef", "PartitionSupervisorSpec"]

S_co = TypeVar("S_co", bound=AnySpec, covariant=True)

PartitionKey = int | str | bytes | tuple["PartitionKey", ...]


class PartitionSupervisorSpec(SupervisorWithIntensity, Generic[S_co], frozen=True, kw_only=True):
    """A supervisor of `partitions` like children: `PartitionSupervisorSpec("caches", child=cache, partitions=4)`.

    child: called once for each partition, 0 to partitions - 1, when this spec is made; gives its spec, with a name
    of its own. A child can be an actor or a supervisor; it can't be temporary or significant, for a key must lead
    somewhere.
    children: what `child` gave; not to be passed.
    The other fields: as a SupervisorSpec's; the strategy is one_for_one.

    All actors share one event loop, so partitions bring no throughput. They bring isolation: a partition's mailbox,
    state, crash and (if it is a supervisor, or has max_restarts of its own) restart intensity concern only its keys.
    """

    child: Callable[[int], S_co]
    partitions: int
    children: tuple[S_co, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"PartitionSupervisorSpec {self.name!r}"
        if self.children:
            raise InvalidSpec(f"{where}: children are made by child(number); don't pass them")
        if not callable(self.child):
            raise InvalidSpec(f"{where}: child must be callable with the partition's number, got {self.child!r}")
        if type(self.partitions) is not int or self.partitions < 1:
            raise InvalidSpec(f"{where}: partitions must be a number, at least 1, got {self.partitions!r}")
        made = tuple(self.child(number) for number in range(self.partitions))
        for number, spec in enumerate(made):
            _check_child(spec, f"{where}: child({number})")
        msgspec.structs.force_setattr(self, "children", made)
        self.plain()

    def plain(self) -> SupervisorSpec:
        """The supervisor that it is. Raises InvalidSpec."""
        return SupervisorSpec(
            self.name,
            children=self.children,
            max_restarts=self.max_restarts,
            max_seconds=self.max_seconds,
            on_intensity=self.on_intensity,
            restart=self.restart,
            significant=self.significant,
            shutdown=self.shutdown,
            backoff=self.backoff,
        )


def _check_child(spec: object, where: str) -> None:
    if not isinstance(spec, AnySpec):
        raise InvalidSpec(f"{where} must give a ChildSpec or a supervisor's spec, it gave {spec!r}")
    if spec.restart == "temporary":
        raise InvalidSpec(
            f"{where}: a partition can't be temporary, or its keys would lead nowhere when it has ended"
        )


@final
class PartitionSupervisorRef(SupervisorRef, Generic[S_co]):
    """Names the place of a supervisor of partitions (of actors, for a PartitionSupervisorRef[ChildSpec]). They are
    fixed: they can be stopped and restarted by hand, but none can be added or deleted.
    """

    __slots__ = ()

    @property
    def partitions(self) -> int:
        """How many."""
        return len(self.place.specs)

    @overload
    def partition(self: PartitionSupervisorRef[ChildSpec], key: PartitionKey) -> ActorRef: ...
    @overload
    def partition(self: PartitionSupervisorRef[AnySupervisorSpec], key: PartitionKey) -> SupervisorRef: ...
    @overload
    def partition(self, key: PartitionKey) -> ActorRef | SupervisorRef: ...
    def partition(self, key: PartitionKey) -> ActorRef | SupervisorRef:
        """The child for this key; the same one for equal keys, in each process, and across restarts.

        Keys: an int counts modulo the number of partitions; a str, bytes, or a tuple of keys goes by a hash that
        does not change between processes. Raises InvalidKey for any other (hash() of most objects changes from
        process to process); NotRunning while the supervisor has not started all of them.
        """
        place = self.place
        spec = place.specs[partition_of(key, len(place.specs), place.path)]
        child = place.children.get(spec.name)
        if child is None:
            raise place.not_running()
        return child.ref


def partition_of(key: object, partitions: int, path: str) -> int:
    """Raises InvalidKey."""
    if isinstance(key, int) and not isinstance(key, bool):
        return key % partitions
    digest = blake2b(_encode(key, key, path), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def _encode(key: object, whole: object, path: str) -> bytes:
    """Different for different keys."""
    if isinstance(key, str):
        return b"s" + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if isinstance(key, int) and not isinstance(key, bool):
        return b"i%d" % key
    if isinstance(key, tuple):
        parts = [_encode(part, whole, path) for part in cast("tuple[Any, ...]", key)]
        return b"t" + b"".join(b"%d:%s" % (len(part), part) for part in parts)
    raise InvalidKey(path, whole, key)
