"""The official SDK 0.38.0 trains with every loss on samples of the local server."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.programs.losses import ADVANTAGES, CONFIGS
from tests.local.process import KEY, TINY, serving

pytestmark = [pytest.mark.conformance, pytest.mark.process]

PROGRAM = Path(__file__).parent / "programs" / "losses.py"


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    with serving(models=(TINY,), fwdbwd_max_chunk_len=2) as server:  # so each batch of three is two requests
        command = [sys.executable, str(PROGRAM), server.url, KEY, TINY]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def expected(loss_fn: str, lp: np.ndarray, old: np.ndarray, advantage: float) -> float:
    config, ratio = CONFIGS[loss_fn], np.exp(lp - old)
    low, high = config.get("clip_low_threshold"), config.get("clip_high_threshold")
    match loss_fn:
        case "importance_sampling":
            return -(ratio * advantage).sum()
        case "ppo":
            return -np.minimum(ratio * advantage, np.clip(ratio, low, high) * advantage).sum()
        case "cispo":
            return -(np.clip(ratio, low, high) * lp * advantage).sum()
        case "dro":
            return -(lp * advantage).sum() + 0.5 * config["beta"] * ((lp - old) ** 2).sum()
        case "gspo":
            whole = np.exp((lp - old).mean())
            return -len(lp) * min(whole * advantage, np.clip(whole, low, high) * advantage)
        case _:
            pull = 0.5 * config["kl_coeff"] * ((lp - old) ** 2).sum()
            return pull - (np.minimum(ratio, 1.0) * lp * advantage).sum()


@pytest.mark.parametrize("loss_fn", CONFIGS)
def test_each_loss_is_its_formula(seen: dict[str, Any], loss_fn: str) -> None:
    result = seen["results"][loss_fn]
    assert result["metrics"]["tokens:sum"] == 3 * 9
    total = sum(
        expected(loss_fn, np.array(lp), np.array(old), advantage)
        for lp, old, advantage in zip(result["new"], seen["old"], ADVANTAGES, strict=True)
    )
    if loss_fn == "dro":  # the prompt's positions have no advantage, but are pulled as well
        assert result["metrics"]["loss:sum"] > total
    else:
        assert result["metrics"]["loss:sum"] == pytest.approx(total, rel=1e-4)


def test_metrics_of_chunks_are_put_together_by_the_sdk(seen: dict[str, Any]) -> None:
    result = seen["results"]["ppo"]
    logs = [np.array(lp) - np.array(old) for lp, old in zip(result["new"], seen["old"], strict=True)]
    assert result["metrics"]["ratio:max"] == pytest.approx(math.exp(max(log.max() for log in logs)), rel=1e-4)
    assert result["metrics"]["ratio:min"] == pytest.approx(math.exp(min(log.min() for log in logs)), rel=1e-4)
    assert result["metrics"]["kl:mean"] == pytest.approx(-np.mean([log.mean() for log in logs]), rel=1e-3, abs=1e-5)
    assert max(abs(log).max() for log in logs) > 0.05, "the policy has moved"


def test_several_targets_may_be_sparse(seen: dict[str, Any]) -> None:
    (dense, shape, logprobs), sparse = seen["several"]
    assert sparse == [dense, shape, logprobs]
    assert shape == [4, 2]
    flat = np.ravel(logprobs)
    assert dense == pytest.approx(-(0.5 * flat[0] + flat[1] - flat[4]), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("setting", ("loss_fn_config", "ppo has no setting 'beta'", "clip_low_threshold")),
        ("input", ("data[0].loss_fn_inputs", "'sequence_ratio_mask' is missing")),
        ("provenance", ("data[0].loss_fn_input_spans", "is missing")),
    ],
)
def test_bad_input_is_told_plainly(seen: dict[str, Any], name: str, words: tuple[str, ...]) -> None:
    raised, text = seen["refusals"][name]
    assert raised == "BadRequestError"
    assert all(word in text for word in words), text


def test_a_sampler_says_what_is_asked_of_a_prompt(seen: dict[str, Any]) -> None:
    found = seen["scores"]
    whole = found["whole"]
    assert found["prompt"][:2] == [None, None]
    assert found["prompt"][2:] == pytest.approx(whole[2:], rel=1e-5)
    assert found["topk"] == [None, None, 2, 2]
    data, shape, rows, columns = found["targets"]
    assert data == pytest.approx([whole[1], whole[3]], rel=1e-5)
    assert (shape, rows, columns) == ([3, 2], [0, 1, 1, 2], [1, 0])
    assert found["drawn"] == [[3, 3], [3, 3]]
