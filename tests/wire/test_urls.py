"""URLs below a base path, merged queries, and hosts that may get a key."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors.config import Config
from tinker_actors.errors import InvalidInput
from tinker_actors.wire.api import Api
from tinker_actors.wire.transport import HttpTransport
from tinker_actors.wire.urls import build_url, is_loopback, merged_query, segment

PROMISE = Answer({"request_id": "r-1"})
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: bool(name.strip()))


@pytest.mark.parametrize("base", ["http://h:1/base", "http://h:1/base/"])
@pytest.mark.parametrize("path", ["api/v1/x", "/api/v1/x"])
def test_a_base_path_is_kept_with_one_slash(base: str, path: str):
    assert build_url(base, path) == "http://h:1/base/api/v1/x"


def test_later_queries_count_and_none_takes_out():
    url = build_url(
        "http://h",
        "/x?b=path&c=path&d=",
        default={"a": "default", "b": "default", "gone": "1"},
        query={"c": "call", "gone": None, "empty": ""},
    )
    assert url == "http://h/x?a=default&b=path&c=call"
    assert build_url("http://h", "/x?a=1", query={"a": None}) == "http://h/x"


def test_values_are_written_as_servers_expect_them():
    query = merged_query({"n": 5, "f": 0.5, "yes": True, "no": False, "list": ["a", "b"], "none": [], " key ": "é&="})
    assert query == "n=5&f=0.5&yes=true&no=false&list=a,b&key=%C3%A9%26%3D"


@pytest.mark.parametrize("query", [{"": "x"}, {" ": "x"}, {1: "x"}, {"a": object()}, {"a": [1]}, {"a": {"b": 1}}])
def test_what_is_no_query_is_refused(query: Any):
    with pytest.raises(InvalidInput, match="query"):
        merged_query(query)


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"), min_size=1)))
def test_any_text_arrives_as_it_was(query: dict[str, str]):
    expected = {name.strip(): value for name, value in query.items()}
    assert dict(parse_qsl(urlsplit(build_url("http://h/b", "/x", query=query)).query)) == expected


def test_an_id_never_leads_to_another_path():
    assert segment("a:b/../c") == "a:b%2F..%2Fc"
    assert segment("weights/a b", slashes=True) == "weights/a%20b"
    assert segment("a?b#c%2F") == "a%3Fb%23c%252F"
    for name, slashes in (("", False), ("..", False), (".", False), ("a/../b", True), ("a//b", True), ("/a", True)):
        with pytest.raises(InvalidInput):
            segment(name, slashes=slashes)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_this_machine_is_told_from_others(host: str, here: bool):
    assert is_loopback(host) is here


async def test_a_key_crosses_the_network_unencrypted_only_with_leave():
    for base in ("http://server", "http://server:8000/base", "http://10.0.0.1", "http://127.0.0.1.evil.example"):
        with pytest.raises(InvalidInput, match="allow_plain_http") as caught:
            Api(HttpTransport(), Config.load(base_url=base, api_key=KEY, environ={}))
        assert KEY not in str(caught.value)
        Api(HttpTransport(), Config.load(base_url=base, api_key=KEY, environ={}, allow_plain_http=True))
    for base in ("https://server", "http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost"):
        Api(HttpTransport(), Config.load(base_url=base, api_key=KEY, environ={}))
    with pytest.raises(InvalidInput, match="allow_plain_http"):
        Config.load(base_url="http://server", api_key=KEY, environ={}, allow_plain_http="yes")  # pyright: ignore[reportArgumentType]


async def test_defaults_of_the_configuration_go_with_every_request():
    options = {"default_query": {"a": "1", "b": "2"}, "default_headers": {"X-Team": "blue", "User-Agent": "mine"}}
    async with scripted(PROMISE, **options) as (api, script):
        await api.call("/x", dict, {}, purpose="rest", query={"b": "3"}, headers=(("x-own", "o"),))
    (asked,) = script.asked
    assert asked.query == "a=1&b=3"
    assert (asked.headers["x-team"], asked.headers["user-agent"], asked.headers["x-own"]) == ("blue", "mine", "o")
