"""The server's actors: one for each model, and one that samples.

What they work off lies on their places (WorkQueue) and outlives them. An item found in hand by a new incarnation
is what its predecessor crashed in: it fails, once, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import final

import trio

from supervision import Actor
from tinker_actors.local.activity import Activity
from tinker_actors.local.effects import Effects
from tinker_actors.local.futures import FutureTable, Result
from tinker_actors.local.model import Model, Operation
from tinker_actors.local.recordings import Recordings
from tinker_actors.local.sample_queue import SampleQueue
from tinker_actors.local.sampler import Sample, Sampler
from tinker_actors.local.turns import Turns
from tinker_actors.local.work_queue import WorkQueue
from tinker_actors.ports import Offload
from tinker_actors.types import FailedResult, ModelIdRequest, RequestErrorCategory, SampleResponse

__all__ = ["ModelActor", "SamplingActor"]

_SERVER = RequestErrorCategory.SERVER
_AT_ONCE = 64  # samples of one sampler in one call of the engine: more than one costs little more than one


@final
class ModelActor(Actor):
    """Works off one model's operations, in order."""

    def __init__(
        self,
        model: Model,
        effects: Effects,
        futures: FutureTable,
        offload: Offload,
        *,
        turns: Turns,
        activity: Activity,
    ) -> None:
        self._model = model
        self._turns = turns
        self._activity = activity
        self._effects = effects
        self._futures = futures
        self._offload = offload

    async def init(self) -> None:
        """Go on where a predecessor crashed, if one did."""
        model = self._model
        for crashed in model.queue.in_hand:
            model.crashed_in(crashed)
            self._conclude(crashed, FailedResult(error=f"{crashed}: the server crashed in it", category=_SERVER))
        self.context.start_task(self._run, name="run")

    async def _run(self) -> None:
        model = self._model
        while not model.over:
            await model.queue.wait()
            await self._work_off()
        self.context.stop()

    async def _work_off(self) -> None:
        # a frame of its own: while the next one is waited for, nothing holds this one's data and result
        effects, model = self._effects, self._model
        async with self._turns.turn(model.run.owner, model.model_id):
            for operation in model.queue.take():
                work = partial(effects.apply, model, operation)
                begun = trio.current_time()
                result = await self._offload.run(work, cost=effects.cost(model, operation))
                self._conclude(operation, result)
                self._activity.operation_done(model, operation, begun, result)

    def _conclude(self, operation: Operation, result: Result) -> None:
        model = self._model
        self._futures.finish(operation.future, result)
        model.queue.put_away()
        if operation.seq_id == 0:
            if isinstance(result, FailedResult):
                model.close(f"it could not be created: {result.error}", abandon=True)
                model.over = True
            model.created.set()
        elif isinstance(operation.request, ModelIdRequest):
            model.over = True


@final
class SamplingActor(Actor):
    """Works off samples: those of one sampler in the order in which they came, each sampler in its turn."""

    def __init__(
        self,
        queue: SampleQueue,
        effects: Effects,
        futures: FutureTable,
        offload: Offload,
        *,
        turns: Turns,
        recordings: Recordings,
        activity: Activity,
        forget: Callable[[], Awaitable[None]],
    ) -> None:
        self._queue = queue
        self._turns = turns
        self._recordings = recordings
        self._activity = activity
        self._forget = forget
        self._effects = effects
        self._futures = futures
        self._offload = offload

    async def init(self) -> None:
        """Go on behind what a predecessor crashed in, if one did."""
        failure = FailedResult(error="sample: the server crashed in it", category=_SERVER)
        for sampler, queue in self._queue.queues():
            for crashed in queue.in_hand:
                self._futures.finish(crashed.future, failure)
            queue.put_away()
            self._serve(sampler, queue)
        self.context.start_task(self._run, name="run")

    async def _run(self) -> None:
        while True:
            self._serve(*await self._queue.next())

    def _serve(self, sampler: Sampler, queue: WorkQueue[Sample]) -> None:
        self.context.start_task(self._work_off, sampler, queue, name=sampler.sampling_session_id)

    async def _work_off(self, sampler: Sampler, queue: WorkQueue[Sample]) -> None:
        while queue:
            async with self._turns.turn(sampler.owner, sampler.sampling_session_id):
                samples = queue.take(_AT_ONCE)
                if samples:
                    await self._sample(samples)
                queue.put_away()
        self._queue.close(sampler)
        if sampler.over:
            await self._forget()

    async def _sample(self, samples: Sequence[Sample]) -> None:
        effects = self._effects
        cost = sum(map(effects.sample_cost, samples))
        begun = trio.current_time()
        results = await self._offload.run(partial(effects.sample, samples), cost=cost)
        for sample, result in zip(samples, results, strict=True):
            if sample.request.record_stability_info and isinstance(result, SampleResponse):
                self._recordings.keep(sample.sampler.session_id, sample.sequence_ids, result)
            self._futures.finish(sample.future, result)
            self._activity.sample_done(sample, begun, result)
