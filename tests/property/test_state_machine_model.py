"""Random messages, moves, timeouts, pauses and crashes against a small sequential model of gen_statem."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal

import trio
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from supervision import (
    Cast,
    ChildSpec,
    Mailbox,
    StateMachine,
    Undelivered,
    handles,
    in_state,
    on_enter,
    on_event_timeout,
    on_state_timeout,
)
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Boom, Log, system

# No two sums of these are equal, so that the model need not know which of two events at one instant comes first.
SHORT, LONG, LONGEST = 1.0013, 2.0029, 3.0071
NAP = 1.000171


class Do(Cast, frozen=True):
    """In every state: wait, then ask for all of this, then crash or return."""

    n: int
    nap: float = 0.0
    goto: str | None = None
    state_timeout: float | None = None
    event_timeout: float | None = None
    defer_in: str = ""
    crash: bool = False


class OnlyInB(Cast, frozen=True):
    n: int


class Machine(StateMachine[Literal["a", "b", "c"]]):
    initial = "a"
    states = ("a", "b", "c")

    def __init__(self, log: Log) -> None:
        self.log = log

    def note(self, *line: object) -> None:
        self.log.add(*line, self.state, round(trio.current_time(), 4))

    @on_enter("a", "b", "c")
    async def entered(self, previous: str | None) -> None:
        await trio.lowlevel.checkpoint()
        self.note("enter", previous)
        if self.state == "b":
            self.state_timeout(LONG)

    @on_state_timeout("a", "b", "c")
    def state_over(self) -> None:
        self.note("state over")
        if self.state != "c":
            self.goto("b" if self.state == "a" else "c")

    @on_event_timeout("a", "b", "c")
    async def event_over(self) -> None:
        self.note("event over")
        if self.state == "b":
            self.goto("a")

    @in_state("b")
    @handles(OnlyInB)
    def only_in_b(self, message: OnlyInB) -> None:
        self.note("only in b", message.n)

    @handles(Do)
    async def do(self, message: Do) -> None:
        self.note("do", message.n)
        if message.nap:
            await trio.sleep(message.nap)
        if self.state in message.defer_in:
            self.context.defer()
        if message.goto is not None:
            self.goto(message.goto)  # type: ignore[arg-type]
        if message.state_timeout is not None:
            self.state_timeout(message.state_timeout)
        if message.event_timeout is not None:
            self.event_timeout(message.event_timeout)
        if message.crash:
            raise Boom


class Refusing(Machine):
    when_unhandled = "refuse"


class Postponing(Machine):
    when_unhandled = "postpone"


class Timeout:
    """A timeout that is awaited: until it is taken, replaced or cancelled."""

    def __init__(self, kind: str, at: float, order: int) -> None:
        self.kind = kind
        self.at = at
        self.order = order
        self.fired = False


class Model:
    """What a machine should do, one step at a time. No trio in here."""

    def __init__(self, *, postpones: bool) -> None:
        self.now = 0.0
        self.postpones = postpones
        self.log: list[tuple[object, ...]] = []
        self.refused: list[int] = []
        self.queue: deque[Any] = deque()
        self.aside: list[Any] = []
        self.timers = 0
        self.begin()

    def begin(self) -> None:
        self.state = "a"
        self.urgent: deque[Timeout] = deque()
        self.timeouts: dict[str, Timeout] = {}
        self.napping: tuple[float, Do] | None = None
        self.enter(None, {})

    def note(self, *line: object) -> None:
        self.log.append((*line, self.state, round(self.now, 4)))

    def send(self, message: Any) -> None:
        self.queue.append(message)

    def advance(self, to: float) -> None:
        self.work()
        while True:
            moments = [(timeout.at, timeout.order) for timeout in self.timeouts.values() if not timeout.fired]
            if self.napping is not None:
                moments.append((self.napping[0], -1))
            if not moments or min(moments)[0] > to:
                break
            self.now, order = min(moments)
            if order == -1 and self.napping is not None:
                message, self.napping = self.napping[1], None
                self.finish(message)
            for timeout in self.timeouts.values():
                if timeout.order == order:
                    timeout.fired = True
                    self.urgent.append(timeout)
            self.work()
        self.now = to

    def work(self) -> None:
        while self.napping is None and (self.urgent or self.queue):
            # Two messages that are postponed in turn may chase each other round the states, in gen_statem as well.
            assume(len(self.log) < 2000)
            if self.urgent:
                timeout = self.urgent.popleft()
                if self.timeouts.get(timeout.kind) is not timeout:
                    continue
                del self.timeouts[timeout.kind]
                self.timeouts.pop("event over", None)
                self.note(timeout.kind)
                if timeout.kind == "state over" and self.state != "c":
                    self.move("b" if self.state == "a" else "c", {})
                elif timeout.kind == "event over" and self.state == "b":
                    self.move("a", {})
                continue
            message = self.queue.popleft()
            self.timeouts.pop("event over", None)
            if isinstance(message, Do):
                self.note("do", message.n)
                if message.nap:
                    self.napping = (self.now + message.nap, message)
                else:
                    self.finish(message)
            elif self.state == "b":
                self.note("only in b", message.n)
            elif self.postpones:
                self.aside.append(message)
            else:
                self.refused.append(message.n)

    def finish(self, message: Do) -> None:
        if message.crash:
            self.replay()
            self.begin()
            return
        if self.state in message.defer_in:
            self.aside.append(message)
        asked = {"state over": message.state_timeout, "event over": message.event_timeout}
        wanted = {kind: seconds for kind, seconds in asked.items() if seconds is not None}
        if message.goto is None:
            self.start(wanted)
        else:
            self.move(message.goto, wanted)

    def move(self, target: str, wanted: dict[str, float]) -> None:
        previous, self.state = self.state, target
        if target != previous:
            self.timeouts.pop("state over", None)
            self.replay()
        self.enter(previous, wanted)

    def enter(self, previous: str | None, wanted: dict[str, float]) -> None:
        self.note("enter", previous)
        self.start({**wanted, "state over": LONG} if self.state == "b" else wanted)

    def replay(self) -> None:
        self.queue.extendleft(reversed(self.aside))
        self.aside.clear()

    def start(self, wanted: dict[str, float]) -> None:
        for kind in ("state over", "event over"):
            if kind in wanted:
                self.timeouts.pop(kind, None)
                if wanted[kind] != math.inf:
                    self.timers += 1
                    self.timeouts[kind] = Timeout(kind, self.now + wanted[kind], self.timers)


seconds = st.one_of(st.none(), st.sampled_from([SHORT, LONG, LONGEST, math.inf]))
doing = st.builds(
    Do,
    n=st.integers(0, 99),
    nap=st.sampled_from([0.0, 0.0, NAP]),
    goto=st.one_of(st.none(), st.sampled_from("abc")),
    state_timeout=seconds,
    event_timeout=seconds,
    defer_in=st.sampled_from(["", "", "a", "bc"]),
    crash=st.sampled_from([False] * 7 + [True]),
)
operations = st.one_of(doing, doing, st.builds(OnlyInB, n=st.integers(0, 99)), st.integers(1, 4))


@settings(deadline=None)
@given(st.lists(operations, min_size=1, max_size=25), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_machine_does_what_the_model_does(ops: list[Any], postpones: bool, seed: int) -> None:
    model = Model(postpones=postpones)
    moments: list[tuple[float, Any]] = []
    now = 0.0
    for op in [*ops, 100]:
        if isinstance(op, int):
            now += op
            model.advance(now)
        else:
            moments.append((now, op))
            model.send(op)

    async def run() -> None:
        log = Log()
        kind = Postponing if postpones else Refusing
        async with system(log, max_restarts=10**6) as s:
            spec = ChildSpec("m", lambda: kind(log), backoff=NOW, mailbox=Mailbox(capacity=math.inf))
            ref = await s.start_child(spec)
            assert trio.current_time() == 0
            for moment, message in moments:
                await trio.sleep_until(moment)
                ref.cast_nowait(message)
            await trio.sleep_until(now)
            assert log.lines == model.log
            refused = [event.message.n for event in log.seen(Undelivered) if event.why == "not_in_state"]
            assert refused == model.refused
            assert len(ref.place.inbox.aside or ()) == len(model.aside)
            assert s.statistics().timers == len(model.timeouts)

    run_seeded(run, seed=seed)
