"""Configuration: where each value comes from, what is refused, and that a key never shows."""

from __future__ import annotations

import pickle

import pytest

from tinker_actors.config import DEFAULT_BASE_URL, Config, Secret, parse_api_key
from tinker_actors.errors import CredentialError, InvalidInput, TinkerError

KEY = "tml-very-secret"


def test_an_option_comes_before_the_environment_and_that_before_the_default():
    environ = {"TINKER_BASE_URL": "http://env/base/", "TINKER_API_KEY": KEY, "TINKER_TAGS": "a,b"}

    from_environ = Config.load(environ=environ)
    assert (from_environ.base_url, from_environ.tags) == ("http://env/base", ("a", "b"))
    assert from_environ.api_key == Secret(KEY)
    given = Config.load(base_url="https://option:1", api_key="tml-option", tags=(), environ=environ)
    assert (given.base_url, given.api_key, given.tags) == ("https://option:1", Secret("tml-option"), ())
    assert Config.load(api_key=KEY, environ={"TINKER_BASE_URL": ""}).base_url == DEFAULT_BASE_URL


@pytest.mark.parametrize("key", [None, "", "secret", "sk-123", "tml-with space", "tml-é", "tml-\n"])
def test_a_missing_or_malformed_key_is_one_error_with_the_cure(key: str | None):
    with pytest.raises(CredentialError, match="TINKER_API_KEY") as refused:
        Config.load(base_url="http://h", api_key=key, environ={})

    assert refused.value.field == "api_key"
    assert isinstance(refused.value, InvalidInput | TinkerError)
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize("key", [KEY, "eyJhbGciOiJub25lIn0.e30."])
def test_a_key_never_shows(key: str):
    config = Config.load(base_url="http://h", api_key=key, environ={})

    for text in (repr(config), str(config), f"{config.api_key}", repr(parse_api_key(key))):
        assert key not in text
    for value in (config, config.api_key):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(value)
    assert config.api_key.reveal() == key


@pytest.mark.parametrize(
    "url",
    [
        "h",
        "ftp://h",
        "http://",
        "https://user:pw@h",
        "http://h?x=1",
        "http://h#x",
        "//h",
        "http:///path",
        "http://a..b",
        f"http://{'a' * 64}.b",
        "http://é.example",
        "http://h/é",
    ],
)
def test_a_base_url_that_is_none(url: str):
    with pytest.raises(InvalidInput, match="base_url"):
        Config.load(base_url=url, api_key=KEY, environ={})


@pytest.mark.parametrize("field", ["timeout", "outage_bound"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none(field: str, value: float):
    with pytest.raises(InvalidInput, match=field):
        Config.load(base_url="http://h", api_key=KEY, environ={}, **{field: value})
