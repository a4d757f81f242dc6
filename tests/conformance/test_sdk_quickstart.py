"""The official SDK 0.38.0 runs its quickstart against the local server: train, save, load, sample."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.programs.quickstart import TOKENS
from tests.local.process import KEY, TINY, serving

pytestmark = [pytest.mark.conformance, pytest.mark.process]

RATES = {TINY: "0.02", "tinker-actors/base-s": "0.003"}
PROGRAM = Path(__file__).parent / "programs" / "quickstart.py"


@pytest.fixture(scope="module", params=RATES)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def seen(model: str) -> dict[str, Any]:
    # a process of its own: the SDK's threads, sockets and warnings are not ours
    with serving(models=(model,), fwdbwd_max_chunk_len=2) as server:
        command = [sys.executable, str(PROGRAM), server.url, KEY, model, RATES[model]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def test_the_server_says_what_it_offers(seen: dict[str, Any], model: str) -> None:
    ((name, context, trainable, sampleable),) = seen["models"]
    assert (name, trainable, sampleable) == (model, True, True)
    assert context > 0
    model_id, *rest = seen["info"]
    assert model_id.endswith(":train:0")
    assert rest == [model, True, 8]


def test_training_learns(seen: dict[str, Any]) -> None:
    losses = seen["losses"]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.5 * losses[0]
    assert len(seen["trained"]) == len(TOKENS) - 1
    assert -sum(seen["trained"]) < losses[-1]


def test_a_saved_state_goes_on_as_if_nothing_had_been(seen: dict[str, Any]) -> None:
    assert seen["saved"] == f"tinker://{seen['info'][0]}/weights/middle"
    assert seen["resumed"] == seen["trained"] == seen["weights_only"]
    assert seen["losses_resumed"] == seen["losses_original"]


def test_samples_show_what_was_learnt(seen: dict[str, Any]) -> None:
    assert len(seen["samples"]) == 2
    for tokens, stop_reason, logprobs, _ in seen["samples"]:
        assert tokens == TOKENS[3:7]
        assert stop_reason == "length"
        assert len(logprobs) == 4
        assert logprobs == pytest.approx(seen["at_the_end"][2:6], abs=1e-3)
    assert len({sequence_id for *_, sequence_id in seen["samples"]}) == 2
    first, *rest = seen["sampler_logprobs"]
    assert first is None
    assert rest == pytest.approx(seen["at_the_end"], abs=1e-3)
    assert seen["path"] == f"tinker://{seen['info'][0]}/sampler_weights/final"
    assert seen["named_sample"] == TOKENS[3:7]
    assert sum(seen["base_logprobs"][1:]) < sum(rest) - 1.0


def test_a_batch_in_chunks_is_the_same_batch(seen: dict[str, Any]) -> None:
    one, many, outputs = seen["chunks"]
    assert many == pytest.approx(7 * one, rel=1e-5)
    assert outputs == 7


def test_checkpoints_are_listed(seen: dict[str, Any]) -> None:
    assert seen["listed"] == [
        ["weights/middle", "training", seen["saved"]],
        ["sampler_weights/final", "sampler", seen["path"]],
    ]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("base_model", "BadRequestError", ("no/such", "Use one of: tinker-actors/")),
        ("rank", "BadRequestError", ("4096", "at most 128")),
        ("token", "BadRequestError", ("5000", "vocabulary of")),
        ("path", "NotFoundError", ("there is no checkpoint tinker://nobody/weights/none",)),
        ("sampler", "NotFoundError", ("there is no checkpoint tinker://nobody/sampler_weights/none",)),
    ],
)
def test_bad_input_is_told_plainly(seen: dict[str, Any], name: str, error: str, words: tuple[str, ...]) -> None:
    raised, text = seen["refusals"][name]
    assert raised == error
    assert all(word in text for word in words), text
