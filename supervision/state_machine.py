"""State machines, as gen_statem: handlers that depend on a state, with timeouts and postponed messages."""

from __future__ import annotations

import math
from collections.abc import Coroutine, Sequence
from enum import Enum
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, cast, final

from trio.lowlevel import current_task

from supervision.actor import Actor, Handler, declare
from supervision.errors import InvalidSpec, NotInHandler, NotInThisState
from supervision.leaving import Cancellable
from supervision.message import Own, cancels_on_leave
from supervision.states import State, Table, name_of, tabulate

if TYPE_CHECKING:
    from supervision.context import Context
    from supervision.incarnation import Incarnation
    from supervision.timers import Timer

__all__ = ["StateMachine"]

S = TypeVar("S", bound=Enum | str)


class StateMachine(Actor, Generic[S]):
    """An actor with a state, of an Enum or of strings. What a message does may depend on it:

        class Door(StateMachine[Lock]):
            initial = Lock.LOCKED

            @in_state(Lock.LOCKED)
            @handles(Unlock)
            def unlock(self, message: Unlock) -> None:
                self.goto(Lock.OPEN)

    A handler without @in_state is for every state that has no handler of its own for the message. With strings,
    derive from `StateMachine[Literal["locked", "open"]]` and list them in `states`. Methods marked with @on_enter,
    @on_state_timeout and @on_event_timeout are called when their state is entered and when its timeouts are over.
    Mistakes in all this raise InvalidSpec when the class is made.

    Where a call says cancel_on_leave, its caller's leave can cut the handler, and the machine stays where it is; but
    never what comes after the handler has returned: the new state is entered, and the reply comes late.

    As in every actor, nothing of this survives a restart: each incarnation starts in the initial state.
    """

    initial: S
    """Where each incarnation starts, unless its init() goes elsewhere."""
    states: ClassVar[Sequence[State]] = ()
    """All states; by default the members of `initial`'s Enum."""
    when_unhandled: ClassVar[Literal["refuse", "postpone"]] = "refuse"
    """What becomes of a message that has a handler, but none in the present state. refuse: a call raises
    NotInThisState at its caller, a cast is reported as Undelivered; postpone: it is set aside until the state
    changes, as by context.defer() (which counts against the mailbox's capacity).
    """

    __cancels_itself__: ClassVar[bool] = True
    __table__: ClassVar[Table]
    __run: _Run | None = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        super(Actor, cls).__init_subclass__(**kwargs)
        if cls.when_unhandled not in {"refuse", "postpone"}:
            raise InvalidSpec(f"{cls.__qualname__}: when_unhandled is refuse or postpone, got {cls.when_unhandled!r}")
        cls.__table__ = table = tabulate(cls, getattr(cls, "initial", None), cls.states)
        own: dict[type, Handler] = {StateEnter: _enter, StateTimeout: _time_out, EventTimeout: _time_out}
        declare(cls, dict.fromkeys(table.messages, _handle) | own)
        cls.__first__ = StateEnter()

    @property
    def state(self) -> S:
        """Where the machine is. goto() changes it when the handler has returned."""
        return cast("S", self.__state_run__.state)

    def goto(self, state: S) -> None:
        """Go to another state when the present handler (or init()) has returned; the last word counts.

        Then the old state's timeout is over, the messages that were set aside go back to the front of the queue, and
        the new state's @on_enter method runs; a call in hand is answered after that. goto() to the present state
        runs its @on_enter method once more and changes nothing else (gen_statem's repeat_state).

        Raises InvalidSpec for an undeclared state, and for one without a method for a timeout that this handler has
        set; NotInHandler in an @on_enter method, and outside of handlers.
        """
        self.__state_run__.goto(state)

    def state_timeout(self, seconds: float) -> None:
        """Call the state's @on_state_timeout method when the machine has been in it for `seconds` more, counted from
        the present handler's return. Setting it again starts it anew; math.inf, or a change of the state, cancels it.

        With goto() it is for the new state: call goto() first. Raises InvalidSpec for what is no time, and if the
        state has no such method; NotInHandler outside of handlers.
        """
        run = self.__state_run__
        run.ask("state_timeout", run.state_timeout, seconds)

    def event_timeout(self, seconds: float) -> None:
        """Call the state's @on_event_timeout method if nothing is handled for `seconds`, counted from the present
        handler's return. Whatever comes first cancels it: any message, one that is postponed included, or a state
        timeout. Otherwise as state_timeout().
        """
        run = self.__state_run__
        run.ask("event_timeout", run.event_timeout, seconds)

    @property
    def __state_run__(self) -> _Run:
        # Made here, not in __init__(), which actors may define without calling super().
        run = self.__run
        if run is None:
            self.__run = run = _Run(self)
        return run


class StateEnter(Own, frozen=True):
    """The first message of each incarnation: enter the initial state."""


class StateTimeout(Own, frozen=True):
    """state_timeout() is over."""

    incarnation: int
    number: int


class EventTimeout(Own, frozen=True):
    """event_timeout() is over."""

    incarnation: int
    number: int


@final
class _Timeout:
    """One of the two timeouts of a machine."""

    __slots__ = ("_due", "_kind", "_timer", "asked", "handlers")

    def __init__(self, kind: type[StateTimeout | EventTimeout], handlers: dict[State, Handler]) -> None:
        self._kind = kind
        self._due = 0
        """The number of the one that is awaited, 0 for none: what comes with another number is too late."""
        self._timer: Timer | None = None
        self.handlers = handlers
        self.asked: float | None = None
        """What the handler in hand has asked for; it counts when that has returned."""

    def cancel(self) -> None:
        self._due = 0
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def start(self, life: Incarnation, number: int) -> None:
        """If it was asked for."""
        seconds, self.asked = self.asked, None
        if seconds is None:
            return
        self.cancel()
        if seconds == math.inf:
            return
        self._due = number
        # Into the urgent lane, as all of the library's messages: a full mailbox must not swallow it.
        fire = partial(life.place.inbox.offer_urgent, self._kind(life.number, number))
        self._timer = life.place.system.timers.after(seconds, fire)
        life.keep(self._timer)

    def take(self, life: Incarnation, message: StateTimeout | EventTimeout) -> bool:
        """Whether this is the one that is awaited, which it is no more then."""
        if message.number != self._due or message.incarnation != life.number:
            return False
        self.cancel()
        return True


@final
class _Run:
    """One incarnation of a machine: where it is, and how it goes on."""

    __slots__ = ("_machine", "_next", "_numbers", "_phase", "_table", "event_timeout", "state", "state_timeout")

    def __init__(self, machine: StateMachine[Any]) -> None:
        self._machine = machine
        self._table = table = machine.__table__
        self._next: State | None = None
        """Where the handler in hand wants to go."""
        self._phase: Literal["init", "handler", "enter", "idle"] = "init"
        self._numbers = 0
        self.state: State = table.initial
        self.state_timeout = _Timeout(StateTimeout, table.state_timeouts)
        self.event_timeout = _Timeout(EventTimeout, table.event_timeouts)

    # ---- what handlers ask for

    def goto(self, state: State) -> None:
        path = self._check_in_hand("goto")
        known = self._table.states.get(state)
        if known is None:
            declared = ", ".join(map(name_of, self._table.states))
            raise InvalidSpec(f"{path}: goto: {state!r} is none of its states; these are: {declared}")
        for timeout in (self.state_timeout, self.event_timeout):
            if timeout.asked is not None:
                _check_timeout(path, timeout, timeout.asked, known)
        self._next = known

    def ask(self, what: str, timeout: _Timeout, seconds: float) -> None:
        path = self._check_in_hand(what)
        if not seconds >= 0:
            raise InvalidSpec(f"{path}: {what}: it must be at least 0 seconds, or inf, got {seconds}")
        _check_timeout(path, timeout, seconds, self.state if self._next is None else self._next)
        timeout.asked = seconds

    def _check_in_hand(self, what: str) -> str:
        """The machine's path. Raises NotInHandler."""
        # A machine that no system has started has none.
        context: Context | None = vars(self._machine).get("context")
        path = type(self._machine).__qualname__ if context is None else context.path
        if context is None or self._phase == "idle" or current_task() is not self._life.task:
            raise NotInHandler(
                f"{path}: {what}() belongs in init() or in a handler of the machine; elsewhere, send it a message"
            )
        if self._phase == "enter" and what == "goto":
            raise NotInHandler(
                f"{path}: goto() in the @on_enter method of {name_of(self.state)}; decide before it is entered, "
                "or set a state_timeout()"
            )
        return path

    # ---- what happens; each gives what the actor's loop is to await, or the reply

    def enter(self) -> object:
        if self._phase != "init":
            return None
        if self._next is not None:
            self.state, self._next = self._next, None
        return self._entered(None)

    def handle(self, message: object) -> object:
        self.event_timeout.cancel()
        handler = self._table.handler_for(type(message), self.state)
        if handler is not None:
            if cancels_on_leave(type(message)):
                handler = Cancellable(self._life, handler, self._stay)
            return self._call(handler, message)
        if self._machine.when_unhandled == "postpone":
            self._machine.context.defer()
        else:
            self._refuse(message)
        return None

    def time_out(self, message: StateTimeout | EventTimeout) -> object:
        timeout = self.state_timeout if type(message) is StateTimeout else self.event_timeout
        if not timeout.take(self._life, message):
            return None
        self.event_timeout.cancel()
        return self._call(timeout.handlers[self.state])

    def _refuse(self, message: object) -> None:
        life = self._life
        if life.cell is None:
            life.place.give_up(message, "not_in_state")
            return
        elsewhere = [name_of(state) for state in self._table.states_for(type(message))]
        error = NotInThisState(life.place.path, type(message), name_of(self.state), elsewhere)
        self._machine.context.defer_reply().fail(error)

    def _call(self, handler: Handler, *args: object) -> object:
        self._phase = "handler"
        result = handler(self._machine, *args)
        if type(result) is CoroutineType:
            return self._after_handler(cast("Coroutine[Any, Any, object]", result))
        entering = self._move()
        return result if entering is None else _result_after(entering, result)

    async def _after_handler(self, handling: Coroutine[Any, Any, object]) -> object:
        result = await handling
        entering = self._move()
        if entering is not None:
            await entering
        return result

    def _stay(self) -> None:
        """A handler has been cancelled: what it asked for does not count."""
        self._next = self.state_timeout.asked = self.event_timeout.asked = None

    def _move(self) -> Coroutine[Any, Any, None] | None:
        """A handler has returned: go where it said."""
        target, self._next = self._next, None
        if target is None:
            self._settle()
            return None
        previous = self.state
        if target != previous:
            self.state_timeout.cancel()
            self.state = target
            self._machine.context.replay_deferred()
        return self._entered(previous)

    def _entered(self, previous: State | None) -> Coroutine[Any, Any, None] | None:
        enter = self._table.enters.get(self.state)
        if enter is not None:
            self._phase = "enter"
            result = enter(self._machine, previous)
            if type(result) is CoroutineType:
                return self._after_enter(cast("Coroutine[Any, Any, object]", result))
        self._settle()
        return None

    async def _after_enter(self, entering: Coroutine[Any, Any, object]) -> None:
        await entering
        self._settle()

    def _settle(self) -> None:
        """The step is over: start the timeouts that were asked for."""
        for timeout in (self.state_timeout, self.event_timeout):
            self._numbers += 1
            timeout.start(self._life, self._numbers)
        self._phase = "idle"

    @property
    def _life(self) -> Incarnation:
        return self._machine.context._life  # noqa: SLF001  # one package


def _check_timeout(path: str, timeout: _Timeout, seconds: float, state: State) -> None:
    if seconds == math.inf or state in timeout.handlers:
        return
    raise InvalidSpec(
        f"{path}: a timeout for {name_of(state)}, which has no method marked for it; add one with @on_state_timeout "
        "or @on_event_timeout, or call goto() before setting the timeout of another state"
    )


async def _result_after(entering: Coroutine[Any, Any, None], result: object) -> object:
    await entering
    return result


# What stands in __handlers__, called by the actor's loop.


def _enter(machine: StateMachine[Any], _: StateEnter) -> object:
    return machine.__state_run__.enter()


def _handle(machine: StateMachine[Any], message: object) -> object:
    return machine.__state_run__.handle(message)


def _time_out(machine: StateMachine[Any], message: StateTimeout | EventTimeout) -> object:
    return machine.__state_run__.time_out(message)
