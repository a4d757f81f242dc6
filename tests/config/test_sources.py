"""Where each value of a Config comes from, and that its error names the place and the cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tinker_actors.config import Config, Pairs, PollBackoff, Proxy, Secret
from tinker_actors.config.sources import VARIABLES, WITHOUT_EFFECT
from tinker_actors.errors import CredentialError, InvalidInput

KEY = "tml-very-secret"

# field: (option, application, file as TOML, environment) and what each gives
LADDERS: dict[str, tuple[Any, Any, str, str, tuple[Any, Any, Any, Any]]] = {
    "base_url": ("http://o", "http://a", '"http://f"', "http://e", ("http://o", "http://a", "http://f", "http://e")),
    "project_id": ("o", "a", '"f"', " e ", ("o", "a", "f", "e")),
    "tags": (("o",), ["a"], '["f"]', "e, e,,f", (("o",), ("a",), ("f",), ("e", "f"))),
    "feature_gates": ([], ["a"], '["f"]', "e", ((), ("a",), ("f",), ("e",))),
    "telemetry_enabled": (False, True, "false", "ON", (False, True, False, True)),
    "log_level": ("debug", "info", '"warning"', "error", ("debug", "info", "warn", "error")),
    "dump_headers": (True, False, "true", "no", (True, False, True, False)),
    "otel_propagate": (True, False, "true", "0", (True, False, True, False)),
    "pool_size": (1, 2, "3", "4", (1, 2, 3, 4)),
    "pool_count": (1, 2, "3", "4", (1, 2, 3, 4)),
    "http_client": ("m:o", "m:a", '"m:f"', "m:e", ("m:o", "m:a", "m:f", "m:e")),
    "hf_home": ("o", "a", '"f"', "e", ("o", "a", "f", "e")),
    "hf_token_path": ("o", "a", '"f"', "e", ("o", "a", "f", "e")),
    "hf_token": ("o", "a", '"f"', "e", (Secret("o"), Secret("a"), Secret("f"), Secret("e"))),
    "proxy": (
        "http://o:1",
        ("https", "a", 2),
        '"http://f"',
        "http://e:4",
        (Proxy("http", "o", 1), Proxy("https", "a", 2), Proxy("http", "f", 80), Proxy("http", "e", 4)),
    ),
    "credential_cmd": ("o", "a", '"f"', "e", (Secret("o"), Secret("a"), Secret("f"), Secret("e"))),
    "poll_backoff": (
        ("exponential", 2, 4),
        "exponential",
        '["exponential", 3, 6]',
        "0",
        (PollBackoff(2.0, 4.0), PollBackoff(1.0, 30.0), PollBackoff(3.0, 6.0), None),
    ),
    "default_headers": (
        {"o": 1},
        {" a ": "x"},
        '{f = "x"}',
        '{"e": true}',
        (Pairs({"o": "1"}), Pairs({"a": "x"}), Pairs({"f": "x"}), Pairs({"e": "true"})),
    ),
    "default_query": (
        {"o": 1.5},
        {"a": None},
        "{f = 2}",
        '{"e": "x"}',
        (Pairs({"o": "1.5"}), Pairs(), Pairs({"f": "2"}), Pairs({"e": "x"})),
    ),
    "proxy_headers": (
        [("o", "x")],
        {"a": "x"},
        '[["f", "x"]]',
        '[["e", "x"]]',
        (Pairs({"o": "x"}), Pairs({"a": "x"}), Pairs({"f": "x"}), Pairs({"e": "x"})),
    ),
}


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "client.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("field", LADDERS)
def test_option_comes_before_application_file_environment_and_default(field: str, tmp_path: Path):
    option, app, written, variable, expected = LADDERS[field]
    environ = {VARIABLES[field][0][0]: variable, "TINKER_API_KEY": KEY}
    file = write(tmp_path, f"{field} = {written}\n")
    default = getattr(Config.load(environ={"TINKER_API_KEY": KEY}), field)

    by_option = Config.load(file=file, app={field: app}, environ=environ, **{field: option})
    by_app = Config.load(file=file, app={field: app}, environ=environ)
    by_file = Config.load(file=file, environ=environ)
    by_environ = Config.load(environ=environ)
    found = tuple(getattr(config, field) for config in (by_option, by_app, by_file, by_environ))
    assert found == expected
    assert getattr(Config.load(environ={"TINKER_API_KEY": KEY, VARIABLES[field][0][0]: "  "}), field) == default


def test_the_key_and_the_cloudflare_headers_come_from_anywhere(tmp_path: Path):
    environ = {
        "TINKER_API_KEY": "tml-e",
        "CLOUDFLARE_ACCESS_CLIENT_ID": "id-e",
        "CLOUDFLARE_ACCESS_CLIENT_SECRET": "secret-e",
    }
    file = write(tmp_path, 'api_key = "tml-f"\ncf_access_client_secret = "secret-f"\n')
    by_environ, by_file = Config.load(environ=environ), Config.load(file=file, environ=environ)
    assert (by_environ.api_key, by_file.api_key) == (Secret("tml-e"), Secret("tml-f"))
    assert (by_environ.cf_access_client_id, by_environ.cf_access_client_secret) == ("id-e", Secret("secret-e"))
    assert by_file.cf_access_client_secret == Secret("secret-f")
    assert Config.load(file=file, app={"api_key": "tml-a"}, environ=environ).api_key == Secret("tml-a")
    assert Config.load(file=file, api_key="tml-o", environ=environ).api_key == Secret("tml-o")


@pytest.mark.parametrize("written", ["1", "true", "TRUE", "Yes", "on", "0", "false", "NO", "Off"])
def test_flags_are_written_in_four_ways_and_any_case(written: str):
    environ = {"TINKER_API_KEY": KEY, "TINKER_TELEMETRY": f" {written} ", "TINKEX_OTEL_PROPAGATE": written}
    config = Config.load(environ=environ)
    on = written.lower() in ("1", "true", "yes", "on")
    assert (config.telemetry_enabled, config.otel_propagate) == (on, on)


@pytest.mark.parametrize(
    ("variable", "written", "words"),
    [
        ("TINKER_BASE_URL", "nowhere", "https://host/path"),
        ("TINKER_TELEMETRY", "maybe", "true, yes, on"),
        ("TINKER_LOG", "loud", "debug, info, warn or error"),
        ("TINKEX_DUMP_HEADERS", "2", "true, yes, on"),
        ("TINKEX_OTEL_PROPAGATE", "si", "true, yes, on"),
        ("TINKEX_POLL_BACKOFF", "linear", "exponential"),
        ("TINKEX_PARITY", "perl", "python or beam"),
        ("TINKEX_POOL_SIZE", "0", "at least 1"),
        ("TINKEX_POOL_SIZE", "-1", "whole number above 0"),
        ("TINKEX_POOL_COUNT", "many", "whole number above 0"),
        ("TINKEX_PROXY", "socks://h", "http://host:port"),
        ("TINKEX_PROXY_HEADERS", '{"a": "b"}', "[["),
        ("TINKEX_PROXY_HEADERS", '[["a", 1]]', "pairs of strings"),
        ("TINKEX_DEFAULT_HEADERS", "[]", "{"),
        ("TINKEX_DEFAULT_HEADERS", "{", "{"),
        ("TINKEX_DEFAULT_HEADERS", '{"": "x"}', "names"),
        ("TINKEX_DEFAULT_QUERY", '{"a": {}}', "text or a number"),
        ("CLOUDFLARE_ACCESS_CLIENT_SECRET", "with blank", "as the service showed it"),
        ("HF_TOKEN", "a b", "as the service showed it"),
    ],
)
def test_a_bad_variable_is_named_with_its_cure(variable: str, written: str, words: str):
    with pytest.raises(InvalidInput) as refused:
        Config.load(environ={"TINKER_API_KEY": KEY, variable: written})
    assert refused.value.source == f"variable {variable}"
    assert f"(variable {variable})" in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ('# a comment\ntimeout = -1\napi_key = "tml-x"\n', 2, "timeout"),
        ('\n\n  max_retries = "many"\n', 3, "max_retries"),
        ("tags = 1\n", 1, "tags"),
        ("timeout = 1\n[retry]\nretry_delay_base = nan\n", 2, "retry.retry_delay_base"),
        ("timeout = 1\ntimeuot = 1\n", 2, "timeuot"),
        ("retry.max_retry = 1\n", 1, "retry.max_retry"),
    ],
)
def test_a_bad_line_of_the_file_is_named(text: str, line: int, field: str, tmp_path: Path):
    file = write(tmp_path, text)
    with pytest.raises(InvalidInput) as refused:
        Config.load(file=file, environ={"TINKER_API_KEY": KEY})
    assert refused.value.source == f"{file}, line {line}"
    assert refused.value.field == field


def test_options_and_settings_of_the_application_are_named():
    with pytest.raises(InvalidInput, match=r"timeout \(option timeout\): 0.0 is not a positive number"):
        Config.load(timeout=0.0, api_key=KEY, environ={})
    with pytest.raises(InvalidInput, match=r"max_pending \(application's setting max_pending\)"):
        Config.load(app={"max_pending": 0}, api_key=KEY, environ={})
    with pytest.raises(InvalidInput, match="Did you mean base_url"):
        Config.load(app={"baseurl": "http://h"}, api_key=KEY, environ={})


@pytest.mark.parametrize(
    ("content", "words"), [("timeout 1", "line 1"), ("\x00", "no TOML"), ("a = 1\n" * 2, "line 2")]
)
def test_a_file_that_is_no_toml(content: str, words: str, tmp_path: Path):
    with pytest.raises(InvalidInput, match=words):
        Config.load(file=write(tmp_path, content), environ={})


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(InvalidInput, match="can't be read: No such file"):
        Config.load(file=tmp_path / "none.toml", environ={})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_with_a_secret_must_be_private(mode: int, tmp_path: Path):
    file = write(tmp_path, 'timeout = 1\napi_key = "tml-in-a-file"\n', mode)
    with pytest.raises(CredentialError, match="chmod 600") as refused:
        Config.load(file=file, environ={})
    assert refused.value.source == f"{file}, line 2"
    assert "tml-in-a-file" not in str(refused.value)
    assert Config.load(file=write(tmp_path, "timeout = 1\n", 0o644), api_key=KEY, environ={}).timeout == 1.0


@pytest.mark.parametrize(
    ("parity", "timeout", "retries"),
    [(None, 60.0, None), ("python", 60.0, 10), ("PY", 60.0, 10), ("beam", 120.0, 2), ("elixir", 120.0, 2)],
)
def test_parity_gives_the_defaults_of_another_client(parity: str | None, timeout: float, retries: int | None):
    environ = {"TINKER_API_KEY": KEY}
    for config in (
        Config.load(parity=parity, environ=environ),
        Config.load(environ=environ | {"TINKEX_PARITY": parity or ""}),
        Config.load(app={"parity": parity}, environ=environ),
    ):
        assert (config.timeout, config.max_retries) == (timeout, retries)


def test_an_explicit_value_comes_before_parity_and_an_option_before_the_application():
    environ = {"TINKER_API_KEY": KEY}
    given = Config.load(parity="beam", timeout=5.0, max_retries=7, environ=environ)
    assert (given.timeout, given.max_retries) == (5.0, 7)
    assert Config.load(parity="beam", timeout=5.0, environ=environ).max_retries == 2
    assert Config.load(parity="beam", app={"parity": "python"}, environ=environ).timeout == 120.0


def test_the_second_variable_counts_when_the_first_is_unset():
    environ = {"TINKER_API_KEY": KEY, "HUGGING_FACE_HUB_TOKEN": "hf-2", "XDG_CACHE_HOME": "/cache"}
    config = Config.load(environ=environ)
    assert (config.hf_token, config.hf_home) == (Secret("hf-2"), "/cache/huggingface")
    assert Config.load(environ=environ | {"HF_TOKEN": "hf-1"}).hf_token == Secret("hf-1")


def test_a_malformed_key_gives_way_to_a_command_and_else_is_an_error():
    config = Config.load(environ={"TINKER_API_KEY": "sk-other", "TINKER_CREDENTIAL_CMD": "print-key"})
    assert (config.api_key, config.credential_cmd) == (None, Secret("print-key"))
    with pytest.raises(CredentialError) as refused:
        Config.load(environ={"TINKER_API_KEY": "sk-other"})
    assert refused.value.source == "variable TINKER_API_KEY"
    assert "sk-other" not in str(refused.value)


@pytest.mark.parametrize("variable", WITHOUT_EFFECT)
def test_what_other_clients_need_and_this_one_does_not_is_said(variable: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "tinker_actors.config")
    for written, said in (("1", 1), ("pool", 1), ("0", 0), ("off", 0), (" ", 0)):
        caplog.clear()
        Config.load(api_key="tml-x", base_url="https://h", environ={variable: written})
        assert len(caplog.records) == said
        assert not said or f"{variable} has no effect here" in caplog.text
