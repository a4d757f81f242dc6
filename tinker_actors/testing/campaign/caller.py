"""A Caller: one program's user, who may be cancelled in any call, and goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, final

import trio

from supervision import SupervisionError
from tinker_actors.clients import TrainingClient
from tinker_actors.errors import TinkerError, UnknownVerdict
from tinker_actors.ledger import Future
from tinker_actors.testing.operations import (
    PROMPT,
    Await,
    CustomLoss,
    ForwardBackward,
    LoadState,
    OptimStep,
    Program,
    Sample,
    SaveState,
    SaveWeightsForSampler,
    Step,
    checkpoint_name_of,
    data_of,
    plain,
    sampling_params,
    squared_logprobs,
)
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SampleResponse

__all__ = ["Caller"]

T = TypeVar("T")


@final
class Caller:
    """Works off a program. A call that is cancelled is made again unless its operation was accepted: then the caller
    has no Future, and its result stays untold. A wait that is cancelled is begun again. A verdict is decided on by
    ``restore()``, and what it has ended is waited for anew.
    """

    def __init__(self, name: str, program: Program, client: TrainingClient, world: World) -> None:
        self.name = name
        self.program = program
        self.losses: dict[int, float] = {}
        self.samples: dict[int, tuple[tuple[int, ...], tuple[float, ...]]] = {}
        self.failed: dict[int, str] = {}
        self.untold: set[int] = set()
        self.skipped: set[int] = set()
        self.numbers: dict[int, int] = {}
        """The op_no of each step's operation."""
        self.saves: dict[str, int] = {}
        """By the digest of a save how often it had taken effect when its result was here."""
        self.stopped: str | None = None
        """Why its client's lane has stopped, when it had at the last look."""
        self.verdicts: list[str] = []
        """What had to be decided."""
        self._client = client
        self._world = world
        self._waiting: dict[int, Future[Any]] = {}
        self._paths: dict[int, str] = {}
        self._renewed: dict[int, Future[Any]] = {}

    def _name(self, place: int) -> str:
        return f"{self.name.replace('/', '-')}-{checkpoint_name_of(place)}"

    async def run(self) -> None:
        """Make all calls, and wait for all results."""
        for place, step in enumerate(self.program.steps):
            match step:
                case Await():
                    await self._gather()
                case Sample():
                    await self._sample(place, step)
                case LoadState(place=of):
                    if of in self._waiting:
                        await self._take(of)
                    if of in self._paths:
                        await self._submit(place, step)
                    else:
                        self.skipped.add(place)
                case _:
                    await self._submit(place, step)
        await self._gather()

    async def look(self) -> None:
        """Ask for the model, as a user may who has nothing left to do."""
        with suppress(TinkerError):
            while True:
                while await self._decide():  # of what nobody waits for
                    for future in self._renewed.values():
                        await future.exception()
                try:
                    await self._client.get_info()
                    break
                except SupervisionError:  # the actor has crashed over the question
                    await trio.lowlevel.checkpoint()
        error = self._client._model.ledger.stopped  # noqa: SLF001  # it is what the operations' errors say
        self.stopped = None if error is None else str(error)

    async def _gather(self) -> None:
        for place in tuple(self._waiting):
            await self._take(place)

    async def _take(self, place: int) -> None:
        future = self._waiting.pop(place)
        while True:
            try:
                result = await self._uncancelled(place, future.result)
                break
            except UnknownVerdict as error:
                await self._decide()
                renewed = self._renewed.pop(self.numbers[place], None)
                if renewed is None:
                    self.failed[place] = f"{type(error).__name__}: {error}"
                    return
                future = renewed
            except TinkerError as error:
                self.failed[place] = f"{type(error).__name__}: {error}"
                return
        match self.program.steps[place]:
            case ForwardBackward() | CustomLoss():
                self.losses[place] = result.metrics["loss:sum"]
            case SaveState():
                self._paths[place] = result.path
                self._count(place)
            case SaveWeightsForSampler():
                self._count(place)
            case _:
                pass

    def _count(self, place: int) -> None:
        accepted = self._client.accepted[self.numbers[place] - 1]
        (digest,) = accepted.digests
        self.saves[digest] = self._world.server.applications(digest)

    async def _submit(self, place: int, step: Step) -> None:
        while True:
            before = len(self._client.accepted)
            told: list[Future[Any]] = []
            try:
                with self._world.calling(f"{self.name}#{place}"):
                    told.append(await self._start(place, step))
            except TinkerError as error:
                if await self._decide():
                    continue
                self.failed[place] = f"{type(error).__name__}: {error}"
                return
            if len(self._client.accepted) > before:
                self.numbers[place] = self._client.accepted[-1].op_no
                if told:
                    (self._waiting[place],) = told
                else:
                    self.untold.add(place)
                return

    async def _start(self, place: int, step: Step) -> Future[Any]:
        client = self._client
        match step:
            case ForwardBackward(forward_only=True):
                return await client.forward(data_of(step), step.loss_fn)
            case ForwardBackward():
                return await client.forward_backward(data_of(step), step.loss_fn)
            case CustomLoss():
                return await client.forward_backward_custom(data_of(step), squared_logprobs, differentiation="own")
            case OptimStep():
                return await client.optim_step(AdamParams(learning_rate=step.learning_rate))
            case SaveState():
                return await client.save_state(self._name(place))
            case LoadState(place=of, optimizer=True):
                return await client.load_state_with_optimizer(self._paths[of])
            case LoadState(place=of):
                return await client.load_state(self._paths[of])
            case SaveWeightsForSampler():
                return await client.save_weights_for_sampler(self._name(place))
            case other:
                raise AssertionError(f"{other!r} is no operation")

    async def _sample(self, place: int, step: Sample) -> None:
        async def sample() -> SampleResponse:
            sampler = await self._client.save_weights_and_get_sampling_client()
            return await sampler.sample(PROMPT, 1, sampling_params(step))

        while True:
            try:
                self.samples[place] = plain(await self._uncancelled(place, sample))
            except TinkerError as error:
                if await self._decide():
                    continue
                self.failed[place] = f"{type(error).__name__}: {error}"
            return

    async def _decide(self) -> bool:
        """Have what is in doubt applied once, by another model; whether there was anything to decide."""
        ledger = self._client._model.ledger  # noqa: SLF001  # which Future is whose
        undecided = ledger.undecided
        if undecided is None:
            return False
        self.verdicts.append(str(undecided.error))
        waits = [one.op_no for one in ledger.unfinished() if one.op_no > undecided.since and not one.automatic]
        decided = self._client.restore_async()  # in this very step
        self._renewed.update(zip(waits, await decided, strict=True))
        return True

    async def _uncancelled(self, place: int, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            with self._world.calling(f"{self.name}#{place}"):
                return await call()
