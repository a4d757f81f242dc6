"""Telling crashes from what must pass, and keeping of a crash only what pins no frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from supervision.errors import CrashReport, members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__: list[str] = []


def contains_fatal(error: BaseException) -> bool:
    """Whether it is, or holds, something that no supervisor may mend: KeyboardInterrupt, SystemExit, and whatever
    else is neither an Exception nor Cancelled.
    """
    return any(not isinstance(leaf, (Exception, trio.Cancelled)) for leaf in _leaves(error))


def is_cancellation(error: BaseException) -> bool:
    """Whether it is Cancelled and nothing else."""
    return all(isinstance(leaf, trio.Cancelled) for leaf in _leaves(error))


def holds(error: BaseException, what: Callable[[BaseException], bool]) -> bool:
    """Whether it is, or holds, one for which ``what`` is true."""
    return any(what(leaf) for leaf in _leaves(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Itself, or what a group comes down to. Without recursion, as below: errors nest as deep as they like."""
    pending = [error]
    while pending:
        one = pending.pop()
        members = members_of(one)
        if members:
            pending.extend(members)
        else:
            yield one


def report_crash(
    error: BaseException, path: str, incarnation: int, at: float, message: object, *, strip: bool = False
) -> CrashReport:
    """The report of a crash. With `strip` the tracebacks are taken off: they would keep the dead actor alive."""
    frames: list[tuple[str, int, str]] = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append((code.co_filename, traceback.tb_lineno, code.co_qualname))
        traceback = traceback.tb_next
    if strip:
        strip_tracebacks(error)
    # The first frame is the library's own.
    return CrashReport(path, incarnation, at, error, tuple(frames[1:]), message)


def strip_tracebacks(error: BaseException) -> None:
    """Of the error and of all that it holds."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        pending += members_of(one)
        if one.__cause__ is not None:
            pending.append(one.__cause__)
        if one.__context__ is not None:
            pending.append(one.__context__)
