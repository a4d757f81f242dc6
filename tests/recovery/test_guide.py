"""The program of docs/recovery.md does what the page says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from tests.clients.test_epochs import steps
from tinker_actors import Config, RecoveryPolicy, open_runtime
from tinker_actors.ports import InlineOffload
from tinker_actors.testing.simulation import World, simulate

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recovery.md"


def test_the_program_on_the_page():
    (code,) = [
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "recover(" in code
    ]
    told: list[tuple[Any, Any, Any]] = []

    async def story(world: World) -> str:
        service = await world.runtime.create_service_client()
        client = await service.create_lora_training_client("tinker-actors/tiny", rank=2)
        await steps(client, 1)
        saved = (await (await client.save_state("kept")).result()).path

        def opened(*, config: Config) -> Any:
            return open_runtime(config=config, transport=world.transport, offload=InlineOffload(), seed=3)

        class Loaded:
            @staticmethod
            def load(**options: Any) -> Config:
                return Config.load(base_url="https://server", api_key="tml-test", environ={}, **options)

        body = code.replace("def on_recovery(old, new, checkpoint): ...", "").replace('"best"', '"latest"')
        end = "    return recovered, runtime.recovery.monitored()"
        space: dict[str, Any] = {"RecoveryPolicy": RecoveryPolicy, "Config": Loaded, "open_runtime": opened}
        space["on_recovery"] = lambda *given: told.append(given)
        exec(f"async def page(run_id):\n{textwrap.indent(body + end, '    ')}", space)
        recovered, monitored = await space["page"](client.model_id)
        assert monitored == (client.model_id,)
        assert recovered.checkpoint == saved
        return saved

    saved = simulate(story, seed=1).value
    ((old, new, checkpoint),) = told
    assert (old, checkpoint) == (None, saved)
    assert new is not None
