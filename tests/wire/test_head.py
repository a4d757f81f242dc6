"""The head of a request: what h11 would have refused is refused, what it takes arrives as it was."""

from __future__ import annotations

import pickle
import string

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.loopback import loopback
from tests.wire.scripted import KEY
from tinker_actors.errors import InvalidInput
from tinker_actors.ports import Request
from tinker_actors.wire.head import RequestHead
from tinker_actors.wire.transport import HttpTransport

TEXT = st.text(st.sampled_from(string.printable + "\0\x7f\x80ÿ€"), max_size=12)


def theirs(headers: tuple[tuple[str, str], ...]) -> bool:
    try:
        h11.Request(method="GET", target="/", headers=[("host", "h"), *headers])
        return True
    except (h11.LocalProtocolError, UnicodeEncodeError):
        return False


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple))
def test_nothing_passes_that_h11_refuses(headers: tuple[tuple[str, str], ...]):
    try:
        head = RequestHead("GET", "/", "h", headers, 0)
    except InvalidInput:
        return
    assert theirs(headers)
    lines = head.rest.split(b"\r\n")
    assert len(lines) == len([name for name, _ in headers if name not in ("host", "connection")]) + 2


@pytest.mark.parametrize(
    "headers",
    [
        (("x-a", f"{KEY}\r\nx-evil: 1"),),
        (("x-a", f"{KEY}\x01"),),
        (("x-a\r\nx-b", KEY),),
        (("x-a", "b\nx-evil: 1"),),
        (("x-a\r\nx-evil", "1"),),
        (("x-a", "b\0"),),
        (("x-a", " b"),),
        (("x-a", "b "),),
        (("x-a", "é"),),
        (("", "b"),),
        (("x a", "b"),),
        (("content-length", "five"),),
    ],
)
async def test_a_header_that_would_break_the_request_is_refused_without_being_shown(
    headers: tuple[tuple[str, str], ...],
):
    async with loopback() as server:
        transport = HttpTransport()
        request = Request(method="GET", url=f"{server.url}/x", headers=headers)
        with pytest.raises(InvalidInput, match="headers") as caught:
            await transport.send(request)
        assert KEY not in repr(caught.value) + repr(caught.value.__context__) + str(pickle.dumps(caught.value))
        assert server.requests == []
        await transport.aclose()


async def test_headers_arrive_as_they_were():
    headers = (("x-a", ""), ("x-b", "a\tb  c"), ("x-c", "!~"), ("connection", "close"))
    async with loopback() as server:
        transport = HttpTransport()
        response = await transport.send(
            Request(method="POST", url=f"{server.url}/x?q=1", headers=headers, body=(b"ab",))
        )
        await response.read(100)
        assert transport.connections == 0  # h11 knows of the close
        await transport.aclose()
    (seen,) = server.requests
    assert seen.target == "/x?q=1"
    assert seen.headers == dict(headers) | {"host": server.url.rpartition("/")[2], "content-length": "2"}
    assert seen.body == b"ab"
