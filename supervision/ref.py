"""Addresses: plain handles that stay valid across restarts."""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, TypeVar, final, overload

from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from supervision.checks import check_call, check_cast
from supervision.children import (
    ChildCounts,
    ChildInfo,
    child_of,
    count_children,
    delete_child,
    restart_child,
    start_child,
    stop_child,
    which_children,
)
from supervision.errors import InvalidSpec
from supervision.mailbox import WaitingCast
from supervision.message import Call, Cast, Down
from supervision.monitor import Monitor
from supervision.reply import ReplyCell
from supervision.tree import TreeNode, actor_node, supervisor_node

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.partition import PartitionSupervisorRef, PartitionSupervisorSpec
    from supervision.spec import AnySpec, AnySupervisorSpec, ChildSpec
    from supervision.supervisor import SupervisorPlace
    from supervision.task_supervisor import TaskSupervisor, TaskSupervisorSpec

__all__ = ["ActorRef", "SupervisorRef"]

R = TypeVar("R")
S = TypeVar("S", bound="AnySpec")


@final
class ActorRef:
    """Names a place. Two refs are equal if they name the same place; a ref of a closed place stays closed, unless
    restart_child() revives it.
    """

    __slots__ = ("place",)

    def __init__(self, place: ActorPlace) -> None:
        self.place = place
        """The library's own."""

    @property
    def path(self) -> str:
        """Names from the system down, joined by '/'."""
        return self.place.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.place.name

    @property
    def state(self) -> str:
        """starting, running, stopping, waiting (for its restart), down (its supervisor restarts it), stopped or
        degraded.
        """
        return self.place.state

    @enable_ki_protection
    async def call(self, message: Call[R], timeout: float = 5.0) -> R:
        """Send a request and wait for its reply, at most `timeout` seconds (math.inf: without bound).

        Raises what the actor failed the reply with; ActorDown if its incarnation ended with the call in hand, or the
        place closed with it queued; ActorStopped or Degraded if the place is closed; CallTimeout; CallCycle;
        UnknownMessage; WrongMessageKind; MailboxFull; InvalidSpec; WrongThread; WrongReply if the system is strict
        about replies. While the actor restarts the message waits. A caller that is cancelled or timed out withdraws
        a message that was not begun.
        """
        place = self.place
        system = place.system
        if get_ident() != system.thread:
            system.check_thread(place.path, "call()")
        task = current_task()
        if not place.accepting or type(message) not in place.calls:
            await checkpoint_if_cancelled()  # what has closed it may have cancelled the sender, too
            check_call(place, message)
        caller = system.mains.get(task)
        if caller is not None:
            place.check_cycle(caller, message)
        cell = ReplyCell(place, message, task, timeout)
        if timeout != math.inf:
            timers = system.timers
            try:
                deadline = timers.clock.current_time() + timeout
                sensible = timeout >= 0
            except TypeError:
                deadline, sensible = math.inf, False
            if not sensible:
                raise InvalidSpec(
                    f"call to {place.path}: timeout must be at least 0 seconds, or inf, got {timeout!r}"
                )
            if not place.inbox.offer(cell):
                place.overflow(message, cell)
            timers.add(deadline, cell)
        elif not place.inbox.offer(cell):
            place.overflow(message, cell)
        if caller is None:
            return await wait_task_rescheduled(cell.abort)
        caller.waiting = cell
        try:
            return await wait_task_rescheduled(cell.abort)
        finally:
            caller.waiting = None

    @enable_ki_protection
    async def cast(self, message: Cast) -> None:
        """Send a one-way message; where the mailbox is full its policy says what happens, by default it waits.

        Returns once the message is accepted; if it is cancelled, it was not. Raises as call() does, but for the
        reply. Not a checkpoint each time: only when it waits, and now and then.
        """
        place = self.place
        inbox = place.inbox
        if inbox.accepted & 127 == 127:
            await checkpoint()
        if not place.accepting or type(message) not in place.casts:
            await checkpoint_if_cancelled()
            check_cast(place, message)
        # As Inbox.offer() does where it is not the first message: a function call less, of eight.
        items = inbox.items
        if items is not None and len(items) < inbox.limit:
            parked = inbox.parked
            if parked is not None:
                if get_ident() != place.system.thread:  # asked only where someone is woken, or may be made to wait
                    place.system.check_thread(place.path, "cast()")
                inbox.parked = None
                reschedule(parked)  # pyright: ignore[reportArgumentType]  # a task: who hibernates has no items
            items.append(message)
            inbox.accepted += 1
            return
        place.system.check_thread(place.path, "cast()")
        if inbox.offer(message):
            return
        task = current_task()
        caller = place.system.mains.get(task)
        entry = WaitingCast(place, message, task)
        if caller is not None and place.spec.mailbox.when_full == "wait":
            place.check_cycle(caller, message)
        place.overflow(message, entry)
        if inbox.line is None or entry not in inbox.line:
            await cancel_shielded_checkpoint()  # it has been accepted
            return
        if caller is None:
            await wait_task_rescheduled(entry.abort)
        else:
            caller.waiting = entry
            try:
                await wait_task_rescheduled(entry.abort)
            finally:
                caller.waiting = None
        if entry.refused:
            raise place.not_running()

    @enable_ki_protection
    def cast_nowait(self, message: Cast) -> None:
        """As cast(), but never waits: raises MailboxFull instead."""
        place = self.place
        if get_ident() != place.system.thread:
            place.system.check_thread(place.path, "cast_nowait()")
        if not place.accepting or type(message) not in place.casts:
            check_cast(place, message)
        if not place.inbox.offer(message):
            place.overflow(message, None)

    def monitor(self, callback: Callable[[Down], object]) -> Monitor:
        """Call `callback(down)` once, when the present incarnation (or, while it restarts, the next one) has ended;
        at once if the place is closed. It runs inside the step where that happens and must not block. An actor
        that wants a message uses context.monitor(ref).
        """
        return self.place.add_monitor(callback)

    def statistics(self) -> TreeNode:
        """What the tree shows of this actor: state, queue, message in hand, restarts, ..."""
        return actor_node(self.place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other.place is self.place

    def __hash__(self) -> int:
        return hash(self.place)

    def __repr__(self) -> str:
        return f"<ActorRef {self.place.path}>"


class SupervisorRef:
    """Names a supervisor's place, to start, stop and look up its children."""

    __slots__ = ("place",)

    def __init__(self, place: SupervisorPlace) -> None:
        self.place = place
        """The library's own."""

    @property
    def path(self) -> str:
        """Names from the system down, joined by '/'."""
        return self.place.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.place.name

    @property
    def state(self) -> str:
        """starting, running, stopping, waiting (for its restart), down, stopped or degraded."""
        return self.place.state

    @overload
    async def start_child(self, spec: ChildSpec) -> ActorRef: ...
    @overload
    async def start_child(self, spec: PartitionSupervisorSpec[S]) -> PartitionSupervisorRef[S]: ...
    @overload
    async def start_child(self, spec: TaskSupervisorSpec) -> TaskSupervisor: ...
    @overload
    async def start_child(self, spec: AnySupervisorSpec) -> SupervisorRef: ...
    @overload
    async def start_child(self, spec: AnySpec) -> ActorRef | SupervisorRef: ...
    async def start_child(self, spec: AnySpec) -> ActorRef | SupervisorRef:
        """Start a child and wait until it, and all below it, has finished init().

        Raises what init() raised, as it was raised; nothing is left then, nor when this is cancelled or times out.
        Raises NameTaken, TooManyChildren, NotRunning.
        """
        return await start_child(self.place, spec)

    async def stop_child(self, name: str) -> None:
        """Stop a child for good and wait until it has ended. Raises ChildNotFound, CallCycle (a child can't wait for
        its own end).
        """
        await stop_child(self.place, name)

    async def restart_child(self, name: str) -> None:
        """Stop a living child in order and start it again; revive a stopped or degraded one. Not counted as a
        crash. Raises ChildNotFound, CallCycle, InvalidSpec (for a temporary one), NotRunning (also if the child or
        this supervisor is stopped meanwhile), and what init() raised; the child is stopped then. Cancelled, it goes
        on by itself.
        """
        await restart_child(self.place, name)

    async def delete_child(self, name: str) -> None:
        """Forget a child that is stopped or degraded: its name is free, and it can't be restarted any more. Raises
        ChildNotFound, ChildNotStopped.
        """
        await delete_child(self.place, name)

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The children as they are now, in start order; stopped ones are kept until they are deleted (temporary
        ones, and those of a dynamic supervisor, are forgotten when they end).
        """
        return which_children(self.place)

    def count_children(self) -> ChildCounts:
        """How many there are and how many of them live."""
        return count_children(self.place)

    def child(self, name: str) -> ActorRef | SupervisorRef:
        """Raises ChildNotFound."""
        return child_of(self.place, name).ref

    def children(self) -> dict[str, ActorRef | SupervisorRef]:
        """In start order, closed ones included."""
        return {name: place.ref for name, place in self.place.children.items()}

    def statistics(self) -> TreeNode:
        """What the tree shows of this supervisor and all below it."""
        return supervisor_node(self.place)

    def __repr__(self) -> str:
        return f"<SupervisorRef {self.place.path}>"
