"""RecoveryPolicy: what it takes, in which forms, and that nothing which makes no sense becomes a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tinker_actors.config import TRIGGERS, Config, RecoveryPolicy
from tinker_actors.errors import InvalidInput


def load(**options: Any) -> Config:
    return Config.load(api_key="tml-key", environ={}, **options)


def three(old: object, new: object, checkpoint: str | None) -> None: ...


async def two(run_id: str, reason: str) -> None: ...


def test_none_given_is_the_default_and_a_policy_stays_itself():
    policy = RecoveryPolicy(max_attempts=2)
    assert load().recovery == load(recovery=True).recovery == RecoveryPolicy()
    assert load(recovery=policy).recovery is policy
    assert load(recovery=False).recovery is None


def test_a_mapping_becomes_a_policy():
    fields: dict[str, Any] = {
        "triggers": ["run_corrupted", "session_lost"],
        "replay": False,
        "checkpoint": "best",
        "best_metric": "loss:sum",
        "best": "highest",
        "restore_optimizer": False,
        "max_concurrent": 3,
        "poll_interval": 5,
        "on_recovery": three,
        "on_failure": two,
    }
    policy = load(recovery=fields).recovery
    assert policy == RecoveryPolicy(**fields)
    assert policy is not None
    assert policy.triggers == ("session_lost", "run_corrupted")
    assert (policy.poll_interval, policy.on_recovery, policy.on_failure) == (5.0, three, two)


def test_a_file_has_it_too(tmp_path: Path):
    file = tmp_path / "tinker.toml"
    file.write_text('[recovery]\ncheckpoint = "tinker://run/weights/one"\nmax_concurrent = 2\n')
    policy = load(file=file).recovery
    assert policy == RecoveryPolicy(checkpoint="tinker://run/weights/one", max_concurrent=2)


@pytest.mark.parametrize("checkpoint", ["latest", "tinker://run/weights/one", "tinker://run/checkpoints/one"])
def test_where_a_run_may_go_on_from(checkpoint: str):
    assert RecoveryPolicy(checkpoint=checkpoint).checkpoint == checkpoint


def test_what_is_covered_and_what_goes_on_in_place():
    policy = RecoveryPolicy(triggers=["model_lost"])
    assert [policy.covers(trigger) for trigger in TRIGGERS] == [trigger == "model_lost" for trigger in TRIGGERS]
    assert policy.rebuilds("model_lost")
    assert policy.rebuilds(None)
    assert not policy.rebuilds("session_lost")
    away = RecoveryPolicy(triggers=TRIGGERS, replay=False)
    assert all(away.covers(trigger) and not away.rebuilds(trigger) for trigger in TRIGGERS)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("max_attempts", 0, "not positive"),
        ("max_attempts", True, "not an integer"),
        ("max_concurrent", 0, "not positive"),
        ("poll_interval", 0, "recovery.poll_interval"),
        ("poll_interval", "fast", "not a number"),
        ("backoff_longest", 0.5, "less than backoff_first"),
        ("replay", "yes", "neither True nor False"),
        ("restore_optimizer", 1, "neither True nor False"),
        ("checkpoint", "newest", "none of these"),
        ("checkpoint", 3, "not a string"),
        ("checkpoint", "tinker://run/sampler_weights/a", "names sampler weights where weights are due"),
        ("checkpoint", "tinker://run/external_weights/a", "Use the path that save_state returned"),
        ("checkpoint", "tinker://run/weights/...", "of the form tinker://<run>/weights/<name>"),
        ("checkpoint", "best", "Name what tells which is best"),
        ("best_metric", "", "is empty"),
        ("best", "lower", "neither"),
        ("triggers", "model_lost", "of type str"),
        ("triggers", ["model_gone"], "no trigger"),
        ("triggers", 4, "of type int"),
        ("on_recovery", "print", "of type str"),
        ("on_recovery", two, "not 3 arguments"),
        ("on_failure", three, "not 2 arguments"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_names_it(field: str, value: object, words: str):
    with pytest.raises(InvalidInput, match="recovery") as caught:
        load(recovery={field: value})
    assert words in str(caught.value)


def test_a_field_that_there_is_not_is_an_error():
    with pytest.raises(InvalidInput, match=r"recovery\.max_retries .*is no field of a RecoveryPolicy"):
        load(recovery={"max_retries": 3})
