"""Samples that leave token by token, each step of the engine when the one before is on its way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from functools import partial
from typing import Final, final

import trio

from tinker_actors.local.activity import Activity
from tinker_actors.local.effects import Effects
from tinker_actors.local.refusals import overloaded
from tinker_actors.local.sampler import Sampler
from tinker_actors.local.turns import Turns
from tinker_actors.ports import Offload
from tinker_actors.types import FailedResult, SampleRequest, SampleStreamChunk

__all__ = ["Streams"]

_STEP_COST: Final = 100e-6  # modelled seconds of one token


@final
class Streams:
    """The streams under way: at most ``most``, since each holds memory for as long as its client likes."""

    def __init__(self, effects: Effects, offload: Offload, activity: Activity, *, turns: Turns, most: int) -> None:
        self._effects = effects
        self._offload = offload
        self._activity = activity
        self._most = most
        self._turns = turns
        self._open = 0
        self._begun = 0

    def __len__(self) -> int:
        return self._open

    def require_room(self) -> None:
        """Refuse (429) when there are enough."""
        if self._open >= self._most:
            raise overloaded(f"{self._open} samples are being streamed already")

    async def chunks(self, sampler: Sampler, request: SampleRequest) -> AsyncGenerator[SampleStreamChunk]:
        """The tokens of one sample. It ends with a ``finish_reason``, or with an ``error`` when it can't go on.

        Closed before, nothing more is computed.
        """
        self._open += 1
        self._begun += 1
        name = f"{sampler.sampling_session_id}:stream:{self._begun}"
        begun, sampled, failed = trio.current_time(), 0, False
        steps: Generator[SampleStreamChunk | FailedResult] = self._effects.stream(sampler, request)
        try:
            while True:
                async with self._turns.turn(sampler.owner, name):
                    chunk = await self._offload.run(partial(next, steps, None), cost=_STEP_COST)
                if chunk is None:
                    return
                if isinstance(chunk, FailedResult):
                    failed = True
                    yield SampleStreamChunk(error=chunk.error)
                    return
                sampled += 1
                yield chunk
                if sampler.over:
                    failed = True
                    yield SampleStreamChunk(error=f"the session {sampler.session_id} is over")
                    return
        finally:
            self._open -= 1
            prompt = request.prompt.length if sampled else 0
            self._activity.stream_done(sampler, request, begun, (prompt, sampled), failed=failed)
