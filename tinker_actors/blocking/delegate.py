"""Methods of the trio handles as blocking ones: the same name, the same parameters, the same meaning.

A class of blocking handles lists the methods of its trio handle, each made by one of these functions. Their types
carry the parameters over, so a type checker sees every signature.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import WRAPPER_ASSIGNMENTS, partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from tinker_actors.blocking.engine import Engine
from tinker_actors.blocking.future import BlockingFuture, seconds
from tinker_actors.ledger import Future

__all__ = ["Handle", "accepted", "answered", "at_once", "blocking", "started"]

H = TypeVar("H")
P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")

_COPIED = tuple(name for name in WRAPPER_ASSIGNMENTS if name not in ("__module__", "__qualname__"))


class Handle(Generic[H]):
    """A trio handle for other threads. It is cheap, comparable, and printing it shows no secret."""

    def __init__(self, engine: Engine, inner: H, timeout: float | None = None) -> None:
        self._engine = engine
        self._inner = inner
        self._timeout = timeout

    def within(self, timeout: float | None) -> Self:
        """The same handle, whose blocking calls raise WaitTimeout after ``timeout`` seconds, saying what waits.

        A call that has timed out is cancelled; of a training operation, whose call returns when it is accepted, that
        means that it was not accepted. ``client.within(30).get_info()``. Raises InvalidInput for no length of time.
        """
        return self._again(seconds(timeout))

    def _again(self, timeout: float | None) -> Self:
        return type(self)(self._engine, self._inner, timeout)

    def _place(self) -> tuple[Engine, H]:
        """The engine, and what stands in it for this handle."""
        return self._engine, self._inner

    def _read(self, what: str, function: Callable[[H], R]) -> R:
        engine, inner = self._place()
        return engine.ask(what, lambda: function(inner), after_end=True)

    def _identity(self) -> object:
        return self._inner

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            f"a {type(self).__name__} can't be pickled, since it belongs to a runtime of this process: pickle a "
            "sampling client, or open a runtime in the other process"
        )

    def __repr__(self) -> str:
        return f"<blocking {self._identity()!r}>"


@overload
def blocking(method: Callable[Concatenate[H, P], Awaitable[R]]) -> Callable[Concatenate[Handle[H], P], R]: ...
@overload
def blocking(
    method: Callable[Concatenate[H, P], Awaitable[R]], made: Callable[[Engine, R], W]
) -> Callable[Concatenate[Handle[H], P], W]: ...
def blocking(
    method: Callable[Concatenate[H, P], Awaitable[Any]], made: Callable[[Engine, Any], Any] | None = None
) -> Callable[Concatenate[Handle[H], P], Any]:
    """``method``, which blocks until it returns or raises. ``made`` is what the caller gets of its result."""

    @wraps(method, _COPIED)
    def call(self: Handle[H], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        engine, inner = self._place()
        task = _task(method, engine, inner, made, *args, **kwargs)
        return engine.run(method.__name__, task, self._timeout)

    return call


@overload
def started(
    method: Callable[Concatenate[H, P], Awaitable[R]],
) -> Callable[Concatenate[Handle[H], P], BlockingFuture[R]]: ...
@overload
def started(
    method: Callable[Concatenate[H, P], Awaitable[R]], made: Callable[[Engine, R], W]
) -> Callable[Concatenate[Handle[H], P], BlockingFuture[W]]: ...
def started(
    method: Callable[Concatenate[H, P], Awaitable[Any]], made: Callable[[Engine, Any], Any] | None = None
) -> Callable[Concatenate[Handle[H], P], BlockingFuture[Any]]:
    """``method``, begun at the call, which returns a future at once: the ``_async`` twin."""

    @wraps(method, _COPIED)
    def call(self: Handle[H], /, *args: P.args, **kwargs: P.kwargs) -> BlockingFuture[Any]:
        engine, inner = self._place()
        task = _task(method, engine, inner, made, *args, **kwargs)
        return engine.start(method.__name__, task, self._timeout)

    return call


def accepted(
    method: Callable[Concatenate[H, P], Awaitable[Future[R]]],
) -> Callable[Concatenate[Handle[H], P], BlockingFuture[R]]:
    """``method``, which blocks until its operation is accepted, and returns the future of its result."""
    return blocking(method, lambda engine, future: engine.adopt(future, method.__name__))


@overload
def at_once(
    method: Callable[Concatenate[H, P], Future[R]],
) -> Callable[Concatenate[Handle[H], P], BlockingFuture[R]]: ...
@overload
def at_once(
    method: Callable[Concatenate[H, P], Future[R]], made: Callable[[Engine, R], W]
) -> Callable[Concatenate[Handle[H], P], BlockingFuture[W]]: ...
def at_once(
    method: Callable[Concatenate[H, P], Future[Any]], made: Callable[[Engine, Any], Any] | None = None
) -> Callable[Concatenate[Handle[H], P], BlockingFuture[Any]]:
    """The plain ``method``, which accepts or begins at the call or raises, and returns the future of the result."""

    @wraps(method, _COPIED)
    def call(self: Handle[H], /, *args: P.args, **kwargs: P.kwargs) -> BlockingFuture[Any]:
        engine, inner = self._place()

        def begin() -> BlockingFuture[Any]:
            future = getattr(inner, method.__name__)(*args, **kwargs)
            return engine.adopt(future if made is None else future.map(partial(made, engine)), method.__name__)

        return engine.ask(method.__name__, begin)

    return call


@overload
def answered(method: Callable[Concatenate[H, P], R]) -> Callable[Concatenate[Handle[H], P], R]: ...
@overload
def answered(
    method: Callable[Concatenate[H, P], R], made: Callable[[Engine, R], W]
) -> Callable[Concatenate[Handle[H], P], W]: ...
def answered(
    method: Callable[Concatenate[H, P], Any], made: Callable[[Engine, Any], Any] | None = None
) -> Callable[Concatenate[Handle[H], P], Any]:
    """The plain ``method``, called where it belongs. ``made`` is what the caller gets of its result."""

    @wraps(method, _COPIED)
    def call(self: Handle[H], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        engine, inner = self._place()
        now = partial(getattr(inner, method.__name__), *args, **kwargs)
        result = engine.ask(method.__name__, now, after_end=True)
        return result if made is None else made(engine, result)

    return call


def _task(
    method: Callable[..., Awaitable[Any]],
    engine: Engine,
    inner: Any,
    made: Callable[[Engine, Any], Any] | None,
    *args: Any,
    **kwargs: Any,
) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        result = await getattr(inner, method.__name__)(*args, **kwargs)
        return result if made is None else made(engine, result)

    return call
