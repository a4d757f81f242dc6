"""The program of docs/telemetry.md does what the page says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.telemetry.reporting import Planted, names, report
from tinker_actors.clients import ServiceClient
from tinker_actors.testing.simulation import World

PAGE = Path(__file__).resolve().parents[2] / "docs" / "telemetry.md"


def test_the_program_on_the_page():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    space: dict[str, Any] = {}
    exec(f"async def page(service, train):\n{textwrap.indent(code, '    ')}", space)

    async def train(service: ServiceClient) -> None:
        raise Planted

    async def story(world: World, service: ServiceClient):
        with pytest.raises(Planted):
            await space["page"](service, train)
        return names(world, service)

    assert report(story).value == ["SESSION_START", "dataset.loaded", "UNHANDLED_EXCEPTION"]
