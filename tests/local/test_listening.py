"""Where a server listens: beyond loopback only with keys of its own."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tinker_actors.errors import InvalidInput
from tinker_actors.local import ServerSettings
from tinker_actors.local.listening import address_of, open_listener


def resolving(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Every name means ``address``, once; the second time it would mean another."""
    meanings = iter([address])

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(meanings, "0.0.0.0"), 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "::ffff:0.0.0.0", "192.0.2.1", "0"])
def test_an_address_beyond_loopback_is_refused_without_keys(host: str) -> None:
    with pytest.raises(InvalidInput, match="any key") as caught:
        open_listener(host, 0, keys=False)
    assert caught.value.field == "host"
    assert "--api-key" in caught.value.cure


def test_a_name_that_means_such_an_address_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "192.0.2.1")
    with pytest.raises(InvalidInput, match="any key"):
        open_listener("localhost", 0, keys=False)


def test_what_was_looked_at_is_what_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "127.0.0.1")
    with open_listener("changing.example", 0, keys=False) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    with open_listener(host, 0, keys=False) as listener:
        assert address_of(listener).startswith("127.0.0.")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_an_address_of_ipv6_stands_in_brackets() -> None:
    with open_listener("::1", 0, keys=False) as listener:
        assert address_of(listener).startswith("[::1]:")


def test_with_keys_it_listens_anywhere() -> None:
    with open_listener("0.0.0.0", 0, keys=True) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize("host", ["no such host", "a" * 300, "999.1.1.1"])
def test_a_host_that_there_is_not_is_named(host: str) -> None:
    with pytest.raises(InvalidInput, match="no address") as caught:
        open_listener(host, 0, keys=True)
    assert caught.value.field == "host"


def test_printed_settings_show_no_keys() -> None:
    shown = repr(ServerSettings(api_keys=("tml-planted",), max_rank=8))
    assert "tml-planted" not in shown
    assert "<1 hidden>" in shown
    assert "max_rank=8" in shown
