"""The tree as data: a snapshot of every place, and its text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from supervision.errors import CrashReport
from supervision.threads import threads_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervision.actor_place import ActorPlace
    from supervision.supervisor import SupervisorPlace

__all__ = ["TreeNode", "TreeSnapshot"]


class TreeNode(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One place. Times in seconds."""

    path: str
    name: str
    kind: Literal["actor", "supervisor"]
    state: str
    """starting, running, stopping, waiting, down, stopped, degraded"""
    since: float
    """How long it has been in this state."""
    incarnation: int
    restarts: int
    queued: int = 0
    blocked: int = 0
    """Senders that wait for room in its mailbox."""
    tasks: int = 0
    """Tasks of its own, started by start_task()."""
    threads: int = 0
    """At work for it, those that an earlier incarnation has abandoned included."""
    deferred: int = 0
    """Calls it has taken and not yet answered."""
    hibernated: bool = False
    """It is idle and has no task (see ChildSpec.hibernate_after)."""
    set_aside: int = 0
    """Messages it has deferred, until it replays them."""
    in_hand: str | None = None
    """The type of the message it handles."""
    in_hand_for: float = 0.0
    waiting_for: str | None = None
    """The path of the actor that its handler waits for."""
    cpu_seconds: float | None = None
    """Of the processor, used by all its incarnations and their tasks; None if the system does not measure it."""
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    last_crash: CrashReport | None = None
    children: tuple[TreeNode, ...] = ()


class TreeSnapshot(msgspec.Struct, frozen=True, eq=False):
    """The whole tree at one instant."""

    root: TreeNode

    def __iter__(self) -> Iterator[TreeNode]:
        """Every node, parents first, in start order."""
        pending = [self.root]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(node.children))

    def find(self, path: str) -> TreeNode | None:
        """The node of this path."""
        return next((node for node in self if node.path == path), None)

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """As text, one line a place; so does print()."""
        return "\n".join(_lines(self.root, "", ""))


def _lines(node: TreeNode, first: str, rest: str) -> Iterator[str]:
    yield f"{first}{node.name}  {_describe(node)}"
    for index, child in enumerate(node.children):
        last = index == len(node.children) - 1
        yield from _lines(child, rest + ("'- " if last else "|- "), rest + ("   " if last else "|  "))


def _describe(node: TreeNode) -> str:
    parts = [f"{node.state}{', hibernated' if node.hibernated else ''} {_duration(node.since)}"]
    if node.restarts:
        parts.append(f"restarts {node.restarts}")
    if node.queued or node.blocked:
        parts.append(f"queued {node.queued}" + (f" (+{node.blocked} waiting)" if node.blocked else ""))
    if node.in_hand is not None:
        text = f"handling {node.in_hand} for {_duration(node.in_hand_for)}"
        parts.append(text if node.waiting_for is None else f"{text}, waiting for {node.waiting_for}")
    if node.tasks:
        parts.append(f"tasks {node.tasks}")
    if node.threads:
        parts.append(f"threads {node.threads}")
    if node.deferred:
        parts.append(f"replies owed {node.deferred}")
    if node.cpu_seconds is not None:
        parts.append(f"cpu {_duration(node.cpu_seconds)}")
    if node.set_aside:
        parts.append(f"set aside {node.set_aside}")
    if node.names:
        parts.append(f"named {', '.join(node.names)}")
    if node.groups:
        parts.append(f"in {', '.join(node.groups)}")
    if node.last_crash is not None:
        first, *_ = node.last_crash.text.splitlines()  # a group's, or a supervisor's, goes on with its history
        parts.append(f"last crash {first.removesuffix(':')}")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"


def snapshot(root: SupervisorPlace) -> TreeSnapshot:
    """Of all below and including `root`."""
    return TreeSnapshot(supervisor_node(root))


def supervisor_node(place: SupervisorPlace) -> TreeNode:
    from supervision.supervisor import SupervisorPlace

    return TreeNode(
        path=place.path,
        name=place.name,
        kind="supervisor",
        state=place.state,
        since=place.system.now() - place.since,
        incarnation=place.number,
        restarts=max(0, place.number - 1),
        last_crash=place.last_crash,
        children=tuple(
            supervisor_node(child) if isinstance(child, SupervisorPlace) else actor_node(child)
            for child in place.children.values()
        ),
    )


def actor_node(place: ActorPlace) -> TreeNode:
    now = place.system.now()
    life = place.life
    hand = None if life is None else life.hand
    watch = place.system.watch
    return TreeNode(
        path=place.path,
        name=place.name,
        kind="actor",
        state=place.state,
        since=now - place.since,
        incarnation=place.number,
        restarts=max(0, place.number - 1),
        queued=place.inbox.count,
        blocked=place.inbox.waiting,
        tasks=0 if life is None else len(life.tasks or ()),
        threads=threads_of(place),
        deferred=0 if life is None else len(life.deferred or ()),
        hibernated=life is not None and place.inbox.parked is life,
        set_aside=len(place.inbox.aside or ()),
        in_hand=None if hand is None else type(hand).__qualname__,
        in_hand_for=0.0 if life is None or hand is None else now - life.hand_since,
        waiting_for=None if life is None or life.waiting is None else life.waiting.place.path,
        cpu_seconds=None if watch is None else watch.cpu_seconds(place),
        names=place.system.registry.names_of(place),
        groups=place.system.registry.groups_of(place),
        last_crash=place.last_crash,
    )
