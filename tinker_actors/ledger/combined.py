"""Several Futures as one: all of them, the first of them, each as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar, cast, final

import trio

from tinker_actors.errors import InvalidInput
from tinker_actors.flow.home import Home
from tinker_actors.ledger.future import Future

__all__ = ["as_completed", "first", "gather"]

T = TypeVar("T")

_SHOWN = 3


def gather(futures: Iterable[Future[T]], *, return_errors: bool = False) -> Future[tuple[T, ...]]:
    """A Future of all results, in the order given. No futures give an empty tuple.

    It ends with the first error as soon as there is one, and the others go on; with ``return_errors`` it waits for
    all, and errors stand among the results. Cancelling it cancels all. Raises InvalidInput for what is no Future.
    """
    parts = _checked(futures)
    whole: Future[tuple[T, ...]] = Future(
        lambda: _described("all", parts), lambda: _cancel(parts), parts[0].home if parts else Home()
    )
    left = len(parts)
    take = _outcome_or_error if return_errors else _outcome

    def ended(part: Future[T]) -> None:
        nonlocal left
        left -= 1
        if whole.done():
            return
        if part.failed() and not return_errors:
            whole.settle_as(part, cast("Callable[[], Any]", part.outcome))
        elif left == 0:
            whole.resolve_later(lambda: tuple([take(part) for part in parts]))

    for part in parts:
        part.when_done(lambda part=part: ended(part))
    if not parts:
        whole.resolve(())
    return whole


def first(futures: Iterable[Future[T]]) -> Future[T]:
    """A Future of the result, or the error, of whichever ends first; the others go on.

    Cancelling it cancels all of them. Raises InvalidInput for none at all, and for what is no Future.
    """
    parts = _checked(futures)
    if not parts:
        raise InvalidInput("futures", "are none", "Give at least one Future")
    winner: Future[T] = Future(lambda: _described("the first", parts), lambda: _cancel(parts), parts[0].home)
    listeners: list[tuple[Future[T], Callable[[], None]]] = []

    def ended(part: Future[T]) -> None:
        if winner.done():
            return
        winner.settle_as(part, part.outcome)
        for other, listener in listeners:  # one that runs for long must not gather those of each race that it lost
            other.unlisten(listener)

    for part in parts:

        def listener(part: Future[T] = part) -> None:
            ended(part)

        listeners.append((part, listener))
        part.when_done(listener)
        if winner.done():
            break
    return winner


def as_completed(futures: Iterable[Future[T]]) -> AsyncIterator[Future[T]]:
    """The same Futures, each as soon as it is done: ``async for future in as_completed(futures)``.

    Those that are done already come first, in the order given. Raises InvalidInput for what is no Future.
    """
    return _AsCompleted(_checked(futures))


@final
class _AsCompleted(AsyncIterator[Future[T]]):
    def __init__(self, parts: tuple[Future[T], ...]) -> None:
        self._left = len(parts)
        self._ready: deque[Future[T]] = deque()
        self._waiting = trio.lowlevel.ParkingLot()
        for part in parts:
            part.when_done(lambda part=part: self._add(part))

    def _add(self, part: Future[T]) -> None:
        self._ready.append(part)
        self._waiting.unpark()

    async def __anext__(self) -> Future[T]:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        try:
            await trio.lowlevel.checkpoint()
            while not self._ready:
                await self._waiting.park()
        except BaseException:
            self._left += 1
            raise
        return self._ready.popleft()


def _checked(futures: Iterable[Future[T]]) -> tuple[Future[T], ...]:
    cure = "Give Futures, as the methods of clients return them"
    try:
        parts = tuple(futures)
    except TypeError:
        raise InvalidInput("futures", f"are of type {type(futures).__name__}", cure) from None
    for index, part in enumerate(parts):
        if not isinstance(part, Future):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
            raise InvalidInput(f"futures[{index}]", f"is of type {type(part).__name__}", cure)
    return parts


def _cancel(parts: tuple[Future[Any], ...]) -> bool:
    cancelled = [part.cancel() for part in parts]
    return any(cancelled)


def _described(which: str, parts: tuple[Future[Any], ...]) -> str:
    left = [part for part in parts if not part.done()]
    shown = "; ".join(part.description for part in left[:_SHOWN])
    more = f"; and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return f"{which} of {len(parts)}, {len(left)} not done: {shown}{more}"


def _outcome(part: Future[T]) -> T:
    return part.outcome()


def _outcome_or_error(part: Future[T]) -> Any:
    try:
        return part.outcome()
    except Exception as error:  # noqa: BLE001  # asked for as a value
        return error
