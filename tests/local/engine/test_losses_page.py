"""docs/losses.md says of each loss what the table of losses has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.local.engine.scenes import CONFIGS, make_datum, trained
from tinker_actors.local.engine import Engine, ForwardBackward
from tinker_actors.local.engine.losses import LOSSES

PAGE = (Path(__file__).parents[3] / "docs" / "losses.md").read_text("utf-8")


def rows(title: str) -> list[list[str]]:
    """The cells of the table whose head begins with ``title``."""
    table = PAGE[PAGE.index(f"| {title} |") :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_page_has_every_loss_with_its_inputs_and_defaults() -> None:
    found = {row[0].strip("`"): row[1:] for row in rows("loss")}
    assert list(found) == list(LOSSES)
    for name, loss in LOSSES.items():
        inputs, settings, _ = found[name]
        needed = re.sub(r"\(`\w+`\)", "", inputs)
        assert tuple(re.findall(r"`(\w+)`", needed)) == loss.inputs
        assert tuple(re.findall(r"\(`(\w+)`\)", inputs)) == loss.optional
        told = {key: float(value) for key, value in re.findall(r"`(\w+)` ([\d.]+)", settings)}
        assert told == pytest.approx(dict(loss.settings))


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_the_page_has_every_metric(loss_fn: str) -> None:
    engine = Engine()
    trained(engine)
    data = (make_datum(6, 1, vocabulary=32, loss_fn=loss_fn),)
    found = engine.apply(ForwardBackward("m", data, loss_fn, CONFIGS[loss_fn], forward_only=True)).metrics
    told: set[str] = set()
    for names, losses, _ in rows("metric"):
        has_logprobs = "logprobs" in LOSSES[loss_fn].inputs
        if losses == "every loss" or f"`{loss_fn}`" in losses or (losses.startswith("those with") and has_logprobs):
            told |= set(re.findall(r"`([\w:]+)`", names))
    assert told == set(found)
