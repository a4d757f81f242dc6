"""Replies that are checked against the type that their Call declares. Opt-in, by open_system's strict_replies: the
loop of an actor knows nothing of it.

The rule: a reply passes if it is an instance of R; of a generic type its origin counts, of a union any member, of a
Literal its values, of Annotated, NewType and aliases what they stand for; as for type checkers an int passes for a
float, and both for a complex; Any, type variables and protocols that can't be checked at run time let all pass.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from types import CoroutineType, NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NewType,
    TypeVar,
    Union,
    cast,
    final,
    get_args,
    get_origin,
    is_typeddict,
)

import msgspec

from supervision.errors import InvalidSpec, WrongReply
from supervision.events import ReplyRefused
from supervision.message import Call, Cast

if TYPE_CHECKING:
    from supervision.actor import Handler
    from supervision.incarnation import Incarnation
    from supervision.reply import ReplyCell

__all__: list[str] = []


class Declared(msgspec.Struct, frozen=True):
    """What a call declares of its reply."""

    text: str
    classes: tuple[type, ...] | None
    """None: anything."""
    values: tuple[object, ...] = ()

    def passes(self, reply: object) -> bool:
        return (
            self.classes is None
            or isinstance(reply, self.classes)
            or any(type(value) is type(reply) and value == reply for value in self.values)
        )


@final
class StrictReplies:
    """Of one system: what is known of its types of calls."""

    __slots__ = ("_declared",)

    def __init__(self) -> None:
        self._declared: dict[type, Declared] = {}

    def checked(self, life: Incarnation, handlers: dict[type, Handler]) -> dict[type, Handler]:
        """The same handlers for this one life, what they return for a call checked. Raises InvalidSpec for a call
        that declares what can't be told.
        """
        calls: list[type] = [known for known in handlers if not issubclass(known, Cast)]
        for known in calls:
            self._of(known)

        def wrap(handler: Handler) -> Handler:
            def handle(actor: object, message: object) -> object:
                result = handler(actor, message)
                if type(result) is CoroutineType:
                    return finish(cast("Coroutine[Any, Any, object]", result))
                return check(result)

            return handle

        async def finish(result: Coroutine[Any, Any, object]) -> object:
            return check(await result)

        def check(reply: object) -> object:
            cell = life.cell  # none if it is a cast, or if its reply or itself is deferred
            if cell is None or not self.refuses(cell, reply):
                return reply
            life.envelope = cell  # as if deferred: it has been answered
            return None

        return handlers | {known: wrap(handlers[known]) for known in calls}

    def refuses(self, cell: ReplyCell, reply: object) -> bool:
        """Whether it is the wrong reply, which its caller has been told."""
        message = cell.message
        place = cell.place
        error: WrongReply | InvalidSpec
        try:
            declared = self._of(type(message))
        except InvalidSpec as unclear:
            error = unclear
        else:
            if declared.passes(reply):
                return False
            error = WrongReply(place.path, message, reply, declared.text)
        cell.fail(error)
        place.system.events.emit(ReplyRefused(place.path, message, error))
        return True

    def _of(self, message_type: type) -> Declared:
        known = self._declared.get(message_type)
        if known is None:
            known = self._declared[message_type] = declared_reply(message_type)
        return known


def declared_reply(message_type: type) -> Declared:
    """What a type of calls declares. Raises InvalidSpec."""
    wanted = _parameter(message_type)
    try:
        classes = _classes(wanted, message_type)
    except NameError as error:
        raise InvalidSpec(
            f"strict_replies: {message_type.__qualname__} declares the reply {wanted!r}, and at run time {error}; "
            "import it there, or name the type itself"
        ) from None
    text = wanted.__qualname__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted)
    if classes is None:
        return Declared(text, None)
    values = tuple(value for kind, value in classes if kind is None)
    return Declared(text, tuple(kind for kind, _ in classes if kind is not None), values)


def _parameter(message_type: type) -> object:
    """R of the Call[R] that it is derived from, or a type variable."""
    bases = cast("tuple[Any, ...]", getattr(message_type, "__orig_bases__", message_type.__bases__))
    for base in bases:
        origin: Any = get_origin(base) or base
        if Call not in getattr(origin, "__mro__", ()):
            continue
        arguments = get_args(base)
        if origin is Call:
            return arguments[0] if arguments else Any
        found = _parameter(origin)
        if isinstance(found, TypeVar) and arguments:
            parameters = cast("tuple[object, ...]", getattr(origin, "__parameters__", ()))
            return dict(zip(parameters, arguments, strict=False)).get(found, found)
        return found
    return Any


_Kinds = list[tuple[type | None, object]]
"""Classes, and (with None) values."""


def _classes(wanted: Any, message_type: type) -> _Kinds | None:
    """None if anything passes. Raises NameError for a forward reference that leads nowhere."""
    if isinstance(wanted, (str, ForwardRef)):
        text = wanted if isinstance(wanted, str) else wanted.__forward_arg__
        names = vars(sys.modules[message_type.__module__])
        return _classes(eval(text, dict(names)), message_type)  # noqa: S307  # an annotation, as typing does
    if wanted is None:
        return [(NoneType, None)]
    if isinstance(wanted, NewType):
        return _classes(wanted.__supertype__, message_type)
    if hasattr(wanted, "__value__"):  # an alias by `type` or TypeAliasType
        return _classes(wanted.__value__, message_type)
    if is_typeddict(wanted):
        return [(dict, None)]
    origin = get_origin(wanted)
    if origin is Annotated:
        return _classes(get_args(wanted)[0], message_type)
    if origin is Literal:
        return [(None, value) for value in get_args(wanted)]
    if origin is Union or origin is UnionType:
        kinds: _Kinds = []
        for member in get_args(wanted):
            of_member = _classes(member, message_type)
            if of_member is None:
                return None
            kinds += of_member
        return kinds
    kind = wanted if origin is None else origin
    if not isinstance(kind, type) or kind is object:
        return None
    try:
        isinstance(None, kind)
    except TypeError:
        return None  # a protocol
    tower = {float: (int,), complex: (float, int)}.get(kind, ())
    return [(kind, None), *((lower, None) for lower in tower)]
