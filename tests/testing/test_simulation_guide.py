"""The page about simulated runs: its code runs as it stands, and what it says of a replay is so."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tinker_actors.testing.faults import FaultPlan
from tinker_actors.testing.simulation import World, simulate

GUIDE = Path(__file__).parents[2] / "docs" / "simulation.md"


def test_a_loop_of_the_users_own_is_simulated_as_the_page_says() -> None:
    text = GUIDE.read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shown = [block for block in blocks if "simulate(" in block]
    assert len(shown) == 2
    names: dict[str, Any] = {"__name__": "guide"}
    for block in shown:
        line = text[: text.index(block)].count("\n")
        exec(compile("\n" * line + block, str(GUIDE), "exec"), names)
    scenario, plan = cast("Callable[[World], Awaitable[object]]", names["scenario"]), cast("FaultPlan", names["plan"])
    assert repr(simulate(scenario, seed=2, plan=plan)) == repr(names["run"])  # with all that happened, in order

    async def wrong(world: World) -> None:
        await scenario(world)
        raise AssertionError("a bug of the loop")

    with pytest.raises(AssertionError, match="a bug of the loop") as caught:
        simulate(wrong, seed=2, plan=plan)
    assert f"to run it again: seed=2, plan={plan!r}" in caught.value.__notes__
