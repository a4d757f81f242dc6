"""What an actor does now, in words and as a place in the code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation

__all__: list[str] = []

_TRIO = str(Path(trio.__file__).parent)
_FOREIGN = (str(Path(__file__).parent), _TRIO)


def doing(life: Incarnation) -> str:
    """What it does, since when, and where, in words that continue "the callee"."""
    place = life.place
    now = place.system.now()
    if life.ending:
        return _at(f"has been ending for {now - place.since:.3g} s", life.task)
    if not life.initialized:
        return _at(f"has been starting (in init) for {now - place.since:.3g} s", life.task)
    if life.hand is None:
        owed, aside = len(life.deferred or ()), len(place.inbox.aside or ())
        text = f"is idle, with {owed} replies owed" if owed else "is idle"
        return f"{text}; {aside} messages set aside" if aside else text
    text = f"has been handling {type(life.hand).__qualname__} for {now - life.hand_since:.3g} s"
    if life.waiting is not None:
        text += f", waiting for {life.waiting.place.path}"
    return _at(text, life.task)


def _at(text: str, task: trio.lowlevel.Task | None) -> str:
    where = users_place(task)
    return f"{text}, at {where}" if where else text


def users_place(task: trio.lowlevel.Task | None) -> str:
    """The innermost place of its await stack that lies in the user's own code; "" if there is none."""
    return next((line for line in reversed(await_stack(task)) if not line.startswith(_FOREIGN)), "")


def place_of(task: trio.lowlevel.Task) -> str:
    """As users_place(); where no code of the user's waits, the library's own place, or "its end"."""
    where = users_place(task)
    if where:
        return where
    return next((line for line in reversed(await_stack(task)) if not line.startswith(_TRIO)), "its end")


def await_stack(task: trio.lowlevel.Task | None) -> tuple[str, ...]:
    """Outermost first: `file:line in function`. Nothing for a task that has ended."""
    if task is None or getattr(task.coro, "cr_frame", None) is None:
        return ()
    return tuple(
        f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}" for frame, line in task.iter_await_frames()
    )
