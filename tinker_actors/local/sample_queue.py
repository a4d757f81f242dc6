"""Samples that wait, of each sampler in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import final

import trio

from tinker_actors.local.futures import Progress
from tinker_actors.local.owners import Owner, owns
from tinker_actors.local.sampler import Sample, Sampler
from tinker_actors.local.turns import Turns
from tinker_actors.local.work_queue import WorkQueue

__all__ = ["SampleQueue"]


@final
class SampleQueue:
    """A queue for each sampler that has work. It lies on the place of the actor that samples."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._queues: dict[Sampler, WorkQueue[Sample]] = {}
        self._new: deque[Sampler] = deque()
        self._arrived = trio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def count(self, owner: Owner) -> int:
        """How many of the owner's wait."""
        return sum(len(queue) for sampler, queue in self._queues.items() if owns(owner, sampler.owner))

    def items(self) -> Iterator[Sample]:
        """What waits and what is in hand."""
        for queue in self._queues.values():
            yield from queue.items()

    def push(self, sample: Sample) -> Callable[[], Progress]:
        """Add a sample; the value tells how far it has come."""
        sampler = sample.sampler
        queue = self._queues.get(sampler)
        if queue is None:
            paused = partial(self._turns.progress, sampler.owner, sampler.sampling_session_id)
            queue = self._queues[sampler] = WorkQueue("sample", paused)
            self._new.append(sampler)
            self._arrived.set()
        return queue.push(sample)

    def withdraw(self, unwanted: Callable[[Sample], bool]) -> tuple[Sample, ...]:
        """Take back what waits and is ``unwanted``."""
        return tuple(sample for queue in self._queues.values() for sample in queue.withdraw(unwanted))

    def queues(self) -> tuple[tuple[Sampler, WorkQueue[Sample]], ...]:
        """The samplers that have work, with their queues. ``next`` gives those that get work after this."""
        self._new.clear()
        return tuple(self._queues.items())

    async def next(self) -> tuple[Sampler, WorkQueue[Sample]]:
        """Wait for a sampler that had no work and has some now."""
        while not self._new:
            self._arrived = trio.Event()
            await self._arrived.wait()
        sampler = self._new.popleft()
        return sampler, self._queues[sampler]

    def close(self, sampler: Sampler) -> None:
        """The sampler has no work any more."""
        queue = self._queues.pop(sampler)
        assert not queue.in_hand
        assert not len(queue)
