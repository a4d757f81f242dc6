"""Files and fields as multipart/form-data: what a server reads is what was given, and no more memory than a piece."""

from __future__ import annotations

import email.parser
import email.policy
import io
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.loopback import Peer, loopback
from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors.config import Config
from tinker_actors.errors import (
    APIStatusError,
    AuthenticationError,
    InvalidInput,
)
from tinker_actors.ports import Credential, Request
from tinker_actors.wire.api import Api
from tinker_actors.wire.files import File
from tinker_actors.wire.httpx_transport import HttpxTransport
from tinker_actors.wire.multipart import MultipartBody, flattened, open_multipart
from tinker_actors.wire.transport import HttpTransport
from tinker_actors.wire.upload import upload

Part = tuple[str, str | None, str, bytes]


def parsed(content_type: str, body: bytes) -> list[Part]:
    """Name, file name, type and content of each part, as the standard library reads them."""
    head = f"content-type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    assert message.is_multipart()
    assert not message.defects
    parts: list[Part] = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(name, str)
        assert isinstance(content, bytes)
        parts.append((name, part.get_filename(), part.get_content_type(), content))
    return parts


async def whole(body: MultipartBody) -> bytes:
    return b"".join([piece async for piece in body.pieces()])


async def made(fields: Any = None, files: Any = (), **options: Any) -> MultipartBody:
    return await open_multipart(fields, files, rng=random.Random(1), **options)


class Slow:
    """An async reader of a user's."""

    def __init__(self, content: bytes) -> None:
        self.left = content

    async def read(self, size: int) -> bytes:
        await trio.lowlevel.checkpoint()
        piece, self.left = self.left[:5], self.left[5:]
        return piece


async def test_everything_that_holds_bytes_arrives_with_its_name(tmp_path: Path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\r\n--from a path\x00\xff" * 3)
    with path.open("rb") as opened:
        opened.read(2)  # what was read before is not sent
        body = await made(
            {"purpose": "tune", "n": 3, "ok": True, "none": None},
            {
                "bytes": b"raw",
                "view": memoryview(bytearray(b"wide"))[::1],
                "path": path,
                "object": opened,
                "memory": io.BytesIO(b"in memory"),
                "slow": File(content=Slow(b"read by awaiting"), name="s.txt", content_type="text/plain"),
                "many": [("a.txt", b"1", "text/plain; charset=utf-8"), ("b.txt", b"2", None, {"X-Note": "n"})],
            },
        )
        content = await whole(body)
    octets = "application/octet-stream"
    assert parsed(body.content_type, content) == [
        ("purpose", None, "text/plain", b"tune"),
        ("n", None, "text/plain", b"3"),
        ("ok", None, "text/plain", b"true"),
        ("none", None, "text/plain", b""),
        ("bytes", "upload", octets, b"raw"),
        ("view", "upload", octets, b"wide"),
        ("path", "weights.bin", octets, path.read_bytes()),
        ("object", "weights.bin", octets, path.read_bytes()[2:]),
        ("memory", "upload", octets, b"in memory"),
        ("slow", "s.txt", "text/plain", b"read by awaiting"),
        ("many", "a.txt", "text/plain", b"1"),
        ("many", "b.txt", octets, b"2"),
    ]
    assert b"X-Note: n\r\n" in content
    assert content.endswith(f"--{body.content_type.partition('=')[2]}--\r\n".encode())
    assert (body.size, body.again) == (None, False)
    for nothing in (tmp_path / "missing", tmp_path, (b"",), ("a", b"", "text"), 5):
        with pytest.raises(InvalidInput):
            await made(None, {"f": nothing})
    for files in ([b""], [("f",)], 5, "f"):
        with pytest.raises(InvalidInput):
            await made(None, files)


async def test_the_length_is_known_where_that_of_every_file_is(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1000)
    body = await made({"a": "ü"}, [("f", path), ("f", b"1"), ("g", io.BytesIO(b"22"))])
    assert body.again
    assert [len(await whole(body)) for _ in range(2)] == [body.size] * 2


def test_fields_are_flattened_to_names_with_brackets():
    nested = {"a": {"b": 1, "c": {"d": None}}, "l": [1, "x"], "m": [{"k": 1}, {"k": 2.5}], "e": {}, "t": (False,)}
    assert list(flattened(nested)) == [
        ("a[b]", "1"), ("a[c][d]", ""), ("l[]", "1"), ("l[]", "x"), ("m[][k]", "1"), ("m[][k]", "2.5"),
        ("t[]", "false"),
    ]  # fmt: skip
    assert list(flattened(None)) == []


async def test_boundaries_are_hexadecimal_and_of_the_generator():
    rng = random.Random(1)
    types = [(await open_multipart({"a": 1}, {}, rng=rng)).content_type for _ in range(20)]
    assert len(set(types)) == 20
    assert all(int(kind.partition("boundary=")[2], 16) >= 0 for kind in types)
    assert (await made({"a": 1}, boundary="own")).content_type == "multipart/form-data; boundary=own"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../../etc/passwd", "passwd"),
        ("/abs/a.txt", "a.txt"),
        ("C:\\dir\\a.txt", "a.txt"),
        ('a"; filename="b', "a%22; filename=%22b"),
        ("ä.txt", "ä.txt"),
    ],
)
async def test_a_file_name_says_nothing_of_folders_and_ends_no_quotes(name: str, told: str):
    content = await whole(await made(None, {"f": (name, b"")}))
    assert f'name="f"; filename="{told}"\r\n'.encode() in content


BAD: dict[str, tuple[Any, Any]] = {
    "a line break in a file's name": (None, {"f": ("a\r\nX-Evil: 1", b"")}),
    "a file's name of nothing": (None, {"f": ("dir/", b"")}),
    "a file's name of dots": (None, {"f": ("a/..", b"")}),
    "a line break in a field's name": ({"a\r\nb": 1}, {}),
    "a line break in a nested name": ({"a": {"b\n": 1}}, {}),
    "a line break in a file's field": (None, {"a\nb": b""}),
    "a backslash in a field's name": ({"a\\b": 1}, {}),
    "an empty name": ({"": 1}, {}),
    "a type with a line break": (None, {"f": ("a", b"", "text/plain\r\nX: 1")}),
    "a type that is none": (None, {"f": ("a", b"", "text")}),
    "a header with a line break": (None, {"f": ("a", b"", None, {"X": "1\r\nY: 2"})}),
    "a header's name with a line break": (None, {"f": ("a", b"", None, {"X: 1\r\nY": "2"})}),
    "a header of the part's own": (None, {"f": ("a", b"", None, {"Content-Disposition": "x"})}),
    "headers that are none": (None, {"f": ("a", b"", None, ["x"])}),
    "a surrogate": ({"a": "\ud800"}, {}),
    "text as a body": ("text", {"f": b""}),
    "text as a file": (None, {"f": "path/or/content"}),
    "a number as a file": (None, {"f": 5}),
    "a text file": (None, {"f": io.StringIO("x")}),
    "a tuple of one": (None, {"f": (b"",)}),
    "no pairs": (None, [b""]),
    "files that are none": (None, 5),
    "a value of no kind": ({"a": object()}, {}),
    "no number": ({"a": float("nan")}, {}),
    "a missing file": (None, {"f": Path("/nowhere/at/all")}),
    "a folder": (None, {"f": Path("/")}),
    "a name with a zero byte": (None, {"f": Path("a\0b")}),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_can_not_be_sent_is_refused_before_anything_is(case: str):
    fields, files = BAD[case]
    async with scripted(Answer({})) as (api, script):
        with pytest.raises(InvalidInput):
            await upload(api, "/files", dict, fields, files or {"f": b""}, rng=random.Random(1))
    assert not script.asked


names = st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)
latin = names.filter(lambda name: name.isascii() and name.strip() == name and "%" not in name)


@given(
    st.lists(st.tuples(latin, st.text(st.characters(exclude_categories=["Cs"])))),
    st.lists(st.tuples(latin, st.binary())),
)
def test_what_was_given_is_what_a_parser_reads(fields: list[tuple[str, str]], files: list[tuple[str, bytes]]):
    async def run() -> tuple[str, bytes, int | None]:
        body = await open_multipart(dict(fields), files, rng=random.Random(2))
        return body.content_type, await whole(body), body.size

    kind, content, size = trio.run(run)
    assert size == len(content)
    if not fields and not files:
        return
    expected = [(name, value.encode()) for name, value in dict(fields).items()] + files
    assert [(name, body) for name, _, _, body in parsed(kind, content)] == expected


@given(st.text(), st.text(), st.text(), st.text())
def test_no_text_of_a_users_brings_a_line_of_its_own(field: str, name: str, kind: str, header: str):
    async def run() -> bytes:
        files = {field: (name, b"CONTENT", kind, {"x-note": header})}
        return await whole(await open_multipart({field: 1}, files, rng=random.Random(2), boundary="b"))

    try:
        content = trio.run(run)
    except InvalidInput:
        return
    head = content.partition(b"CONTENT")[0].split(b"\r\n")
    assert len(head) == 9
    assert not any(end in line for line in head for end in (b"\r", b"\n"))
    assert (head[1].count(b'"'), head[5].count(b'"')) == (2, 4)


async def answer(peer: Peer) -> None:
    while await peer.request() is not None:
        await peer.reply(200, b'{"id": "f-1"}')


@pytest.mark.parametrize("kind", ["ours", "httpx"])
@pytest.mark.parametrize("known", [True, False])
async def test_over_a_socket_with_its_length_or_in_chunks(kind: str, known: bool):
    import httpx

    transport = HttpTransport() if kind == "ours" else HttpxTransport(httpx.AsyncClient())
    content = random.Random(3).randbytes(700_000)
    file = File(content=content if known else Slow(content[:999]), name="a")
    async with loopback(answer) as server:
        config = Config.load(base_url=server.url, api_key=KEY, environ={})
        api = Api(transport, config)
        replies = [
            await upload(api, "/files", dict, {"n": 1}, {"f": file}, rng=random.Random(1), key="k"),
            await upload(api, "/files", dict, {"n": 1}, {}, rng=random.Random(1)),
        ]
        await transport.aclose()
    assert replies == [{"id": "f-1"}] * 2
    first, second = server.requests
    assert parsed(first.headers["content-type"], first.body)[1] == (
        "f", "a", "application/octet-stream", content if known else content[:999],
    )  # fmt: skip
    framing = ("content-length", str(len(first.body))) if known else ("transfer-encoding", "chunked")
    assert framing in first.headers.items()
    assert first.headers["x-idempotency-key"] == "k"
    assert (second.headers["content-type"], second.body) == ("application/json", b'{"n":1}')
    if kind == "ours":
        assert server.connections == 1  # it stays good for the next request


async def test_a_large_file_is_never_whole_in_memory(tmp_path: Path):
    path, size = tmp_path / "large", 16 << 20
    with path.open("wb") as opened:
        opened.truncate(size)

    received = 0

    async def drain(peer: Peer) -> None:
        nonlocal received
        await peer.head()
        while received < size:
            received += len(await peer.stream.receive_some(1 << 16))
        await peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with loopback(drain) as server:
        transport = HttpTransport()
        api = Api(transport, Config.load(base_url=server.url, api_key=KEY, environ={}))
        tracemalloc.start()
        try:
            assert await upload(api, "/files", dict, None, {"f": path}, rng=random.Random(1)) == {}
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await transport.aclose()
    assert peak < size // 4


@pytest.mark.parametrize("change", [b"", b"longer than before"])
async def test_a_file_that_changes_while_it_is_sent_is_told_and_not_taken(change: bytes, tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"as it was")
    body = await made(None, {"f": path})
    path.write_bytes(change)
    async with loopback(answer) as server:
        transport = HttpTransport()
        request = Request(method="POST", url=f"{server.url}/files", stream=body)
        with pytest.raises(InvalidInput, match=r"files\['f'\]: no longer has its 9 bytes"):
            await transport.send(request)
        assert transport.connections == 0
        await transport.aclose()
    assert not server.requests


class Twice:
    """Credentials of which the first is refused."""

    def __init__(self) -> None:
        self.key = "tml-first"

    async def current(self) -> Credential:
        return Credential((("x-api-key", self.key),), (self.key,))

    async def refused(self, credential: Credential, challenge: str) -> bool:
        self.key = "tml-second"
        return True

    def learn(self, *, exchange: bool, source: str) -> None: ...

    def renew(self, key: str) -> None: ...


async def test_what_can_be_read_once_is_sent_once():
    answers = (Answer({"detail": "no"}, 401), Answer({}))
    async with scripted(*answers, credentials=Twice()) as (api, script):
        assert await upload(api, "/files", dict, None, {"f": io.BytesIO(b"again")}, rng=random.Random(1)) == {}
        assert [b"again" in asked.body for asked in script.asked] == [True, True]
    async with scripted(*answers, credentials=Twice()) as (api, script):
        with pytest.raises(AuthenticationError):
            await upload(api, "/files", dict, None, {"f": Slow(b"once")}, rng=random.Random(1))
        assert len(script.asked) == 1
    moved = Answer({}, 307, {"location": "/elsewhere"})
    async with scripted(moved, Answer({})) as (api, script):
        with pytest.raises(APIStatusError, match="can't be sent twice"):
            await upload(api, "/files", dict, None, {"f": Slow(b"once")}, rng=random.Random(1))
        assert len(script.asked) == 1


async def test_a_refusal_that_comes_before_the_end_of_the_body_is_read():
    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.raw(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")

    class Endless:
        async def read(self, size: int) -> bytes:
            return b"x" * size

    async with loopback(refuse) as server:
        transport = HttpTransport()
        api = Api(transport, Config.load(base_url=server.url, api_key=KEY, environ={}))
        with trio.fail_after(20), pytest.raises(Exception) as told:
            await upload(
                api, "/files", dict, None, {"f": File(content=Endless())}, rng=random.Random(1), timeout=15.0
            )
        assert "413" in str(told.value) or "reset" in str(told.value).lower()  # the kernel may drop what had arrived
        assert transport.connections == 0
        await transport.aclose()


async def test_the_replay_after_a_refused_credential_has_the_time_that_is_left():
    started: list[float] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        started.append(trio.current_time())
        await receive()
        await trio.sleep(0.2)
        await send({"type": "http.response.start", "status": 401 if len(started) == 1 else 200, "headers": []})
        if len(started) > 1:
            await trio.sleep(5.0)
        await send({"type": "http.response.body", "body": b"{}"})

    async with scripted(Answer(), application=slow, credentials=Twice()) as (api, _):
        began = trio.current_time()
        with pytest.raises(TimeoutError):
            await api.call("/x", dict, {}, purpose="rest", timeout=0.5)
        assert 0.4 < trio.current_time() - began < 0.65
    assert len(started) == 2
