"""What the fields of a Config may be, and that printing one shows no secret."""

from __future__ import annotations

import math
import pickle
from typing import Any

import msgspec
import pytest

from tinker_actors.config import Config, PollBackoff, Proxy, RetryConfig
from tinker_actors.errors import CredentialError, InvalidInput

KEY = "tml-very-secret"


def load(**options: Any) -> Config:
    return Config.load(api_key=KEY, environ={}, **options)


def test_a_config_of_a_key_alone_has_the_defaults():
    config = load()
    assert (config.timeout, config.max_retries, config.tags) == (60.0, None, ())
    assert config.feature_gates == ("async_sampling",)
    assert (dict(config.default_headers), dict(config.default_query)) == ({}, {})
    assert (config.poll_backoff, config.proxy, config.project_id) == (None, None, None)
    assert config.telemetry_enabled
    assert config.retry == RetryConfig()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", 0),
        ("timeout", -1.0),
        ("timeout", math.nan),
        ("poll_timeout", math.inf),
        ("outage_bound", math.inf),
        ("start_bound", "1"),
        ("heartbeat_interval", True),
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("max_pending", 0),
        ("pool_size", 0),
        ("pool_count", -1),
        ("project_id", " "),
        ("project_id", 7),
        ("tags", "abc"),
        ("tags", [1]),
        ("feature_gates", {"a": 1}),
        ("tokenizers", "folder"),
        ("tokenizers", {"a/b": 5}),
        ("tokenizers", {"a/b": ""}),
        ("extra_loss_fns", "grpo"),
        ("extra_loss_fns", ["grpo", ""]),
        ("user_metadata", [1]),
        ("telemetry_enabled", "yes"),
        ("dump_headers", 1),
        ("log_level", "loud"),
        ("poll_backoff", ("exponential", 2, 1)),
        ("poll_backoff", ("exponential", -1, 1)),
        ("poll_backoff", ("linear", 1, 2)),
        ("poll_backoff", 5),
        ("default_headers", 5),
        ("default_headers", {"": "x"}),
        ("default_headers", {"a": []}),
        ("default_headers", {"a": "x\r\nb: y"}),
        ("default_query", ["abc"]),
        ("proxy_headers", {"a": 1}),
        ("proxy_headers", ["abc"]),
        ("http_client", object()),
        ("retry", {"max_retries": 1, "speed": 2}),
        ("retry", 5),
    ],
)
def test_a_value_that_makes_no_sense_is_one_error_that_names_it(field: str, value: Any):
    with pytest.raises(InvalidInput) as refused:
        load(**{field: value})
    assert refused.value.field.startswith(field)
    assert refused.value.source == f"option {field}"
    assert refused.value.cure


def test_a_config_that_is_valid_stays_as_it_is():
    config = load(proxy="http://user:pw@proxy:1", tags=["a"], poll_backoff="exponential", default_headers={"a": 1})
    again = Config(**{name: getattr(config, name) for name in config.__struct_fields__})
    assert again == config
    assert msgspec.structs.replace(config) == config


def test_headers_and_query_become_text():
    config = load(default_headers={" X-Number ": 1, "x-none": None}, default_query={"limit": 2.5, "all": True})
    assert dict(config.default_headers) == {"X-Number": "1"}
    assert dict(config.default_query) == {"limit": "2.5", "all": "true"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (False, None),
        ("none", None),
        (True, PollBackoff(1.0, 30.0)),
        ("exponential", PollBackoff(1.0, 30.0)),
        (("exponential", 2, 8), PollBackoff(2.0, 8.0)),
    ],
)
def test_ways_to_wait_between_polls(given: Any, expected: PollBackoff | None):
    assert load(poll_backoff=given).poll_backoff == expected


def test_a_poll_backoff_doubles_up_to_its_longest():
    assert [PollBackoff(2.0, 9.0)(n) for n in (0, 1, 2, 3, 5000)] == [2.0, 4.0, 8.0, 9.0, 9.0]
    waits = load(poll_backoff=lambda tries: tries + 0.5).poll_backoff
    assert waits is not None
    assert waits(2) == 2.5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("http://proxy", Proxy("http", "proxy", 80)),
        ("https://proxy/", Proxy("https", "proxy", 443)),
        ("http://proxy:3128", Proxy("http", "proxy", 3128)),
        ("http://[::1]:3128", Proxy("http", "::1", 3128)),
        (("https", "proxy", 8443), Proxy("https", "proxy", 8443)),
        (["http", "proxy", 1], Proxy("http", "proxy", 1)),
    ],
)
def test_proxies(given: Any, expected: Proxy | None):
    assert load(proxy=given).proxy == expected


def test_the_login_of_a_proxy_is_a_header_of_its_own_unless_others_are_given():
    login = load(proxy="http://user:p%40ss@proxy:1").proxy
    assert login is not None
    assert dict(login.headers) == {"proxy-authorization": "Basic dXNlcjpwQHNz"}
    assert login.url == "http://proxy:1"
    other = load(proxy="http://user:pass@proxy:1", proxy_headers=[("x-way", "1")]).proxy
    assert other is not None
    assert dict(other.headers) == {"x-way": "1"}


@pytest.mark.parametrize(
    "given",
    [
        *("socks5://h", "proxy:80", "http://", "http://h:0", "http://h:99999", "http://u:secret-word@h:x", 5),
        *(
            ("ftp", "h", 1),
            ("http", "h", 0),
            ("http", "h", 65536),
            ("http", "", 1),
            ("http", "h"),
            ("http", "a b", 1),
        ),
    ],
)
def test_what_is_no_proxy(given: Any):
    with pytest.raises(InvalidInput, match="proxy") as refused:
        load(proxy=given)
    assert "secret-word" not in str(refused.value)


def test_half_of_cloudflares_headers_is_an_error():
    with pytest.raises(CredentialError, match="cf_access_client_secret: is missing"):
        load(cf_access_client_id="id")


def test_no_secret_shows_and_none_is_pickled():
    config = load(
        credential_cmd="print planted-1",
        cf_access_client_id="the-id",
        cf_access_client_secret="planted-2",
        default_headers={"Authorization": "planted-3", "X-Api-Key": "planted-4", "x-plain": "seen"},
        default_query={"access_token": "planted-5"},
        proxy="http://user:planted-6@proxy:1",
        hf_token="planted-7",
    )
    second = load(proxy="http://proxy:1", proxy_headers=[("Proxy-Authorization", "planted-8")])
    shown = f"{config!r} {config} {second!r} {list(config.__rich_repr__())!r}"
    assert "planted" not in shown
    assert KEY not in shown
    assert "seen" in shown
    for value in (config, config.default_headers, config.proxy):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(value)


def test_a_key_is_refused_without_showing_it():
    with pytest.raises(CredentialError) as refused:
        Config(api_key="sk-planted")  # pyright: ignore[reportArgumentType]
    assert "planted" not in str(refused.value)
    with pytest.raises(CredentialError, match="TINKER_CREDENTIAL_CMD"):
        Config()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_retries", {"max_retries": 0}),
        ("max_retries", {"max_retries": -1}),
        ("retry_delay_base", {"retry_delay_base": 0.0}),
        ("retry_delay_base", {"retry_delay_base": -1.0}),
        ("retry_delay_base", {"retry_delay_base": math.nan}),
        ("retry_delay_max", {"retry_delay_max": 0.1}),
        ("retry_delay_max", {"retry_delay_max": math.inf}),
        ("jitter_factor", {"jitter_factor": 1.1}),
        ("jitter_factor", {"jitter_factor": -0.1}),
        ("jitter_factor", {"jitter_factor": math.nan}),
        ("progress_timeout", {"progress_timeout": 0}),
        ("progress_timeout", {"progress_timeout": math.inf}),
        ("progress_timeout", {"progress_timeout": 0.5}),
        ("max_connections", {"max_connections": 0}),
        ("enable_retry_logic", {"enable_retry_logic": "no"}),
        ("enable_stuck_detection", {"enable_stuck_detection": False}),
        ("retryable_exceptions", {"retryable_exceptions": (KeyboardInterrupt,)}),
        ("retryable_exceptions", {"retryable_exceptions": OSError}),
    ],
)
def test_a_retry_config_that_never_ends_or_never_retries_is_an_error(field: str, values: dict[str, Any]):
    with pytest.raises(InvalidInput) as refused:
        RetryConfig(**values)
    assert refused.value.field == f"retry.{field}"


def test_the_defaults_of_a_retry_config_and_options_over_them():
    default = RetryConfig()
    assert (default.max_retries, default.retry_delay_base, default.retry_delay_max) == (None, 0.5, 10.0)
    assert (default.jitter_factor, default.progress_timeout, default.max_connections) == (0.25, 7200.0, None)
    assert default.enable_retry_logic
    assert RetryConfig(max_retries=3, enable_stuck_detection=False).max_retries == 3
    assert RetryConfig(max_connections=7).max_connections == 7
    assert [default.delay(n) for n in (0, 1, 2, 3, 4, 5, 10**6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
