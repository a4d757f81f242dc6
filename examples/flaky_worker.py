"""Supervision alone: a worker that crashes now and then, and a program that gets all of its work done.

`python examples/flaky_worker.py` needs no server.
"""

import random

import trio

import supervision


class Fetch(supervision.Call[str], frozen=True):
    page: int


class Worker(supervision.Actor):
    async def init(self) -> None:
        self.fetched = 0  # of this incarnation: the next one starts anew

    @supervision.handles(Fetch)
    async def fetch(self, message: Fetch) -> str:
        await trio.sleep(0.01)
        if self.context.random.random() < 0.2:
            raise ConnectionError("the line broke")
        self.fetched += 1
        return f"page {message.page}, the {self.fetched}. of start {self.context.incarnation}"


async def main() -> None:
    async with supervision.open_system("crawler", random=random.Random(0)) as system:
        spec = supervision.ChildSpec("worker", Worker, max_restarts=20, max_seconds=60)
        worker = await system.start_child(spec)
        for page in range(10):
            fetched = None
            while fetched is None:
                try:
                    fetched = await worker.call(Fetch(page))
                except supervision.ActorDown as down:  # a call in hand is never repeated behind your back
                    print(f"once more: {down}")
            print(fetched)
        print(system.tree())


trio.run(main)
