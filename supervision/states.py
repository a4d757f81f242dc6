"""Which method of a state machine is for what, in which state: the marks, and the table made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, TypeVar, final

from supervision.actor import Handler, check_handler
from supervision.errors import InvalidSpec

__all__ = ["in_state", "on_enter", "on_event_timeout", "on_state_timeout"]

State = Enum | str

F = TypeVar("F", bound=Callable[..., object])
Entering = TypeVar("Entering", bound=Callable[[Any, Any], object])
TimedOut = TypeVar("TimedOut", bound=Callable[[Any], object])

_Key = tuple[str, type | None, State | None]
"""The mark, the message's type if it is @handles, and the state: None for every one that has none of its own."""


def in_state(*states: State) -> Callable[[F], F]:
    """Above @handles in a StateMachine: a handler for these states only. Raises InvalidSpec for no states."""
    _check("in_state", states)

    def mark(function: F) -> F:
        vars(function)["__in_states__"] = (*getattr(function, "__in_states__", ()), *states)
        return function

    return mark


def on_enter(*states: State) -> Callable[[Entering], Entering]:
    """Mark a method, sync or async, that is called when one of these states is entered, with the state before (None
    in a new incarnation, after its init()). It may set timeouts, but not go to yet another state.
    """
    _check("on_enter", states)
    return _marker("on_enter", states)


def on_state_timeout(*states: State) -> Callable[[TimedOut], TimedOut]:
    """Mark a method, sync or async, that is called when state_timeout() is over in one of these states."""
    _check("on_state_timeout", states)
    return _marker("on_state_timeout", states)


def on_event_timeout(*states: State) -> Callable[[TimedOut], TimedOut]:
    """Mark a method, sync or async, that is called when event_timeout() is over in one of these states."""
    _check("on_event_timeout", states)
    return _marker("on_event_timeout", states)


def _check(mark: str, states: Sequence[object]) -> None:
    if not states or not all(isinstance(state, (Enum, str)) for state in states):
        raise InvalidSpec(f"@{mark}: name one or more states, members of an Enum or strings, got {states!r}")


def _marker(mark: str, states: Sequence[State]) -> Callable[[F], F]:
    def add(function: F) -> F:
        marks: tuple[_Key, ...] = getattr(function, "__state_marks__", ())
        vars(function)["__state_marks__"] = (*marks, *((mark, None, state) for state in states))
        return function

    return add


def name_of(state: State) -> str:
    return state.name if isinstance(state, Enum) else repr(state)


@final
class Table:
    """What a class of machines does, looked up by message type and state."""

    __slots__ = ("_handlers", "enters", "event_timeouts", "initial", "messages", "state_timeouts", "states")

    def __init__(self, owner: type, initial: State, states: Sequence[State]) -> None:
        self.initial = initial
        self.states = {state: state for state in states}
        self.messages: dict[type, None] = {}
        self._handlers: dict[tuple[type, State], Handler] = {}
        self.enters: dict[State, Handler] = {}
        self.state_timeouts: dict[State, Handler] = {}
        self.event_timeouts: dict[State, Handler] = {}
        everywhere: list[tuple[type, Handler]] = []
        for (mark, message_type, state), name in _declared(owner).items():
            method = check_handler(owner, name)
            if state is not None and state not in self.states:
                known = ", ".join(map(name_of, self.states))
                raise InvalidSpec(
                    f"{owner.__qualname__}: {name} is for {state!r}, which is none of its states; these are: {known}"
                )
            if message_type is None:
                assert state is not None
                by_state = {
                    "on_enter": self.enters,
                    "on_state_timeout": self.state_timeouts,
                    "on_event_timeout": self.event_timeouts,
                }
                by_state[mark][state] = method
                continue
            self.messages[message_type] = None
            if state is None:
                everywhere.append((message_type, method))
            else:
                self._handlers[message_type, state] = method
        for message_type, method in everywhere:
            for state in self.states:
                self._handlers.setdefault((message_type, state), method)

    def handler_for(self, message_type: type, state: State) -> Handler | None:
        """Of the type itself, or of the nearest type that it is derived from."""
        for base in message_type.__mro__:
            handler = self._handlers.get((base, state))
            if handler is not None:
                return handler
        return None

    def states_for(self, message_type: type) -> list[State]:
        """In which it has a handler."""
        return [state for state in self.states if self.handler_for(message_type, state) is not None]


def tabulate(owner: type, initial: object, states: Sequence[State]) -> Table:
    """Raises InvalidSpec for whatever makes no sense."""
    if not isinstance(initial, (Enum, str)):
        raise InvalidSpec(f"{owner.__qualname__}: a StateMachine needs `initial`, a state; got {initial!r}")
    if not states:
        if not isinstance(initial, Enum):
            raise InvalidSpec(f"{owner.__qualname__}: list its states, as in `states = ({initial!r}, ...)`")
        states = tuple(type(initial))
    if initial not in states:
        raise InvalidSpec(f"{owner.__qualname__}: its initial state {initial!r} is not in `states`")
    return Table(owner, initial, states)


def _declared(owner: type) -> dict[_Key, str]:
    """What is declared, by the name of its method, so that an override without a mark counts, too."""
    names: dict[_Key, str] = {}
    for base in reversed(owner.__mro__):
        own: dict[_Key, str] = {}
        for name, member in vars(base).items():
            for key in _keys_of(base, name, member):
                if own.setdefault(key, name) != name:
                    raise InvalidSpec(
                        f"{base.__qualname__}: {own[key]} and {name} are both {_describe(key)}; leave one"
                    )
        # An override with marks of its own is for these only.
        marked = set(own.values())
        names = {key: name for key, name in names.items() if name not in marked} | own
    return names


def _keys_of(base: type, name: str, member: object) -> Iterator[_Key]:
    message_types: tuple[type, ...] = getattr(member, "__handles__", ())
    states: tuple[State, ...] = getattr(member, "__in_states__", ())
    if states and not message_types:
        raise InvalidSpec(f"{base.__qualname__}: {name} has @in_state, but no @handles below it")
    for message_type in message_types:
        for state in states or (None,):
            yield "handles", message_type, state
    yield from getattr(member, "__state_marks__", ())


def _describe(key: _Key) -> str:
    mark, message_type, state = key
    what = f"@{mark}" if message_type is None else f"handlers of {message_type.__qualname__}"
    return what if state is None else f"{what} in {name_of(state)}"
