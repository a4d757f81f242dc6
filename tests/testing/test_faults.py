from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from tests.testing.echo import Echo
from tests.testing.test_network import BODY, post
from tinker_actors.errors import APIConnectionError, APITimeoutError, InvalidInput
from tinker_actors.ports import Request, Transport
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults import (
    FAULT_KINDS,
    BlockLoop,
    CancelCaller,
    CorruptModels,
    CrashActor,
    CrashAt,
    Delay,
    DropAfter,
    DropBefore,
    Duplicate,
    Ending,
    ExpireSessions,
    Fault,
    FaultPlan,
    FaultyTransport,
    FullDisk,
    InjectedCrash,
    JumpClock,
    KillRuntime,
    LosePromises,
    LostSync,
    Partition,
    PauseQueue,
    PlannedPoints,
    RefuseSeqId,
    Reorder,
    Reset,
    RestartServer,
    ServerFault,
    ServerUnderTest,
    Status,
    TornWrite,
    Truncate,
    plan_from_json,
)
from tinker_actors.testing.network import open_network

EVERY: tuple[Fault, ...] = (
    DropBefore(path="/a", nth=3, known=True),
    DropAfter(path="/a"),
    Delay(path="/b", seconds=1.5, reply=True),
    Duplicate(path="", times=2),
    Status(path="/c", status=429, retry_after=2.0),
    Truncate(path="/d", keep=7),
    CrashAt(point="training.sent", nth=2),
    Reset(path="/a"),
    Reorder(path="/a", behind=2, seconds=9.0),
    Partition(path="/a", seconds=3.0),
    RefuseSeqId(path="/a", expected=4),
    LosePromises(path="/a", later=0.5),
    PauseQueue(path="/a", seconds=4.0),
    ExpireSessions(path="/a"),
    CorruptModels(path="/a"),
    RestartServer(path="/a", keeps="nothing", down=2.0),
    JumpClock(path="/a", seconds=-3600.0, client=True),
    CrashActor(step=7, actor="heartbeat"),
    CancelCaller(step=8),
    BlockLoop(step=9, seconds=1.0),
    KillRuntime(step=10),
    FullDisk(nth=2, times=3),
    TornWrite(nth=4),
    LostSync(nth=2, times=2),
)


@asynccontextmanager
async def faulty(*plan: Fault, carry: bool = True) -> AsyncGenerator[tuple[Echo, FaultyTransport]]:
    echo = Echo()
    async with trio.open_nursery() as nursery, open_network(echo, random=random.Random(1)) as network:
        transport = FaultyTransport(network.transport(), FaultPlan(plan), nursery=nursery if carry else None)
        yield echo, transport


async def send(transport: Transport, request: Request) -> bytes:
    return await (await transport.send(request)).read(1000)


def test_a_plan_prints_as_the_python_that_makes_it_again() -> None:
    plan = FaultPlan(EVERY)
    names = {kind.__name__: kind for kind in FAULT_KINDS} | {"FaultPlan": FaultPlan}
    assert {type(fault) for fault in EVERY} == set(FAULT_KINDS)
    assert eval(repr(plan), names) == plan


def test_a_plan_survives_json() -> None:
    plan = FaultPlan(EVERY)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=FaultPlan) == plan


def test_counts_start_at_one() -> None:
    with pytest.raises(InvalidInput, match="nth"):
        DropBefore(path="/a", nth=0)
    with pytest.raises(InvalidInput, match="times"):
        Duplicate(path="/a", times=0)
    with pytest.raises(InvalidInput, match="nth"):
        CrashAt(point="x", nth=0)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: FaultPlan([Reset(path="")]), "faults: are of type list"),
        (
            lambda: FaultPlan((Reset(path=""), "DropAfter")),
            r"faults\[1\]: is of type str. Give one of DropBefore, DropAfter, .*LostSync",
        ),
        (lambda: Reorder(path="", behind=0), "behind: 0 is not positive"),
        (lambda: Reorder(path="", seconds=-1.0), "seconds: -1.0 is out of range"),
        (lambda: RefuseSeqId(path="", expected=0), "expected: 0 is not positive"),
        (lambda: Partition(path="", seconds=float("inf")), "seconds: inf"),
        (lambda: PauseQueue(path="", seconds=float("nan")), "seconds: nan"),
        (lambda: RestartServer(path="", down=-1.0), "down: -1.0"),
        (lambda: LosePromises(path="", later=-1.0), "later: -1.0"),
        (lambda: CrashActor(step=1, actor=""), "actor: is empty"),
        (lambda: CancelCaller(step=0), "step: 0 is not positive"),
        (lambda: BlockLoop(step=1, seconds=-2.0), "seconds: -2.0"),
        (lambda: JumpClock(path="", seconds=float("nan")), "seconds: nan is out of range"),
        (lambda: JumpClock(path="", seconds=-1e9), "seconds: -1000000000.0 is out of range"),
        (lambda: CrashAt(point=""), "point: is empty"),
        (lambda: DropBefore(path="", nth="3"), "nth: '3' is not an integer"),
        (lambda: DropAfter(path=5), "path: 5 is not a string"),
        (lambda: DropAfter(path=None), "path: None is not a string"),
        (lambda: Duplicate(path="", times=2.0), "times: 2.0 is not an integer"),
        (lambda: Delay(path="", seconds="1"), "seconds: '1' is not a number"),
        (lambda: Delay(path="", seconds=1.0, reply="no"), "reply: 'no' is neither True nor False"),
        (lambda: Status(path="", status="503"), "status: '503' is not an integer"),
        (lambda: Status(path="", status=503, retry_after="soon"), "retry_after: 'soon' is not a number"),
        (lambda: Status(path="", status=503, body=b""), "body: b'' is not a string"),
        (lambda: Truncate(path="", keep=1.5), "keep: 1.5 is not an integer"),
        (lambda: RestartServer(path="", keeps="all"), "keeps: is 'all'. Give one of 'memory', 'disk', 'nothing'"),
        (lambda: RestartServer(path="", keeps=["disk"]), "keeps: is .'disk'.. Give one of"),
        (lambda: LosePromises(path="", nth=True), "nth: True is not an integer"),
        (lambda: CrashAt(point=7), "point: 7 is not a string"),
        (lambda: CrashActor(step=1, actor=None), "actor: None is not a string"),
        (lambda: KillRuntime(step=1.0), "step: 1.0 is not an integer"),
        (lambda: FullDisk(nth="1"), "nth: '1' is not an integer"),
    ],
)
def test_what_can_not_be_is_refused_by_name(bad: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        bad()


def test_each_field_of_each_kind_is_checked() -> None:
    for fault in EVERY:
        for field in msgspec.structs.fields(type(fault)):
            with pytest.raises(InvalidInput, match=f"^{field.name}: "):
                msgspec.structs.replace(fault, **{field.name: object()})


def test_numbers_of_numpy_are_numbers_and_whole_numbers_are_seconds() -> None:
    delay = Delay(path="/a", nth=np.int64(2), seconds=np.float32(1.5))
    assert repr(delay) == "Delay(path='/a', nth=2, times=1, seconds=1.5, reply=False)"
    assert msgspec.json.decode(msgspec.json.encode(delay), type=Delay) == delay
    assert repr(Partition(path="", seconds=3)) == "Partition(path='', nth=1, times=1, seconds=3.0)"


def test_a_plan_is_read_from_json() -> None:
    plan = FaultPlan(EVERY)
    assert plan_from_json(msgspec.json.encode(plan)) == plan
    assert plan_from_json('{"faults": []}') == FaultPlan()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "faults: is no JSON: "),
        ("[]", 'faults: is no object with the key "faults"'),
        ('{"faults": [], "seed": 1}', 'faults: is no object with the key "faults", and no other'),
        ('{"faults": {}}', "faults: is no list"),
        ('{"faults": [1]}', "faults[0]: is 1. Give "),
        ('{"faults": [{"path": ""}]}', "faults[0].type: is None, which is no kind of fault. There are DropBefore, "),
        (
            '{"faults": [{"type": "KillRuntime", "step": 1}, {"type": "DropAftr"}]}',
            "faults[1].type: is 'DropAftr', which is no kind of fault. Did you mean DropAfter? There are ",
        ),
        (
            '{"faults": [{"type": "DropAfter", "path": "", "tmes": 2}]}',
            "faults[0].tmes: is no field of DropAfter. Did you mean times? There are path, nth, times",
        ),
        ('{"faults": [{"type": "Delay", "path": ""}]}', "faults[0].seconds: is missing, and a Delay needs it"),
        ('{"faults": [{"type": "FullDisk", "nth": "3"}]}', "faults[0].nth: '3' is not an integer"),
        ('{"faults": [{"type": "DropAfter", "path": null}]}', "faults[0].path: None is not a string"),
        ('{"faults": [{"type": "Delay", "path": "", "seconds": -1}]}', "faults[0].seconds: -1.0 is out of range"),
    ],
)
def test_what_is_no_plan_in_json_is_named_with_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan_from_json(text)
    assert str(caught.value).startswith(words)


def test_a_plan_must_end_as_its_worst_fault() -> None:
    assert FaultPlan().ending is Ending.EQUAL
    assert FaultPlan((Reset(path=""), Status(path="/x", status=410))).ending is Ending.EQUAL
    assert FaultPlan((Reset(path=""), Status(path="/x", status=403), Duplicate(path=""))).ending is Ending.ERROR
    assert Status(path="/optim_step", status=400).ending is Ending.ERROR
    assert Status(path="/retrieve_future", status=400, times=3).ending is Ending.EQUAL
    assert Status(path="/retrieve_future", status=400, times=4).ending is Ending.ERROR


def test_what_loses_an_answer_may_end_with_a_verdict_where_nobody_else_can_tell() -> None:
    verdict = {type(fault) for fault in EVERY if fault.ending_at(ServerClass.NONE, asks=True) is Ending.VERDICT}
    assert verdict == {
        *(DropBefore, DropAfter, Reset, Delay, Reorder, Partition, Status, Truncate),
        *(RestartServer, CrashAt, CrashActor, BlockLoop),
    }
    plan = FaultPlan(EVERY)
    assert plan.ending_at(ServerClass.NONE, asks=True) is Ending.VERDICT
    for server_class, asks in ((ServerClass.NONE, False), (ServerClass.DEDUP, True), (ServerClass.ORDERED, True)):
        assert all(fault.ending_at(server_class, asks=asks) is fault.ending for fault in EVERY)
        assert plan.ending_at(server_class, asks=asks) is plan.ending


async def test_faults_of_a_server_need_one() -> None:
    async with open_network(Echo(), random=random.Random(1)) as network:
        with pytest.raises(InvalidInput, match=r"faults\[1\]: is a LosePromises.*no server here"):
            FaultyTransport(network.transport(), FaultPlan((Reset(path=""), LosePromises(path=""))))


@pytest.mark.parametrize("later", [0.0, 0.5])
async def test_what_happens_to_a_server_goes_on_when_who_asked_it_has_given_up(
    autojump_clock: MockClock, later: float
) -> None:
    class Slow(ServerUnderTest):
        done = 0.0

        async def suffer(self, fault: ServerFault) -> None:
            await trio.sleep(5)
            self.done = trio.current_time()

    slow, echo = Slow(), Echo()
    plan = FaultPlan((RestartServer(path="/echo", down=5.0, later=later),))
    async with trio.open_nursery() as nursery, open_network(echo, random=random.Random(1)) as network:
        transport = FaultyTransport(network.transport(), plan, nursery=nursery, server=slow)
        with trio.move_on_after(1):
            await send(transport, post("/echo"))
        assert echo.done == ([] if later == 0 else [BODY])
        await trio.sleep(10)
    assert slow.done == pytest.approx(5 + later)


async def test_a_reset_request_is_worked_on_although_its_client_knows_at_once(autojump_clock: MockClock) -> None:
    async with faulty(Reset(path="/echo")) as (echo, transport):
        with pytest.raises(APIConnectionError, match="while the server works"):
            await send(transport, post("/echo"))
        assert echo.done == []
        await trio.sleep(1)
        assert echo.done == [BODY]


async def test_a_reordered_request_comes_after_those_behind_it(autojump_clock: MockClock) -> None:
    async with faulty(Reorder(path="/echo", behind=2)) as (echo, transport), trio.open_nursery() as nursery:
        nursery.start_soon(send, transport, post("/echo", b"first"))
        await trio.sleep(0.5)
        assert await send(transport, post("/echo", b"second")) == b"second"
        assert await send(transport, post("/echo", b"third")) == b"third"
        await trio.sleep(0.5)
        assert echo.done == [b"second", b"third", b"first"]


async def test_a_reordered_request_waits_for_nobody_for_ever(autojump_clock: MockClock) -> None:
    async with faulty(Reorder(path="/echo", behind=2, seconds=2.0)) as (_, transport):
        assert await send(transport, post("/echo", timeout=5)) == BODY
        assert trio.current_time() == pytest.approx(2, abs=0.1)


async def test_nothing_passes_a_partition_in_either_direction(autojump_clock: MockClock) -> None:
    async with faulty(Partition(path="/cut", seconds=7)) as (echo, transport), trio.open_nursery() as nursery:
        nursery.start_soon(send, transport, post("/echo", b"on its way"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(APITimeoutError):
            await send(transport, post("/cut", timeout=5))
        assert trio.current_time() == pytest.approx(5)
        assert echo.done == [b"on its way"]
        assert await send(transport, post("/echo", timeout=5)) == BODY
        assert trio.current_time() == pytest.approx(7, abs=0.1)


async def test_drop_before_hits_the_nth_attempt_on_its_path_only(autojump_clock: MockClock) -> None:
    async with faulty(DropBefore(path="/echo", nth=2, times=2)) as (echo, transport):
        assert await send(transport, post("/echo")) == BODY
        assert await send(transport, post("/other")) == BODY
        for _ in range(2):
            with pytest.raises(APIConnectionError) as caught:
                await send(transport, post("/echo"))
            assert caught.value.sent  # a client can't tell where a connection broke
        assert await send(transport, post("/echo")) == BODY
        assert len(echo.done) == 3
        assert [(fired.attempt, fired.subject) for fired in transport.fired] == [
            (2, "POST /echo"),
            (3, "POST /echo"),
        ]


async def test_drop_before_may_be_known(autojump_clock: MockClock) -> None:
    async with faulty(DropBefore(path="/echo", known=True)) as (echo, transport):
        with pytest.raises(APIConnectionError) as caught:
            await send(transport, post("/echo"))
        assert not caught.value.sent
        assert echo.done == []


async def test_drop_after_loses_the_reply_of_work_that_was_done(autojump_clock: MockClock) -> None:
    async with faulty(DropAfter(path="/echo")) as (echo, transport):
        with pytest.raises(APIConnectionError):
            await send(transport, post("/echo"))
        assert echo.done == [BODY]


async def test_a_delayed_request_arrives_although_its_client_gave_up(autojump_clock: MockClock) -> None:
    async with faulty(Delay(path="/echo", seconds=7)) as (echo, transport):
        with pytest.raises(APITimeoutError):
            await send(transport, post("/echo", b"first", timeout=5))
        assert trio.current_time() == pytest.approx(5)
        assert await send(transport, post("/echo", b"second")) == b"second"
        assert echo.done == [b"second"]
        await trio.sleep(5)
        assert echo.done == [b"second", b"first"]


async def test_without_a_nursery_a_delayed_request_dies_with_its_client(autojump_clock: MockClock) -> None:
    async with faulty(Delay(path="/echo", seconds=7), carry=False) as (echo, transport):
        with pytest.raises(APITimeoutError):
            await send(transport, post("/echo", timeout=5))
        await trio.sleep(5)
        assert echo.done == []


@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("carry", [False, True])
async def test_a_delay_within_the_timeout_is_only_a_delay(
    autojump_clock: MockClock, reply: bool, carry: bool
) -> None:
    async with faulty(Delay(path="/echo", seconds=3, reply=reply), carry=carry) as (_, transport):
        assert await send(transport, post("/echo", timeout=5)) == BODY
        assert trio.current_time() == pytest.approx(3, abs=0.1)


async def test_a_delayed_reply_may_come_too_late(autojump_clock: MockClock) -> None:
    async with faulty(Delay(path="/echo", seconds=7, reply=True)) as (echo, transport):
        with pytest.raises(APITimeoutError):
            await send(transport, post("/echo", timeout=5))
        assert trio.current_time() == pytest.approx(5)
        assert echo.done == [BODY]


async def test_a_cancelled_client_of_a_delayed_request_leaves_nothing_open(autojump_clock: MockClock) -> None:
    async with faulty(Delay(path="/echo", seconds=3)) as (echo, transport):
        with trio.move_on_after(1):
            await send(transport, post("/echo"))
        await trio.sleep(5)
        assert echo.done == [BODY]


async def test_a_duplicate_reaches_the_server_twice(autojump_clock: MockClock) -> None:
    async with faulty(Duplicate(path="/echo")) as (echo, transport):
        assert await send(transport, post("/echo")) == BODY
        assert echo.done == [BODY, BODY]


@pytest.mark.parametrize("after", [False, True])
async def test_a_status_comes_before_or_after_the_server_acted(autojump_clock: MockClock, after: bool) -> None:
    async with faulty(Status(path="/echo", status=503, retry_after=2.5, after=after)) as (echo, transport):
        response = await transport.send(post("/echo"))
        assert response.status == 503
        assert response.headers["retry-after"] == "2.5"
        assert b"fault plan" in await response.read(1000)
        assert echo.done == ([BODY] if after else [])


@pytest.mark.parametrize("keep", [0, 2, 3, 5])
async def test_a_reply_is_truncated_where_the_plan_says(autojump_clock: MockClock, keep: int) -> None:
    async with faulty(Truncate(path="/echo", keep=keep)) as (_, transport):
        response = await transport.send(post("/echo"))
        got = b""
        with pytest.raises(APIConnectionError, match="within the reply"):
            async for piece in response.stream():
                got += piece
        assert got == BODY[:keep]


async def test_of_two_faults_on_one_attempt_the_first_happens_and_both_have_counted(
    autojump_clock: MockClock,
) -> None:
    async with faulty(DropBefore(path="/echo", nth=1), DropAfter(path="", nth=2)) as (echo, transport):
        with pytest.raises(APIConnectionError):
            await send(transport, post("/echo"))
        with pytest.raises(APIConnectionError):
            await send(transport, post("/echo"))
        assert echo.done == [BODY]
        assert [type(fired.fault) for fired in transport.fired] == [DropBefore, DropAfter]
    async with faulty(DropBefore(path="/echo"), DropAfter(path="/echo", times=2)) as (echo, transport):
        for _ in range(2):
            with pytest.raises(APIConnectionError):
                await send(transport, post("/echo"))
        assert echo.done == [BODY]
        assert [type(fired.fault) for fired in transport.fired] == [DropBefore, DropAfter]


async def test_points_crash_the_nth_time_and_count_all(autojump_clock: MockClock) -> None:
    points = PlannedPoints(FaultPlan((CrashAt(point="a", nth=2), CrashAt(point="a", nth=4))))
    for number in range(1, 6):
        points.reach("b", "op 0")
        if number in (2, 4):
            with pytest.raises(InjectedCrash, match=f"op {number}"):
                points.reach("a", f"op {number}")
        else:
            points.reach("a", f"op {number}")
    assert points.reached == {"a": 5, "b": 5}
    assert [fired.subject for fired in points.fired] == ["op 2", "op 4"]
