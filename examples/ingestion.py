"""Supervision alone: a pipeline with backpressure and a stage that crashes; what it has accepted is not lost.

`python examples/ingestion.py [LINES]` needs no server. Ctrl-C ends it in order, at any time.
"""

import random
import signal
import sys

import trio

import supervision


class Parse(supervision.Cast, frozen=True):
    redeliver = 50  # a parser that crashes over a line leaves it to the next one, up to so many times
    line: int


class Save(supervision.Cast, frozen=True):
    line: int
    word: str


class Drain(supervision.Call[None], frozen=True): ...  # answered when all that came before has been handled


class Stage(supervision.Actor):
    @supervision.handles(Drain)
    def drain(self, message: Drain) -> None: ...


class Store(Stage):
    def __init__(self, rows: dict[int, str]) -> None:
        self.rows = rows  # the program's own, not the actor's: it outlives every restart

    @supervision.handles(Save)
    def save(self, message: Save) -> None:
        self.rows[message.line] = message.word  # a second time changes nothing

    async def terminate(self, reason: supervision.StopReason) -> None:
        print(f"the store ends with {len(self.rows)} rows: {reason.kind}")


class Parser(Stage):
    def __init__(self, store: supervision.ActorRef) -> None:
        self.store = store

    @supervision.handles(Parse)
    async def parse(self, message: Parse) -> None:
        await trio.sleep(0.001)
        if (luck := self.context.random.random()) < 0.05:
            raise ValueError("the parser tripped")
        await self.store.cast(Save(message.line, f"word {message.line}"))
        if luck > 0.95:
            raise ValueError("the parser tripped late")  # over a line that is saved already: it is saved twice


async def main(lines: int, seed: int = 0) -> None:
    rows, accepted, reported, longest = dict[int, str](), set[int](), set[int](), 0

    def note(event: supervision.Event) -> None:  # the library says what it had accepted and can't deliver
        if isinstance(event, supervision.Undelivered) and isinstance(event.message, (Parse, Save)):
            reported.add(event.message.line)

    try:
        async with supervision.open_system("ingestion", random=random.Random(seed)) as system:
            system.events.subscribe(note)
            small, soon = supervision.Mailbox(capacity=8), supervision.Backoff(initial=0.001, maximum=0.01)
            store = await system.start_child(supervision.ChildSpec("store", lambda: Store(rows), mailbox=small))
            flaky = supervision.ChildSpec(
                "parser", lambda: Parser(store), mailbox=small, backoff=soon, max_restarts=lines, max_seconds=3600
            )
            parser = await system.start_child(flaky)

            async def produce(numbers: range) -> None:
                nonlocal longest
                for line in numbers:
                    await parser.cast(Parse(line))  # accepted when this returns; it waits while the mailbox is full
                    accepted.add(line)
                    longest = max(longest, parser.statistics().queued)

            async with trio.open_nursery() as producers:
                for first in range(20):
                    producers.start_soon(produce, range(first, lines, 20))
                print(f"taking in {lines} lines")
            for stage in (parser, store):
                await stage.call(Drain(), timeout=600)
            print(system.tree())
    finally:  # after Ctrl-C, too: each line that was accepted is stored, or reported
        assert accepted <= rows.keys() | reported
    assert rows.keys() == accepted == set(range(lines))
    assert longest <= 8 + 1  # a line that waits for the next parser is one more
    print(f"{len(rows)} lines accepted and stored, {parser.statistics().restarts} crashes, {longest} queued at most")


async def until_ctrl_c(lines: int) -> None:  # KeyboardInterrupt could strike a handler half-way; a cancellation can't
    async def stop() -> None:
        await anext(interrupts)
        nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT) as interrupts:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            try:
                await main(lines)
            except* trio.Cancelled:
                print("stopped in order")
                raise
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(until_ctrl_c, int(sys.argv[1]) if sys.argv[1:] else 500)
