"""Actors: a class whose methods handle typed messages, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Protocol, TypeVar, final, get_origin, overload

from supervision.context import Context
from supervision.errors import InvalidSpec, NotRunning, StopReason
from supervision.message import Call, Cast, cancels_on_leave

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation

__all__ = ["Actor", "handles"]

P = ParamSpec("P")
R = TypeVar("R")

Handler = Callable[[Any, Any], object]


class _HandlesCall(Protocol[R]):
    """Decorates a handler that returns the call's reply type (or None, when it has taken defer_reply())."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R | None]], /
    ) -> Callable[P, Coroutine[Any, Any, R | None]]: ...
    @overload
    def __call__(self, function: Callable[P, R | None], /) -> Callable[P, R | None]: ...


class _HandlesCast(Protocol):
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, None]], /
    ) -> Callable[P, Coroutine[Any, Any, None]]: ...
    @overload
    def __call__(self, function: Callable[P, None], /) -> Callable[P, None]: ...


@overload
def handles(message_type: type[Call[R]]) -> _HandlesCall[R]: ...
@overload
def handles(message_type: type[Cast]) -> _HandlesCast: ...
def handles(message_type: type[Any]) -> Any:
    """Mark a method, sync or async, as the handler of one message type (and of its subclasses that have none).

    For a Call[R] it returns R, or takes `self.context.defer_reply()` and answers later. Raises InvalidSpec for a
    type that is neither a Call nor a Cast.
    """
    check_message_type(message_type)

    def mark(function: Any) -> Any:
        # A method may handle several types.
        function.__handles__ = (*getattr(function, "__handles__", ()), message_type)
        return function

    return mark


def check_message_type(given: object) -> None:
    """Raises InvalidSpec for what is no type of messages."""
    if not (isinstance(given, type) and issubclass(given, (Call, Cast))):
        base = get_origin(given)
        if isinstance(base, type) and issubclass(base, (Call, Cast)):
            raise InvalidSpec(f"@handles: {given!r} has its parameters; name it without them: {base.__qualname__}")
        raise InvalidSpec(f"@handles: {given!r} is neither a Call nor a Cast; derive it from one of them")


@final
class _NoContext:
    """Stands in for the context of an actor that no system has started."""

    __slots__ = ()

    def __get__(self, actor: object, owner: type) -> Context:
        raise NotRunning(
            f"{owner.__qualname__} (an actor without a place)",
            "no system has started it",
            "make it with `await system.start_child(ChildSpec(name, factory))`, and use its context from init() on",
        )


class Actor:
    """Derive from it, mark handlers with @handles, and start it with a ChildSpec.

    `__init__` should only keep its arguments. Attributes do not survive a restart: what must survive belongs to
    an object that the factory closes over. While a handler runs no other message is handled.
    """

    __handlers__: ClassVar[dict[type, Handler]] = {}
    __cancellable__: ClassVar[bool] = False
    """Whether any handler is cancelled when its caller leaves."""
    __cancels_itself__: ClassVar[bool] = False
    """Whether what stands in __handlers__ sees to that itself."""
    __first__: ClassVar[Cast | None] = None
    """What each incarnation handles before any other message."""
    __calls__: ClassVar[frozenset[type]] = frozenset()
    __casts__: ClassVar[frozenset[type]] = frozenset()
    """Which of the handled types may be called, and which cast."""
    __life__: Incarnation | None = None
    """The latest one that it has had."""

    if TYPE_CHECKING:
        context: Context
        """Set before init(); earlier it raises NotRunning."""
    else:
        context = _NoContext()

    async def init(self) -> None:
        """Prepare. start_child() returns when this has returned, and raises what this raised."""

    async def terminate(self, reason: StopReason) -> None:
        """Clean up. Always runs after a successful init(), shielded from cancellation, for at most the spec's
        `shutdown` seconds; `reason.restarting` tells whether a next incarnation will come.
        """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        names: dict[type, str] = {}
        for base in reversed(cls.__mro__):
            own: dict[type, str] = {}
            for name, member in vars(base).items():
                if hasattr(member, "__in_states__") or hasattr(member, "__state_marks__"):
                    raise InvalidSpec(f"{base.__qualname__}: {name} is marked for a state; derive from StateMachine")
                for message_type in getattr(member, "__handles__", ()):
                    if message_type in own:
                        raise InvalidSpec(
                            f"{base.__qualname__}: {own[message_type]} and {name} both handle "
                            f"{message_type.__qualname__}; leave one"
                        )
                    own[message_type] = name
            names |= own
        # By name, so that an override without the decorator counts, too.
        declare(cls, {message_type: check_handler(cls, name) for message_type, name in names.items()})


def check_handler(owner: type, name: str) -> Handler:
    """The method of this name. Raises InvalidSpec for a generator, of which no line would run."""
    method: Handler = getattr(owner, name)
    if isgeneratorfunction(method) or isasyncgenfunction(method):
        raise InvalidSpec(
            f"{owner.__qualname__}: {name} is a generator: a handler returns its reply, it can't yield; "
            "send a cast for each item instead"
        )
    return method


def declare(cls: type[Actor], handlers: dict[type, Handler]) -> None:
    """Tell a class of actors what it handles."""
    cls.__handlers__ = handlers
    cls.__casts__ = frozenset(known for known in handlers if issubclass(known, Cast))
    cls.__calls__ = frozenset(handlers) - cls.__casts__
    cls.__cancellable__ = any(map(cancels_on_leave, handlers))
