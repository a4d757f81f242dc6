"""The command line: what is right is read, what is wrong is named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinker_actors import __version__
from tinker_actors.cli.arguments import DEFAULT_STEPS, DemoOptions, ServeOptions, parse
from tinker_actors.cli.serve import settings
from tinker_actors.cli.serve_options import LIMITS
from tinker_actors.local import ServerSettings


def test_the_demo_needs_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    assert parse(["demo"]) == DemoOptions(seed=0, steps=DEFAULT_STEPS)


def test_every_option_of_the_demo_is_read() -> None:
    line = "demo --seed 7 --steps 3 --no-faults --run-dir r --base-url http://h:1/x --api-key tml-k --json"
    options = parse(line.split())
    assert isinstance(options, DemoOptions)
    assert options.api_key is not None
    assert options.api_key.reveal() == "tml-k"
    assert (options.seed, options.steps, options.faults, options.run_dir, options.base_url, options.json) == (
        7,
        3,
        False,
        Path("r"),
        "http://h:1/x",
        True,
    )
    assert "tml-k" not in repr(options)


def test_every_option_of_the_server_is_read() -> None:
    line = "serve --host 0.0.0.0 --port 0 --directory d --base-model a --base-model b --max-rank 8 --api-key tml-k"
    options = parse(line.split())
    assert isinstance(options, ServeOptions)
    assert (options.host, options.port, options.directory, options.max_rank) == ("0.0.0.0", 0, Path("d"), 8)
    assert options.base_models == ("a", "b")
    assert [key.reveal() for key in options.api_keys] == ["tml-k"]
    assert "tml-k" not in repr(options)


def test_the_servers_keys_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_ACTORS_SERVER_KEYS", " tml-a, tml-b,")
    options = parse(["serve"])
    assert isinstance(options, ServeOptions)
    assert [key.reveal() for key in options.api_keys] == ["tml-a", "tml-b"]
    options = parse(["serve", "--api-key", "tml-c"])
    assert isinstance(options, ServeOptions)
    assert [key.reveal() for key in options.api_keys] == ["tml-c"]


def test_a_key_may_have_its_owners_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_ACTORS_SERVER_KEYS", "lab=tml-a,lab=tml-b=,tml-c=d")
    options = parse(["serve"])
    assert isinstance(options, ServeOptions)
    assert [(name, key.reveal()) for name, key in options.named_keys] == [("lab", "tml-a"), ("lab", "tml-b=")]
    assert [key.reveal() for key in options.api_keys] == ["tml-c=d"]
    assert "tml-" not in repr(options)


def test_models_of_any_name_and_limits_are_read() -> None:
    line = "serve --faults plan.json --fault-seed 3 --model Qwen/Qwen3-8B=/a=b --model m=c"
    options = parse([*line.split(), "--limit", "poll_hold=2.5", "--limit", "max_queued_samples=7"])
    assert isinstance(options, ServeOptions)
    assert (options.faults, options.fault_seed) == (Path("plan.json"), 3)
    assert options.aliases == {"Qwen/Qwen3-8B": Path("/a=b"), "m": Path("c")}
    assert options.limits == {"poll_hold": 2.5, "max_queued_samples": 7}
    assert type(options.limits["max_queued_samples"]) is int


@pytest.mark.parametrize("name", LIMITS)
def test_every_number_of_the_settings_is_a_limit(name: str) -> None:
    options = parse(["serve", "--limit", f"{name}=7"])
    assert isinstance(options, ServeOptions)
    assert options.limits == {name: 7}
    assert getattr(settings(options), name) == 7


def test_the_limits_are_those_of_the_settings() -> None:
    written = ServerSettings.__annotations__  # as text: what a new field is like stands there
    numbers = {name for name, kind in written.items() if kind.removesuffix(" | None") in ("int", "float")}
    assert set(LIMITS) == numbers
    assert {"poll_hold", "max_rank", "metadata_only_above"} <= numbers


@pytest.mark.parametrize("keys", [",", " , ,"])
def test_a_list_without_a_key_does_not_mean_any_key(
    keys: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_ACTORS_SERVER_KEYS", keys)
    with pytest.raises(SystemExit) as ended:
        parse(["serve"])
    assert ended.value.code == 2
    assert "TINKER_ACTORS_SERVER_KEYS: holds no key" in capsys.readouterr().err


def test_a_key_of_the_environment_that_is_none_is_named_and_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_ACTORS_SERVER_KEYS", "tml-a,secret")
    with pytest.raises(SystemExit) as ended:
        parse(["serve"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "TINKER_ACTORS_SERVER_KEYS: does not start with 'tml-'" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "tinker-actors: the following arguments are required: COMMAND"),
        ("dance", "invalid choice: 'dance'"),
        ("demo --stepps 3", "unrecognized arguments: --stepps 3 (see tinker-actors demo --help)"),
        ("serve --prot 1 2", "unrecognized arguments: --prot 1 2 (see tinker-actors serve --help)"),
        ("demo --steps 0", "argument --steps: '0' is not a whole number from 1 to"),
        ("demo --steps many", "argument --steps: 'many' is not a whole number"),
        ("demo --seed -1", "argument --seed: '-1' is not a whole number from 0 to"),
        ("demo --seed 99999999999", "argument --seed: '99999999999' is not a whole number"),
        ("demo --api-key secret", "api_key (option api_key): does not start with 'tml-'"),
        (
            "demo --base-url ftp://x --api-key tml-x",
            "base_url (option base_url): 'ftp://x' is not an http or https URL",
        ),
        ("demo --base-url http://x", "api_key: is missing"),
        ("serve --api-key lab=secret", "--api-key: does not start with 'tml-'"),
        ("serve --api-key lab=", "--api-key: is missing"),
        ("serve --api-key secret", "--api-key: does not start with 'tml-'"),
        ("serve --api-keyy tml-secret", "unrecognized arguments: --api-keyy [hidden]"),
        ("serve --port eyJsecret", "argument --port: '[hidden]' is not a whole number"),
        ("serve --port 70000", "argument --port: '70000' is not a whole number from 0 to 65535"),
        ("serve --max-rank 0", "argument --max-rank: '0' is not a whole number"),
        ("serve --fault-seed x", "argument --fault-seed: 'x' is not a whole number from 0"),
        ("serve --model m", "--model: 'm' is not of the form NAME=FOLDER"),
        ("serve --model =f", "--model: '=f' is not of the form NAME=FOLDER"),
        ("serve --model m=a --model m=b", "--model: names 'm' twice"),
        ("serve --limit poll_hold", "--limit: 'poll_hold' is not of the form NAME=N"),
        ("serve --limit poll=1", "--limit: 'poll' is no limit. Use one of max_rank, "),
        ("serve --limit tells_class=1", "--limit: 'tells_class' is no limit"),
        ("serve --limit poll_hold=long", "--limit: poll_hold: 'long' is not a number"),
        ("serve --limit max_rank=2.5", "--limit: max_rank: '2.5' is not a whole number"),
    ],
)
def test_a_wrong_line_is_named_in_one_line(
    line: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TINKER_API_KEY", "TINKER_CREDENTIAL_CMD", "HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        parse(line.split())
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert "--help)" in captured.err
    assert "secret" not in captured.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--version", f"tinker-actors {__version__}"),
        ("--help", "COMMAND"),
        ("demo --help", "--run-dir"),
        ("serve --help", "--base-model"),
    ],
)
def test_what_asks_for_words_gets_them(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(line.split())
    assert ended.value.code == 0
    assert words in capsys.readouterr().out
