"""What a type checker knows: this file is checked by basedpyright (see the test), and runs as well."""

from __future__ import annotations

import random
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Literal, assert_type

import pytest

from supervision import (
    Actor,
    ActorRef,
    ActorSystem,
    Call,
    Cast,
    ChildSpec,
    DynamicSupervisorSpec,
    Mailbox,
    PartitionSupervisorSpec,
    Reply,
    StateMachine,
    SupervisedTask,
    SupervisionError,
    SupervisorRef,
    SupervisorSpec,
    TaskSupervisorSpec,
    WrongMessageKind,
    WrongReply,
    handles,
    in_state,
    on_enter,
    on_state_timeout,
    open_system,
)
from tests.supervision.world import NOW, seeded, system


class Length(Call[int], frozen=True):
    text: str


class Note(Cast, frozen=True):
    text: str


class Measurer(Actor):
    def __init__(self) -> None:
        self.notes: list[str] = []

    @handles(Length)
    async def length(self, message: Length) -> int:
        return len(message.text)

    @handles(Note)
    def note(self, message: Note) -> None:
        self.notes.append(message.text)


@seeded(seeds=1)
async def test_types_as_inferred_are_types_as_they_come() -> None:
    async with system() as s:
        ref = await s.start_child(ChildSpec("m", Measurer, backoff=NOW))
        assert isinstance(ref, ActorRef)
        assert await ref.call(Length("four")) == 4


def measurer(number: int) -> ChildSpec:
    return ChildSpec(f"m{number}", Measurer)


async def measure(text: str, times: int) -> int:
    return len(text) * times


async def checked(ref: ActorRef, supervisor: SupervisorRef, reply: Reply[int]) -> None:
    """Never run: only checked."""
    assert_type(await ref.call(Length("four")), int)
    assert_type(await supervisor.start_child(ChildSpec("m", Measurer)), ActorRef)
    assert_type(await supervisor.start_child(SupervisorSpec("g")), SupervisorRef)
    actors = await supervisor.start_child(PartitionSupervisorSpec("p", child=measurer, partitions=2))
    assert_type(actors.partition(1), ActorRef)
    supervisors = PartitionSupervisorSpec("q", child=lambda n: DynamicSupervisorSpec(f"d{n}"), partitions=2)
    assert_type((await supervisor.start_child(supervisors)).partition(("a", 1)), SupervisorRef)
    actors.partition(1.5)  # pyright: ignore[reportArgumentType, reportCallIssue]
    tasks = await supervisor.start_child(TaskSupervisorSpec("tasks"))
    task = await tasks.start(measure, "text", 3)
    assert_type(task, SupervisedTask[int])
    assert_type(await task.result(), int)
    assert_type(tasks.start_nowait(measure, "text", 3), SupervisedTask[int])
    await tasks.start(measure, "text")  # pyright: ignore[reportArgumentType]
    assert_type(reply.send(3), bool)
    await ref.call(Note("a cast is no call"))  # pyright: ignore[reportArgumentType]
    await ref.cast(Length("a call is no cast"))  # pyright: ignore[reportArgumentType]
    reply.send("no int")  # pyright: ignore[reportArgumentType]


def report(path: str, message: object, why: str) -> None: ...


def report_to_nobody(path: str) -> None: ...


async def options(ref: ActorRef) -> None:
    """Never run: only checked."""
    ChildSpec("m", Measurer, on_undelivered=report, mailbox=Mailbox(capacity=0))
    ChildSpec("m", Measurer, on_undelivered=report_to_nobody)  # pyright: ignore[reportArgumentType]
    ChildSpec("m", Measurer, mailbox=Mailbox(capacity="none"))  # pyright: ignore[reportArgumentType]
    Mailbox(0)  # pyright: ignore[reportCallIssue]
    async with open_system(random=random.Random(0), strict_replies=True) as s:
        assert_type(s, ActorSystem)
    open_system(random=random.Random(0), strict_replies="always")  # pyright: ignore[reportArgumentType]
    try:
        assert_type(await ref.call(Length("four")), int)
    except (WrongReply, WrongMessageKind) as error:
        caught: SupervisionError = error
        assert caught.args


class Wrong(Actor):
    @handles(Length)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
    async def length(self, message: Length) -> str:
        return "no int"


class Light(Enum):
    OFF = 0
    ON = 1


class Lamp(StateMachine[Light]):
    initial = Light.OFF

    @in_state(Light.OFF)
    @handles(Length)
    async def length(self, message: Length) -> int:
        self.goto(Light.ON)
        self.goto("ON")  # pyright: ignore[reportArgumentType]
        assert_type(self.state, Light)
        return len(message.text)

    @in_state(Light.ON)
    @handles(Length)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
    def no_length(self, message: Length) -> str:
        return "no int"

    @on_enter(Light.ON)
    async def lit(self, previous: Light | None) -> None: ...

    @on_enter(Light.OFF)  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
    def unlit(self) -> None: ...

    @on_state_timeout(Light.ON)
    def burnt_out(self) -> None: ...


class Switch(StateMachine[Literal["off", "on"]]):
    initial = "off"
    states = ("off", "on")

    @handles(Note)
    def note(self, message: Note) -> None:
        self.goto("on")
        self.goto("in between")  # pyright: ignore[reportArgumentType]


@pytest.mark.ci
def test_the_checker_agrees() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--level", "error", __file__],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
