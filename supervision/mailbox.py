"""A place's mailbox: two lanes, bounded, with a line of senders that wait for room.

The library's own messages (Down) go into the urgent lane, which is served first and is not bounded. The bound counts
what still waits to be handled: a call whose caller has left counts no more. With a bound of 0 nobody is ever let in
for room: an actor that has nothing in hand takes its message from the line (a rendezvous).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Literal, final

import msgspec
import trio
from trio.lowlevel import Abort, enable_ki_protection, reschedule

from supervision.errors import InvalidSpec
from supervision.hibernation import resume
from supervision.quantities import is_whole
from supervision.reply import ReplyCell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervision.actor_place import ActorPlace
    from supervision.incarnation import Incarnation

__all__ = ["Mailbox"]


class Mailbox(msgspec.Struct, frozen=True, kw_only=True):
    """How a mailbox behaves.

    capacity: messages that may wait (math.inf is allowed). 0 is a rendezvous: cast() returns when the actor has taken
    the message, and nothing waits but senders; while something is set aside (defer()) nothing is taken.
    when_full: "wait": cast() and call() wait for room, first come first served; "reject": they raise MailboxFull;
    "drop_oldest": the oldest waiting message makes room (an Undelivered event, or MailboxFull at its caller).
    cast_nowait() never waits: it raises MailboxFull where cast() would wait. With capacity 0 it, and "reject", hand
    the message to an idle actor, and raise MailboxFull otherwise; "drop_oldest" has nothing to drop there.
    on_restart: "keep" what has not been begun for the next incarnation, in order, or "drop" it.
    """

    capacity: float = 1000
    when_full: Literal["wait", "reject", "drop_oldest"] = "wait"
    on_restart: Literal["keep", "drop"] = "keep"

    def __post_init__(self) -> None:
        if not is_whole(self.capacity, 0):
            raise InvalidSpec(f"Mailbox: capacity must be a whole number of at least 0 or inf, got {self.capacity}")
        if self.when_full not in {"wait", "reject", "drop_oldest"}:
            raise InvalidSpec(f"Mailbox: when_full is wait, reject or drop_oldest, got {self.when_full!r}")
        if not self.capacity and self.when_full == "drop_oldest":
            raise InvalidSpec("Mailbox: with capacity 0 there is no oldest to drop; choose wait or reject")
        if self.on_restart not in {"keep", "drop"}:
            raise InvalidSpec(f"Mailbox: on_restart is keep or drop, got {self.on_restart!r}")


@final
class Again:
    """A cast that was in hand when its actor crashed, on its way to the next incarnation."""

    __slots__ = ("left", "message")

    def __init__(self, message: object, left: int) -> None:
        self.message = message
        self.left = left


@final
class OfIncarnation:
    """A message meant for one incarnation only (from its own timer)."""

    __slots__ = ("incarnation", "message")

    def __init__(self, message: object, incarnation: int) -> None:
        self.message = message
        self.incarnation = incarnation


@final
class SetAside:
    """The message in hand, to be set aside (see Context.defer) once its handler has returned."""

    __slots__ = ("item", "replay")

    def __init__(self, item: object) -> None:
        self.item = item
        """As it came out of the queue."""
        self.replay = False
        """It goes back at once, with all the others: replay_deferred() came after defer()."""


@final
class WaitingCast:
    """A sender that waits for room. Also a wait-for edge: the sender waits for the place."""

    __slots__ = ("deferred", "message", "place", "refused", "task")

    def __init__(self, place: ActorPlace, message: object, task: trio.lowlevel.Task) -> None:
        self.place = place
        self.message = message
        self.task: trio.lowlevel.Task | None = task
        self.deferred = False
        self.refused = False

    def abort(self, _raise_cancel: object) -> Abort:
        self.task = None
        self.place.inbox.leave_line(self)
        return Abort.SUCCEEDED

    @enable_ki_protection
    def wake(self) -> None:
        task = self.task
        self.task = None
        if task is not None:
            reschedule(task)


def message_of(item: object) -> object:
    """The user's message in a queue item."""
    return item.message if isinstance(item, (ReplyCell, Again, OfIncarnation)) else item


def _unwrap(entry: ReplyCell | SetAside) -> object:
    return entry.item if isinstance(entry, SetAside) else entry


@final
class Inbox:
    """The state behind a Mailbox. Everything is allocated on first use: an idle actor should be small."""

    __slots__ = ("accepted", "aside", "dead", "items", "limit", "line", "parked", "urgent")

    def __init__(self, capacity: float) -> None:
        self.limit = capacity
        """How long the queue may be: the capacity, less what is set aside, and the dead, which don't count."""
        self.items: deque[object] | None = None
        """Casts as they are, calls as their ReplyCell."""
        self.urgent: deque[object] | None = None
        self.aside: OrderedDict[ReplyCell | SetAside, None] | None = None
        """Calls as their cell, casts as what set them aside; in order."""
        self.line: OrderedDict[ReplyCell | WaitingCast, None] | None = None
        self.dead = 0
        """How many items are calls whose caller has left."""
        self.accepted = 0
        self.parked: trio.lowlevel.Task | Incarnation | None = None
        """The actor's task while it has nothing to do; the actor itself while it hibernates (then items is None)."""

    @property
    def count(self) -> int:
        """Messages that wait to be handled, without the urgent lane, the line and what is set aside."""
        return 0 if self.items is None else len(self.items) - self.dead

    @property
    def room(self) -> float:
        """How many living items may be queued: the capacity, less what is set aside."""
        return self.limit - self.dead

    @property
    def waiting(self) -> int:
        """Senders in the line."""
        return 0 if self.line is None else len(self.line)

    @enable_ki_protection
    def offer(self, item: object) -> bool:
        """Enqueue and wake the actor; False if there is no room."""
        items = self.items
        if not items:
            if self.limit <= 0:
                return False
            if items is None:
                self.items = deque((item,))
                self.accepted += 1
                self.wake()
                return True
        elif len(items) >= self.limit:
            return False
        items.append(item)
        self.accepted += 1
        parked = self.parked
        if parked is not None:
            # Woken without a value: a consumer that is cancelled in the same tick leaves the message queued.
            self.parked = None
            reschedule(parked)  # pyright: ignore[reportArgumentType]  # a task: who hibernates has no items
        return True

    @enable_ki_protection
    def offer_urgent(self, message: object) -> None:
        if self.urgent is None:
            self.urgent = deque()
        self.urgent.append(message)
        self.wake()

    @enable_ki_protection
    def wake(self) -> None:
        parked = self.parked
        if parked is not None:
            self.parked = None
            if isinstance(parked, trio.lowlevel.Task):
                reschedule(parked)
            else:
                resume(parked)

    def hibernate(self, life: Incarnation) -> None:
        """There is nothing to do, and no task; wake() resumes it."""
        self.items = self.urgent = None
        self.line = self.line or None
        self.aside = self.aside or None
        self.parked = life

    def abort_park(self, _raise_cancel: object) -> Abort:
        """trio's abort function for the parked actor."""
        self.parked = None
        return Abort.SUCCEEDED

    @enable_ki_protection
    def stand_in_line(self, entry: ReplyCell | WaitingCast) -> None:
        if self.line is None:
            self.line = OrderedDict()
        self.line[entry] = None
        if self.meets:
            self.wake()

    @enable_ki_protection
    def leave_line(self, entry: ReplyCell | WaitingCast) -> bool:
        """False if it had left before."""
        if self.line is None or entry not in self.line:
            return False
        del self.line[entry]
        return True

    @enable_ki_protection
    def admit(self) -> None:
        """Let senders in while there is room, first come first served."""
        line, items = self.line, self.items
        if items is None:
            items = self.items = deque()
        while line and len(items) < self.limit:
            self._let_in(line, items)
        self.wake()

    def _let_in(self, line: OrderedDict[ReplyCell | WaitingCast, None], items: deque[object]) -> None:
        entry, _ = line.popitem(last=False)
        if isinstance(entry, ReplyCell):
            items.append(entry)
        else:
            items.append(entry.message)
            entry.wake()
        self.accepted += 1

    # ---- a rendezvous

    @property
    def meets(self) -> bool:
        """The capacity is 0, and nothing is set aside."""
        return not self.room and not self.aside

    @property
    def expected(self) -> bool:
        """Someone waits to hand a message over, and may."""
        return bool(self.line) and self.meets

    @enable_ki_protection
    def take(self) -> bool:
        """Called by the actor when it is about to wait: True if it has taken a message of the first in line, to be
        handled in this very step.
        """
        line = self.line
        if not line or not self.meets:
            return False
        if self.items is None:
            self.items = deque()
        self._let_in(line, self.items)
        return True

    @enable_ki_protection
    def hand_over(self, item: object) -> bool:
        """Without waiting: False if the actor is not idle."""
        if self.parked is None or self.items or self.urgent or self.line or not self.meets:
            return False
        if self.items is None:
            self.items = deque()
        self.items.append(item)
        self.accepted += 1
        self.wake()
        return True

    @enable_ki_protection
    def withdraw(self, cell: ReplyCell) -> None:
        """Its caller has left before it was begun."""
        if self.leave_line(cell):
            return
        if self.aside is not None and cell in self.aside:
            del self.aside[cell]
            self.limit += 1
        else:
            self.dead += 1
            self.limit += 1
            items = self.items
            # The dead stay until they are met or outnumber the living.
            if items is not None and self.dead > 32 and self.dead > len(items) // 2:
                self.items = deque(item for item in items if not (isinstance(item, ReplyCell) and item.done))
                self.bury(self.dead)
        if self.line:
            self.admit()

    @enable_ki_protection
    def set_aside(self, entry: SetAside) -> None:
        """Until replay(). May exceed the bound by this one, whose room may have been taken while it was in hand."""
        item = entry.item
        if self.aside is None:
            self.aside = OrderedDict()
        if isinstance(item, ReplyCell):
            if item.done:
                return
            item.begun = False
            self.aside[item] = None
        else:
            self.aside[entry] = None
        self.limit -= 1

    @enable_ki_protection
    def replay(self) -> None:
        """Put back what is set aside: at the front, in order."""
        aside, self.aside = self.aside, None
        if aside:
            if self.items is None:
                self.items = deque()
            self.items.extendleft(map(_unwrap, reversed(aside)))
            self.limit += len(aside)
            self.wake()

    @enable_ki_protection
    def drop_oldest(self) -> object:
        """Take the oldest living item out. There is one: the mailbox is full."""
        if self.aside:
            entry, _ = self.aside.popitem(last=False)
            self.limit += 1
            return _unwrap(entry)
        items = self.items
        assert items is not None
        while True:
            item = items.popleft()
            if isinstance(item, ReplyCell) and item.done:
                self.bury(1)
                continue
            return item

    def bury(self, count: int) -> None:
        """So many of the dead are no longer in the queue."""
        self.dead -= count
        self.limit -= count

    def put_back(self, item: object) -> None:
        """At the front, for the next incarnation; may exceed the bound by this one."""
        if self.items is None:
            self.items = deque()
        self.items.appendleft(item)

    def drain(self) -> Iterator[object]:
        """Take out every living item."""
        self.replay()
        items, self.items = self.items, None
        self.bury(self.dead)
        self.urgent = None
        for item in items or ():
            if not (isinstance(item, ReplyCell) and item.done):
                yield item

    def drain_line(self) -> Iterator[ReplyCell | WaitingCast]:
        line, self.line = self.line, None
        yield from line or ()
