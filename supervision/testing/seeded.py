"""A trio program under a virtual clock, its scheduling fixed by a seed."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple, Unpack, final

import trio
from trio.testing import MockClock

__all__ = ["run_seeded", "VirtualHang"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualHang(AssertionError):
    """The program did not end within the virtual time allowed, for it waits for something that never comes; or it
    runs for ever, so that no time passes.
    """


def _scheduler() -> tuple[object, random.Random]:
    """trio's module of the scheduler and the generator it draws from: private names, so look before use. Raises
    RuntimeError if one has moved, also the one that the sweep throws with.
    """
    module = trio._core._run  # noqa: SLF001
    expected = {
        "_core._run._ALLOW_DETERMINISTIC_SCHEDULING": isinstance(
            getattr(module, "_ALLOW_DETERMINISTIC_SCHEDULING", None), bool
        ),
        "_core._run._r": isinstance(getattr(module, "_r", None), random.Random),
        "lowlevel.Task._next_send": hasattr(trio.lowlevel.Task, "_next_send"),
    }
    moved = [name for name, found in expected.items() if not found]
    if moved:
        raise RuntimeError(
            f"trio {trio.__version__} has moved private names that supervision.testing needs: {', '.join(moved)}; "
            "seeded.py and sweep.py must follow, until then pin an earlier trio"
        )
    return module, module._r  # noqa: SLF001


@contextmanager
def seeded_scheduler(seed: int) -> Generator[None]:
    """Within it, trio runs the tasks that are ready in an order that `seed` fixes."""
    module, generator = _scheduler()
    before = vars(module)["_ALLOW_DETERMINISTIC_SCHEDULING"]
    state = generator.getstate()
    vars(module)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    generator.seed(seed)
    try:
        yield
    finally:
        vars(module)["_ALLOW_DETERMINISTIC_SCHEDULING"] = before
        generator.setstate(state)


def run_seeded(
    async_fn: Callable[[Unpack[Ts]], Awaitable[T]],
    *args: *Ts,
    seed: int,
    limit: float = 1e6,
    turns: int = 1_000_000,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """Run `async_fn(*args)` with trio, and give back what it returns.

    The clock is virtual: time passes only while nothing can run. The same seed gives the same schedule. After
    `limit` virtual seconds the run is cancelled and VirtualHang raised, with what every task waited for; so it is
    after `turns` turns of the loop in which no time has passed. An error gets a note with the seed.
    """
    standstill = _Standstill(turns)

    async def main() -> T:
        trio.lowlevel.spawn_system_task(_guard, trio.current_time() + limit)
        with trio.CancelScope(deadline=trio.current_time() + limit) as scope:
            standstill.scope = scope
            return await async_fn(*args)
        raise VirtualHang(standstill.found or f"not finished after {limit:g} virtual seconds")

    with seeded_scheduler(seed):
        try:
            return trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[*instruments, standstill])
        except trio.TrioInternalError as error:
            if isinstance(error.__cause__, VirtualHang):
                raise VirtualHang(f"{error.__cause__} (seed {seed})") from None
            raise
        except BaseException as error:
            error.add_note(f"run_seeded: seed={seed}")
            raise


@final
class _Standstill(trio.abc.Instrument):
    """Ends a program that always has something to do: the virtual clock stands still for it."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self.scope: trio.CancelScope | None = None
        self.found: str | None = None
        self._turns = 0
        self._at = -1.0

    def before_io_wait(self, timeout: float) -> None:
        """For trio."""
        now = trio.current_time()
        self._turns = self._turns + 1 if now == self._at else 0
        self._at = now
        if self._turns > self._allowed and self.found is None and self.scope is not None:
            self.found = f"after {self._allowed:,} turns of the loop no time has passed since {now:g}"
            self.scope.cancel(reason=self.found)


_PATIENCE = 1000.0  # virtual seconds for a cancelled program to end, shields included


async def _guard(limit: float) -> None:
    """If even cancelling does not end the program, break trio's loop: nothing else gets past a shield."""

    def abort(_: object) -> trio.lowlevel.Abort:
        raise VirtualHang("cancelled at its limit, the program still did not end:" + _stacks())

    # Ends when the program has: trio cancels system tasks then.
    await trio.sleep_until(limit + _PATIENCE)
    with trio.CancelScope(deadline=trio.current_time() + 1):
        await trio.lowlevel.wait_task_rescheduled(abort)


def _stacks() -> str:
    """What every task of the program waits for."""
    lines: list[str] = []
    root = trio.lowlevel.current_root_task()
    pending = [] if root is None else [root]
    while pending:
        task = pending.pop()
        frames = [
            f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}" for frame, line in task.iter_await_frames()
        ]
        lines.append(f"\n  {task.name}: {' < '.join(reversed(frames[-4:]))}")
        for nursery in task.child_nurseries:
            pending.extend(nursery.child_tasks)
    return "".join(lines)
