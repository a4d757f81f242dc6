"""What supervised tasks run in the tests."""

from __future__ import annotations

from typing import Any

import trio

from supervision import (
    TaskSupervisor,
    TaskSupervisorSpec,
)
from tests.supervision.world import Boom


async def nap(seconds: float, value: str = "rested") -> str:
    await trio.sleep(seconds)
    return value


async def deeper(text: str) -> None:
    await trio.lowlevel.checkpoint()
    raise Boom(text)


async def fail(seconds: float, text: str = "of the task") -> str:
    await trio.sleep(seconds)
    await deeper(text)
    return "never"


async def supervisor(s: Any, **options: Any) -> TaskSupervisor:
    tasks = await s.start_child(TaskSupervisorSpec("tasks", **options))
    assert isinstance(tasks, TaskSupervisor)
    return tasks
