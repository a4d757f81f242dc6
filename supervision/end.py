"""How one life ends: what it was asked, what came of it, and what is done with what it had.

The order is fixed: the message in hand fails, the actor's own tasks end, the supervisor judges, terminate() runs,
deferred replies fail, and only then the place hears of it and may begin the next incarnation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast, final

import trio
from trio.lowlevel import enable_ki_protection

from supervision.actor import Actor
from supervision.crash import contains_fatal, holds, is_cancellation, report_crash
from supervision.errors import ActorDown, ActorStopped, CrashReport, StopReason
from supervision.events import ActorCrashed, ActorEnded
from supervision.fate import CLOSE, HELD, Fate
from supervision.links import break_links
from supervision.mailbox import Again, OfIncarnation, SetAside
from supervision.message import Cast
from supervision.reply import ReplyCell
from supervision.tasks import is_closing, unprotected

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation
    from supervision.timers import Timer

__all__: list[str] = []

StopKind = Literal["normal", "shutdown", "cancelled"]


@final
class End:
    """Made when there is something to note."""

    __slots__ = (
        "cut",
        "errors",
        "fatal",
        "grace",
        "hard",
        "killed",
        "links",
        "restarting",
        "stop_timer",
        "stray",
        "stuck",
        "tasks_ended",
        "terminate_scope",
    )

    def __init__(self) -> None:
        self.restarting = False
        """Whether whoever stops it will start it again."""
        self.hard = math.inf
        """The deadline handed down from above."""
        self.grace = math.inf
        """Until when the message in hand may be finished."""
        self.stop_timer: Timer | None = None
        self.cut = ""
        """Why its main task was cancelled."""
        self.killed = ""
        """What was cut off when the grace was over."""
        self.links: dict[Incarnation, None] | None = None
        """Who ends with it."""
        self.stuck = False
        """It has been reported so."""
        self.errors: list[BaseException] | None = None
        self.fatal = False
        self.stray: BaseException | None = None
        self.terminate_scope: trio.CancelScope | None = None
        self.tasks_ended: trio.Event | None = None


@enable_ki_protection
async def end_life(life: Incarnation, caught: BaseException | None) -> BaseException | None:
    """The last steps of its task; `caught` is what came out of it. Gives the Cancelled that it is to raise."""
    place = life.place
    actor, life.actor = life.actor, None
    system = place.system
    ends = life.ends
    life.ending = True
    if place.state != "stopping":
        place.enter("stopping")
    if caught is not None:
        note(life, caught)
    if ends.stop_timer is not None:
        ends.stop_timer.cancel()
    if life.doze is not None:
        life.doze.cancel()
        life.doze = None
    reason = _reason(life)
    _fail_hand(life, reason)
    if life.tasks:
        for task in tuple(life.tasks):
            task.cancel(reason=f"{place.path}#{life.number} ends")
        ends.tasks_ended = trio.Event()
        known = len(ends.errors or ())
        with trio.CancelScope(shield=True):
            await ends.tasks_ended.wait()
        if len(ends.errors or ()) != known:
            reason = _reason(life)
    crash = reason.crash
    if crash is not None:
        _fail_deferred(life, reason)
        place.last_crash = crash
        if system.events.active:
            starting = life.number == 1 and not life.initialized
            system.events.emit(ActorCrashed(place.path, life.number, crash, starting))
    fate = _judge(life, reason)
    if fate.restarts:
        reason = StopReason(reason.kind, crash, reason.detail, restarting=True)
    if life.initialized and actor is not None and type(actor).terminate is not Actor.terminate:
        reason = await run_terminate(life, actor, reason)
    if life.deferred:
        _fail_deferred(life, reason)
    for belonging in tuple(life.belongings or ()):
        belonging.cancel()
    if ends.links:
        break_links(life, reason)
    if place.inbox.urgent:
        place.inbox.urgent.clear()
    life.hand = None
    if life.task is not None:
        del system.mains[life.task]
    if system.events.active:
        system.events.emit(ActorEnded(place.path, life.number, reason))
    place.ended(life, reason, fate)
    return ends.stray


def note(life: Incarnation, error: BaseException) -> None:
    """Sort one error that came out of a task of this actor, its own scope's Cancelled already stripped."""
    ends = life.ends
    rest = _without_own_end(life, error) if life.ending else error
    if rest is None:
        return
    error = rest
    if isinstance(error, Exception):
        pass
    elif contains_fatal(error):
        # ^C and SystemExit are no crashes: the system shuts down in order and raises them.
        ends.fatal = True
        life.place.system.abort(error)
        return
    elif is_cancellation(error) and trio.current_effective_deadline() == -math.inf:
        ends.stray = error
        return
    if ends.errors is None:
        ends.errors = []
    ends.errors.append(error)


def _without_own_end(life: Incarnation, error: BaseException) -> BaseException | None:
    """``error`` without what says that this very actor is ending: its tasks hear of that, and it is no crash."""

    def own(each: BaseException) -> bool:
        return isinstance(each, ActorStopped) and each.target == life.place.path and each.status == "ending"

    if not holds(error, own):  # a group that is split may become one of another type
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    rest: BaseException | None = cast("Any", error).split(own)[1]
    return rest


def _reason(life: Incarnation) -> StopReason:
    ends = life.ends
    errors = ends.errors
    if errors:
        if len(errors) == 1:
            error = errors[0]
        else:
            error = BaseExceptionGroup(f"{life.place.path} crashed in several tasks", errors)
        return StopReason("crash", _report(life, error))
    if ends.killed:
        return StopReason("killed", None, ends.killed)
    if ends.fatal or ends.stray is not None:
        return StopReason("cancelled")
    return StopReason(life.stop or "normal")


def _report(life: Incarnation, error: BaseException) -> CrashReport:
    place = life.place
    # At a first start the error itself is raised to the starter, with its traceback.
    strip = not _is_first_start(life)
    return report_crash(error, place.path, life.number, place.system.now(), life.hand, strip=strip)


def _is_first_start(life: Incarnation) -> bool:
    """Whether someone waits who is to get what init() raised."""
    handshake = life.place.handshake
    return not life.initialized and handshake is not None and handshake.kills


def _judge(life: Incarnation, reason: StopReason) -> Fate:
    ends = life.ends
    if life.stop is not None and life.stop != "normal":
        return HELD if ends.restarting else CLOSE
    if ends.fatal or ends.stray is not None or _is_first_start(life):
        return CLOSE
    place = life.place
    try:
        return place.parent.judge(place, reason)
    except Exception as error:  # noqa: BLE001  # of a Backoff of the user's own: open_system raises it
        place.system.abort(error)
        return CLOSE


async def run_terminate(life: Incarnation, actor: Actor, reason: StopReason) -> StopReason:
    """Run the user's terminate(), shielded and bounded; the reason, with what went wrong in it."""
    place = life.place
    system = place.system
    scope = trio.CancelScope(shield=True, deadline=min(system.now() + place.spec.shutdown, life.ends.hard))
    life.ends.terminate_scope = scope
    caught: BaseException | None = None
    try:
        with scope:
            await unprotected(actor.terminate, reason)
    except BaseException as error:
        if is_closing(error, life.task):
            raise
        caught = error
    life.ends.terminate_scope = None
    details = [reason.detail] if reason.detail else []
    if scope.cancelled_caught:
        details.append("terminate() was cut off at its deadline")
    if caught is not None:
        if contains_fatal(caught):
            note(life, caught)
        else:
            crash = report_crash(caught, place.path, life.number, system.now(), None, strip=True)
            place.last_crash = crash
            system.events.emit(ActorCrashed(place.path, life.number, crash))
            details.append(f"terminate() raised {crash.text}")
    return StopReason(reason.kind, reason.crash, "; ".join(details), reason.restarting)


def _fail_hand(life: Incarnation, reason: StopReason) -> None:
    """The message in hand is over: it is not handled again, unless it is a cast that may be."""
    message = life.hand
    place = life.place
    cell, life.cell = life.cell, None
    envelope, life.envelope = life.envelope, None
    if message is None:
        return
    if isinstance(message, (Again, OfIncarnation)):  # ^C, before it was taken out of its envelope
        envelope, message = message, message.message
    if type(envelope) is SetAside:
        # Only a handler that returns sets its message aside.
        envelope = envelope.item
        if isinstance(envelope, ReplyCell):
            cell = envelope
    if cell is not None:
        if not cell.done:
            cell.fail(ActorDown(place.path, reason, begun=True))
    elif not isinstance(envelope, ReplyCell):
        again = envelope if isinstance(envelope, Again) else None
        left = again.left if again is not None else message.redeliver if isinstance(message, Cast) else 0
        if left > 0 and reason.crash is not None:
            place.inbox.put_back(Again(message, left - 1))
        else:
            place.give_up(message, "in_hand" if again is None else "dead_letter")


def _fail_deferred(life: Incarnation, reason: StopReason) -> None:
    deferred, life.deferred = life.deferred, None
    for cell in deferred or ():
        if not cell.done:
            cell.fail(ActorDown(life.place.path, reason, begun=True))
