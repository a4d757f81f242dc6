"""What a supervisor is told about its children."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, cast

import msgspec

from supervision.actor import Actor
from supervision.backoff import Backoff
from supervision.errors import InvalidSpec, StopReason
from supervision.mailbox import Mailbox
from supervision.quantities import is_whole, number

__all__ = ["ChildSpec", "DynamicSupervisorSpec", "SupervisorSpec"]

Restart = Literal["permanent", "transient", "temporary"]
AutoShutdownMode = Literal["never", "any_significant", "all_significant"]


def check_name(kind: str, name: object) -> None:
    if not isinstance(name, str) or not name or "/" in name:
        raise InvalidSpec(f"{kind}: a name must not be empty and must not contain '/', got {name!r}")


def _check_restart(kind: str, name: str, restart: str) -> None:
    if restart not in {"permanent", "transient", "temporary"}:
        raise InvalidSpec(f"{kind} {name!r}: restart is permanent, transient or temporary, got {restart!r}")


def _check_significant(kind: str, name: str, restart: str, *, significant: bool) -> None:
    if significant and restart == "permanent":
        raise InvalidSpec(
            f"{kind} {name!r}: a permanent child never ends for good, so it can't be significant; "
            "make it transient or temporary"
        )


def check_grace(kind: str, name: str, shutdown: float, field: str = "shutdown") -> None:
    if not number(shutdown) >= 0:
        raise InvalidSpec(f"{kind} {name!r}: {field} must be at least 0 seconds, or inf, got {shutdown}")


def _check_type(kind: str, name: str, field: str, given: object, wanted: type) -> None:
    if not isinstance(given, wanted):
        raise InvalidSpec(f"{kind} {name!r}: {field} must be a {wanted.__name__}, got {given!r}")


def _check_intensity(kind: str, name: str, max_restarts: int, max_seconds: float) -> None:
    if not is_whole(max_restarts, 0):
        raise InvalidSpec(
            f"{kind} {name!r}: max_restarts must not be negative, and be a whole number or inf, got {max_restarts}"
        )
    if not number(max_seconds) > 0:
        raise InvalidSpec(f"{kind} {name!r}: max_seconds must be above 0, got {max_seconds}")


def check_significance(child: AnySpec, mode: AutoShutdownMode, where: str) -> None:
    """Raises InvalidSpec for a significant child whose end would mean nothing."""
    if child.significant and mode == "never":
        raise InvalidSpec(
            f"{where}: the child {child.name!r} is significant, but nothing ends with it; "
            "give a SupervisorSpec auto_shutdown any_significant or all_significant"
        )


class _ChildFields(msgspec.Struct, frozen=True):
    name: str
    factory: Callable[[], Actor]


class ChildSpec(_ChildFields, frozen=True, kw_only=True):
    """One actor under a supervisor: `ChildSpec("counter", Counter)`.

    factory: called in the new actor's task, once for each incarnation.
    restart: permanent: always; transient: after a crash; temporary: never.
    shutdown: seconds that the message in hand has when the actor is stopped, and as long again for terminate();
    0 cancels at once, inf waits.
    backoff: how long to wait before each restart.
    max_restarts, max_seconds: an intensity of this child's own. Exceeding it ends this child alone, degraded, and
    its restarts do not count for the supervisor's.
    mailbox: bound and policies.
    hibernate_after: seconds after which an idle actor without tasks of its own gives its task back (to trio), until
    the next message: it costs a few hundred bytes then. Nothing else changes: no init(), no terminate(). What belongs
    to one trio task, like a trio.Lock that is held from one message to the next, does not outlast it.
    on_undelivered: called with the path, the message and why (see Undelivered), synchronously, beside each such event
    of this place: for every accepted cast that is not handled to its end, dead letters included. A cast that was not
    accepted raises at its sender, and a call at its caller, instead. It must not cast what was dropped to this place
    again at once: with "drop_oldest" that drops the next one, for ever.
    on_close: called once, synchronously, when the place closes: stopped, ended for good or degraded, also if that
    happens while no incarnation is there to run terminate().
    significant: its end, if by itself and for good, may end its supervisor (see SupervisorSpec.auto_shutdown).
    busy_alarm: seconds after which a handler that is still at one message is reported (ActorBusy), and again each
    time that has doubled; None: never.
    threads: how many of its context.run_in_thread() are at work at a time.
    """

    restart: Restart = "permanent"
    significant: bool = False
    shutdown: float = 5.0
    backoff: Backoff = Backoff()
    max_restarts: int | None = None
    max_seconds: float | None = None
    mailbox: Mailbox = Mailbox()
    hibernate_after: float | None = None
    on_close: Callable[[StopReason], object] | None = None
    on_undelivered: Callable[[str, object, str], object] | None = None
    busy_alarm: float | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        check_name("ChildSpec", self.name)
        if not callable(self.factory):
            raise InvalidSpec(f"ChildSpec {self.name!r}: factory must be callable, got {self.factory!r}")
        _check_restart("ChildSpec", self.name, self.restart)
        _check_significant("ChildSpec", self.name, self.restart, significant=self.significant)
        check_grace("ChildSpec", self.name, self.shutdown)
        _check_type("ChildSpec", self.name, "backoff", self.backoff, Backoff)
        _check_type("ChildSpec", self.name, "mailbox", self.mailbox, Mailbox)
        if (self.max_restarts is None) != (self.max_seconds is None):
            raise InvalidSpec(f"ChildSpec {self.name!r}: give max_restarts and max_seconds together, or neither")
        if self.max_restarts is not None and self.max_seconds is not None:
            _check_intensity("ChildSpec", self.name, self.max_restarts, self.max_seconds)
        if self.hibernate_after is not None and not number(self.hibernate_after) > 0:
            raise InvalidSpec(
                f"ChildSpec {self.name!r}: hibernate_after must be above 0 seconds, or None, "
                f"got {self.hibernate_after}"
            )
        for field, hook in (("on_undelivered", self.on_undelivered), ("on_close", self.on_close)):
            if hook is not None and not callable(hook):
                raise InvalidSpec(f"ChildSpec {self.name!r}: {field} must be callable, or None, got {hook!r}")
        if self.busy_alarm is not None and not number(self.busy_alarm) > 0:
            raise InvalidSpec(
                f"ChildSpec {self.name!r}: busy_alarm must be above 0 seconds, or None, got {self.busy_alarm}"
            )
        if type(self.threads) is not int or self.threads < 1:
            raise InvalidSpec(f"ChildSpec {self.name!r}: threads must be a whole number from 1, got {self.threads!r}")


class _SupervisorFields(msgspec.Struct, frozen=True):
    name: str


class AnySupervisorSpec(_SupervisorFields, frozen=True, kw_only=True):
    restart: Restart = "permanent"
    significant: bool = False
    shutdown: float = math.inf
    backoff: Backoff = Backoff()

    def __post_init__(self) -> None:
        kind = type(self).__name__
        check_name(kind, self.name)
        _check_restart(kind, self.name, self.restart)
        _check_significant(kind, self.name, self.restart, significant=self.significant)
        check_grace(kind, self.name, self.shutdown)
        _check_type(kind, self.name, "backoff", self.backoff, Backoff)


class SupervisorWithIntensity(AnySupervisorSpec, frozen=True, kw_only=True):
    max_restarts: int = 3
    max_seconds: float = 5.0
    on_intensity: Literal["escalate", "degrade"] = "escalate"

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = type(self).__name__
        _check_intensity(kind, self.name, self.max_restarts, self.max_seconds)
        if self.on_intensity not in {"escalate", "degrade"}:
            raise InvalidSpec(f"{kind} {self.name!r}: on_intensity is escalate or degrade, got {self.on_intensity!r}")


class SupervisorSpec(SupervisorWithIntensity, frozen=True, kw_only=True):
    """A supervisor of children that start in order and stop in reverse order.

    strategy: what a child's restart takes with it: one_for_one: nothing; rest_for_one: the children started after
    it; one_for_all: all of them.
    max_restarts, max_seconds: that many restarts within that many seconds (both ends included) are mended; one more
    makes the supervisor stop its children and, on_intensity, fail to its parent ("escalate") or end by itself
    ("degrade").
    restart, backoff: what its parent does when it fails; shutdown: a bound in seconds on stopping all below it.
    auto_shutdown: which significant children's ends end it: "any_significant": the first; "all_significant": the one
    after which no significant child lives. Only a child's own end counts that is not followed by a restart (a
    transient one's without a crash, a temporary one's in any way); stop_child, a batch or the supervisor's own stop
    never do, nor does a degraded end. For its parent the supervisor has then ended without a crash: a transient or
    temporary one is not restarted; a permanent one is, counted, and begins all of `children` anew.
    significant: as a child's.
    """

    strategy: Literal["one_for_one", "rest_for_one", "one_for_all"] = "one_for_one"
    auto_shutdown: AutoShutdownMode = "never"
    children: Sequence[AnySpec] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in {"one_for_one", "rest_for_one", "one_for_all"}:
            raise InvalidSpec(
                f"SupervisorSpec {self.name!r}: strategy is one_for_one, rest_for_one or one_for_all, "
                f"got {self.strategy!r}"
            )
        if self.auto_shutdown not in {"never", "any_significant", "all_significant"}:
            raise InvalidSpec(
                f"SupervisorSpec {self.name!r}: auto_shutdown is never, any_significant or all_significant, "
                f"got {self.auto_shutdown!r}"
            )
        _check_children(self.name, self.children)
        for child in self.children:
            check_significance(child, self.auto_shutdown, f"SupervisorSpec {self.name!r}")
        names = [child.name for child in self.children]
        if len(set(names)) != len(names):
            raise InvalidSpec(f"SupervisorSpec {self.name!r}: children's names must differ, got {names}")


class DynamicSupervisorSpec(SupervisorWithIntensity, frozen=True, kw_only=True):
    """A supervisor of many independent children, started and stopped at run time; it stops them concurrently. A
    child that ends for good is forgotten (a degraded one stays until it is stopped or revived).

    max_children: start_child() beyond it raises TooManyChildren.
    """

    max_children: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_children is not None and not is_whole(self.max_children, 1):
            raise InvalidSpec(
                f"DynamicSupervisorSpec {self.name!r}: max_children must be a whole number from 1, or None, "
                f"got {self.max_children!r}"
            )


AnySpec = ChildSpec | AnySupervisorSpec


def _check_children(name: str, children: object) -> None:
    if not isinstance(children, Sequence):
        raise InvalidSpec(f"SupervisorSpec {name!r}: children must be a sequence, got {children!r}")
    for child in cast("Sequence[object]", children):
        if not isinstance(child, AnySpec):
            raise InvalidSpec(
                f"SupervisorSpec {name!r}: children must be ChildSpecs or supervisors' specs, got {child!r}"
            )
