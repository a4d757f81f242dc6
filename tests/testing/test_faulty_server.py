"""Faults at a real server on loopback: what the client sees, and what the server has done."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
import trio

from tests.local.harness import TINY, datum
from tinker_actors import AdamParams, InvalidInput, LocalServer, ServerSettings, local_server, open_runtime
from tinker_actors.testing.faults import (
    FAULT_KINDS,
    Delay,
    DropAfter,
    DropBefore,
    Duplicate,
    Fault,
    FaultPlan,
    NetworkFault,
    Partition,
    Reorder,
    Reset,
    Status,
    Truncate,
)
from tinker_actors.testing.faults.kinds import AtRequest
from tinker_actors.testing.faulty_server import FaultyApplication, drawn_fault_plan, read_fault_plan

SETTINGS = ServerSettings(base_model=TINY)
SESSION = "/create_session"
ALLOWED = "Leave it out, or give one of DropBefore, .*, Truncate$"


@asynccontextmanager
async def asking(*faults: Fault) -> AsyncGenerator[tuple[LocalServer, httpx.AsyncClient]]:
    async with (
        local_server(SETTINGS, loopback=True, faults=FaultPlan(faults)) as server,
        httpx.AsyncClient(base_url=f"{server.url}/api/v1", headers={"x-api-key": server.key}, timeout=60) as client,
    ):
        yield server, client


BODY = {"tags": [], "user_metadata": {}, "sdk_version": "0"}


async def create(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(SESSION, json=BODY)


def sessions(server: LocalServer) -> int:
    return len(server.service.sessions.alive())


@pytest.mark.parametrize(
    ("fault", "done"), [(DropBefore(path=SESSION), 0), (DropAfter(path=SESSION), 1)], ids=["before", "after"]
)
async def test_a_lost_connection_is_reset_and_the_next_request_served(fault: Fault, done: int) -> None:
    async with asking(fault) as (server, client):
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await create(client)
        assert sessions(server) == done
        assert (await create(client)).status_code == 200
        assert sessions(server) == done + 1


async def test_a_repeated_request_reaches_the_server_twice() -> None:
    async with asking(Duplicate(path=SESSION)) as (server, client):
        assert (await create(client)).status_code == 200
        assert sessions(server) == 2


@pytest.mark.parametrize("after", [False, True])
async def test_an_error_status_is_answered_before_or_after_the_server_has_acted(after: bool) -> None:
    async with asking(Status(path=SESSION, status=503, retry_after=2.5, after=after, times=2)) as (server, client):
        for count in (1, 2):
            answer = await create(client)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2.5")
            assert answer.json() == {"detail": "HTTP 503 injected by the fault plan"}
            assert sessions(server) == (count if after else 0)
        assert (await create(client)).status_code == 200


async def test_a_reply_is_cut_where_the_plan_says() -> None:
    async with asking(Truncate(path=SESSION, keep=5)) as (server, client):
        came = b""
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            async with client.stream(
                "POST", SESSION, json={"tags": [], "user_metadata": {}, "sdk_version": "0"}
            ) as answer:
                assert answer.status_code == 200
                async for piece in answer.aiter_bytes():
                    came += piece
        assert came == b'{"ses'
        assert sessions(server) == 1
        assert (await create(client)).status_code == 200


@pytest.mark.parametrize("reply", [False, True])
async def test_a_delay_is_before_the_request_or_before_the_reply(reply: bool) -> None:
    async with asking(Delay(path=SESSION, seconds=0.3, reply=reply)) as (server, client):
        begun = datetime.now(UTC)
        assert (await create(client)).status_code == 200
        ended = datetime.now(UTC)
        (session,) = server.service.sessions.alive()
    created = session.record.created_at
    assert (ended - created if reply else created - begun) >= timedelta(seconds=0.29)


async def test_only_the_named_requests_are_hit_and_each_is_said(caplog: pytest.LogCaptureFixture) -> None:
    fault = Status(path="/healthz", nth=2, status=500)
    async with asking(fault) as (_, client):
        with caplog.at_level(logging.WARNING, "tinker_actors.faults"):
            got = [(await client.get(path)).status_code for path in ("/healthz", "/nothing", "/healthz", "/healthz")]
    assert got == [200, 404, 500, 200]
    assert [record.message for record in caplog.records] == [f"GET /api/v1/healthz meets {fault!r}"]


@pytest.mark.parametrize("loopback", [False, True])
async def test_training_through_drawn_faults_takes_effect_once_and_in_order(loopback: bool) -> None:
    plan = drawn_fault_plan(11, 40)
    assert plan == drawn_fault_plan(11, 40)
    assert plan != drawn_fault_plan(12, 40)
    assert {type(fault) for fault in plan.faults} == {DropBefore, DropAfter, Delay, Duplicate, Status, Truncate}
    short = tuple(msgspec.structs.replace(fault, seconds=0.01) if isinstance(fault, Delay) else fault
                  for fault in plan.faults)  # fmt: skip
    async with (
        local_server(SETTINGS, loopback=loopback, faults=FaultPlan(short)) as server,
        open_runtime(server=server, seed=1) as runtime,
    ):
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client(TINY, rank=2)
        for step in range(6):
            await client.forward_backward([datum(step)], "cross_entropy")
            await (await client.optim_step(AdamParams(learning_rate=0.01)))
        applied = server.service.applied(client.model_id)
        assert [entry.seq_id for entry in applied] == list(range(1, 13))


async def test_a_server_whose_connections_cannot_be_broken_off_says_so() -> None:
    async def never(*_: object) -> None:
        raise AssertionError

    faulty = FaultyApplication(never, FaultPlan((DropBefore(path=""),)))
    with pytest.raises(RuntimeError, match="FaultyTransport"):
        await faulty({"type": "http", "method": "GET", "path": "/x"}, never, never)  # type: ignore[arg-type]


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = drawn_fault_plan(3, 60)
    file = tmp_path / "plan.json"
    file.write_bytes(msgspec.json.encode(plan))
    assert read_fault_plan(file) == plan
    file.write_text('{"faults": [{"type": "DropAfter", "path": "/optim_step", "nth": 2}]}')
    assert read_fault_plan(file) == FaultPlan((DropAfter(path="/optim_step", nth=2),))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can't be read: No such file"),
        ("", "faults: is no JSON"),
        ("{}", 'faults: is no object with the key "faults"'),
        ('{"faults": [{"type": "Drop", "path": ""}]}', r"faults\[0\].type: is 'Drop'.* There are DropBefore"),
        ('{"faults": [{"type": "DropAfter"}]}', r"faults\[0\].path: is missing"),
        ('{"faults": [{"type": "Delay", "path": "", "seconds": "x"}]}', r"faults\[0\].seconds: 'x' is not a number"),
        ('{"faults": [{"type": "DropAfter", "path": "", "nth": 0}]}', "nth: 0 is not positive"),
        ('{"faults": [{"type": "DropAfter", "path": "", "nthh": 2}]}', "nthh"),
        ('{"fault": []}', "fault"),
        ('{"faults": [{"type": "CrashAt", "point": "x"}]}', rf"\[0\]: is a CrashAt.* a client's program.*{ALLOWED}"),
        ('{"faults": [{"type": "RestartServer", "path": ""}]}', rf"a RestartServer.* a simulated server.*{ALLOWED}"),
        ('{"faults": [{"type": "FullDisk"}]}', rf"faults\[0\]: is a FullDisk.* a simulated disk.*{ALLOWED}"),
        ('{"faults": [{"type": "Status", "path": "", "status": 99}]}', "status: 99 is no status of HTTP"),
        ('{"faults": [{"type": "Delay", "path": "", "seconds": -1}]}', "seconds: -1"),
        ('{"faults": [{"type": "Truncate", "path": "", "keep": -1}]}', "keep: -1"),
    ],
)
def test_a_plan_that_cannot_be_is_named_with_its_place(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "plan.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidInput, match=words) as caught:
        read_fault_plan(file)
    assert str(file) in str(caught.value)


async def test_a_reset_connection_is_noticed_while_the_server_works() -> None:
    async with asking(Reset(path=SESSION)) as (server, client):
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await create(client)
        with trio.fail_after(10):
            while sessions(server) == 0:  # noqa: ASYNC110  # the server tells nobody
                await trio.sleep(0.01)


async def test_a_reordered_request_is_served_after_another() -> None:
    async with asking(Reorder(path="/healthz", seconds=30)) as (_, client), trio.open_nursery() as nursery:
        order: list[str] = []

        async def ask(name: str, path: str) -> None:
            await client.get(path)
            order.append(name)

        nursery.start_soon(ask, "held", "/healthz")
        await trio.sleep(0.2)
        await ask("second", "/nothing")
    assert order == ["second", "held"]


async def test_nothing_passes_a_partition() -> None:
    async with asking(Partition(path="/healthz", seconds=0.3)) as (_, client):
        begun = datetime.now(UTC)
        assert (await client.get("/healthz")).status_code == 200
        assert datetime.now(UTC) - begun >= timedelta(seconds=0.29)


async def test_an_answer_may_have_a_body_of_its_own() -> None:
    async with asking(Status(path="/healthz", status=200, body='{"error": "it broke"}')) as (_, client):
        assert (await client.get("/healthz")).json() == {"error": "it broke"}


def test_every_kind_stands_on_the_page_with_its_fields_and_its_end() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8")
    places = {field for kind in (AtRequest, NetworkFault) for field in kind.__struct_fields__}
    for kind in FAULT_KINDS:
        row = next(line for line in page.splitlines() if line.startswith(f"| {kind.__name__} "))
        assert all(f"`{name}`" in row for name in set(kind.__struct_fields__) - places)
        told = row.rstrip(" |").rpartition("|")[2].strip()
        assert told == ("by its status" if kind is Status else kind.ends.value), kind.__name__
