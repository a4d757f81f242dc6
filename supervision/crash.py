"""Telling crashes from what must pass, and keeping of a crash only what pins no frame."""

from __future__ import annotations

import trio

from supervision.errors import CrashReport, members_of

__all__: list[str] = []


def contains_fatal(error: BaseException) -> bool:
    """Whether it is, or holds, something that no supervisor may mend: KeyboardInterrupt, SystemExit, and whatever
    else is neither an Exception nor Cancelled.
    """
    members = members_of(error)
    if members:
        return any(contains_fatal(member) for member in members)
    return not isinstance(error, (Exception, trio.Cancelled))


def is_cancellation(error: BaseException) -> bool:
    """Whether it is Cancelled and nothing else."""
    members = members_of(error)
    if members:
        return all(is_cancellation(member) for member in members)
    return isinstance(error, trio.Cancelled)


def report_crash(
    error: BaseException, path: str, incarnation: int, at: float, message: object, *, strip: bool
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
    _strip(error, set())


def _strip(error: BaseException, seen: set[int]) -> None:
    if id(error) in seen:
        return
    seen.add(id(error))
    error.__traceback__ = None
    for other in (error.__cause__, error.__context__):
        if other is not None:
            _strip(other, seen)
    for member in members_of(error):
        _strip(member, seen)
