"""The demo's story: server, model, training with faults on the way, and the proof."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, final

import msgspec
import trio

from tinker_actors.cli.arguments import DemoOptions
from tinker_actors.cli.chart import Mark
from tinker_actors.cli.display import Display, printable
from tinker_actors.cli.evaluation import Evaluation, evaluate
from tinker_actors.cli.faults import first_third
from tinker_actors.cli.narrator import Narrator
from tinker_actors.cli.piglatin import load_words, pig_latin
from tinker_actors.cli.progress import Progress
from tinker_actors.cli.proof import Comparison, ServerRecords, compare
from tinker_actors.cli.report import Findings
from tinker_actors.cli.run_folder import RunFolder
from tinker_actors.cli.server_process import ServerProcess, server_process
from tinker_actors.cli.task import BATCH, Task, held_out_words, training_batches
from tinker_actors.cli.training import train
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.config import Config
from tinker_actors.flow.pending import Pending
from tinker_actors.ports import NoPoints, Points, Transport
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.faults import FaultPlan, FaultyTransport, Fired, PlannedPoints
from tinker_actors.wire.transport import HttpTransport

__all__ = ["Story"]

_BASE: Final = "tinker-actors/base-s"
_KEY: Final = "tml-demo"
_RANK: Final = 16
_HELD_OUT: Final = 200
_SHOWN: Final = 5
_TICK: Final = 0.25  # seconds between two looks at what is pending
_OWN_OUTAGE_BOUND: Final = 10.0  # seconds; a server on the same machine is back soon or not at all
_START_BOUND: Final = 10.0


class _Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What the run of all steps gave. ``digest`` is that of the weights after the first third."""

    before: float
    after: float
    digest: str | None
    accepted: int
    comparison: Comparison | None


@final
class Story:
    """One run. The private methods are its chapters."""

    def __init__(self, options: DemoOptions, folder: RunFolder, display: Display, plan: FaultPlan) -> None:
        self._options = options
        self._folder = folder
        self._display = display
        self._plan = plan
        self._third = first_third(options.steps)
        self._words = load_words()
        self._batches = training_batches(self._words, steps=options.steps, seed=options.seed)
        self._held_out = held_out_words(self._words, _HELD_OUT)
        self._points = PlannedPoints(plan)
        self._transport = FaultyTransport(HttpTransport(), plan)
        self._narrator = Narrator(display, self._fired, lambda: len(folder.rows))
        self._pending: Callable[[], Sequence[Pending]] = tuple
        self._progress = Progress(display, folder, options.steps)
        self._process: ServerProcess | None = None

    @property
    def marks(self) -> Sequence[Mark]:
        """The faults, for the loss curve."""
        return self._narrator.marks

    def tell_stops(self) -> None:
        """From now on tell of each actor that is stopped, too."""
        self._narrator.stopping = True

    async def watch(self) -> None:
        """Keep the status line up to date and an eye on the server, for ever."""
        while True:
            await trio.sleep(_TICK)
            self._narrator.tell_faults()
            if self._process is not None and (ending := self._process.ending) is not None:
                self._process = None
                self._display.line(
                    "server", f"its process {ending}; what waits gets an error after {_OWN_OUTAGE_BOUND:.0f} s"
                )
            self._progress.refresh(self._pending())

    async def tell(self) -> Findings:
        """Train, and find out whether everything is as it should be. Raises the TinkerError that ended it."""
        began = trio.current_time()
        async with self._server() as config, aclosing(HttpTransport()) as transport, aclosing(self._transport):
            records = ServerRecords(transport, config)
            trained = await self._train(config, records)
            undisturbed = None
            if trained.digest is not None:
                undisturbed = await self._undisturbed(config, records)
        return Findings(
            steps=self._options.steps,
            third=self._third,
            own_server=self._options.base_url is None,
            faults_planned=len(self._plan.faults),
            faults_fired=len(self._fired()),
            accuracy_before=trained.before,
            accuracy_after=trained.after,
            accepted=trained.accepted,
            comparison=trained.comparison,
            digest=trained.digest,
            undisturbed_digest=undisturbed,
            restarts=self._narrator.restarts,
            wall_s=trio.current_time() - began,
        )

    def _fired(self) -> Sequence[Fired]:
        return sorted((*self._points.fired, *self._transport.fired), key=lambda fired: fired.at)

    @asynccontextmanager
    async def _server(self) -> AsyncGenerator[Config]:
        options = self._options
        key = None if options.api_key is None else options.api_key.reveal()
        if options.base_url is not None:
            config = Config.load(base_url=options.base_url, api_key=key)
            self._display.line("server", config.base_url)
            yield msgspec.structs.replace(config, start_bound=_START_BOUND)
            return
        began = trio.current_time()
        async with server_process(self._folder.server_log_path) as server:
            up = trio.current_time() - began
            self._display.line("server", f"{server.url}, a process of its own (pid {server.pid}), up in {up:.1f} s")
            self._process = server
            config = Config.load(base_url=server.url, api_key=key or _KEY, outage_bound=_OWN_OUTAGE_BOUND)
            try:
                yield msgspec.structs.replace(config, start_bound=_START_BOUND)
            finally:
                self._process = None

    async def _train(self, config: Config, records: ServerRecords) -> _Trained:
        display, steps = self._display, self._options.steps
        with self._narrator.listening() as follow:
            async with self._runtime(config, self._transport, self._points) as runtime:
                follow(runtime.system)
                service = await runtime.create_service_client()
                base = await _base_model(service)
                client = await self._client(service, base)
                task = Task(await client.get_tokenizer())
                display.line("model", f"{base} with a LoRA adapter of rank {_RANK}: {client.model_id}")
                display.line(
                    "words", f"{len(self._words.train):,} to train on, {len(self._words.held_out):,} held out"
                )
                untrained = await service.create_sampling_client(base_model=base)
                before = await self._evaluate("before", untrained, task)
                display.line("training", self._announcement())
                self._progress.begin("step", steps)
                await train(client, task, self._batches, first=1, last=self._third, done=self._done)
                self._narrator.tell_faults()
                digest = await records.weights(client.model_id)
                await train(client, task, self._batches, first=self._third + 1, last=steps, done=self._done)
                trained = await client.save_weights_and_get_sampling_client()
                after = await self._evaluate("after", trained, task)
                display.line("tree", "of the runtime, as it is now:")
                display.block(runtime.tree().render())
                accepted = client.accepted
                applied = await records.applied(client.model_id)
        return _Trained(
            before=before.accuracy,
            after=after.accuracy,
            digest=digest,
            accepted=sum(len(operation.digests) for operation in accepted),
            comparison=None if applied is None else compare(accepted, applied),
        )

    async def _undisturbed(self, config: Config, records: ServerRecords) -> str | None:
        self._display.line("again", f"{_first(self._third)} once more, on a new model, undisturbed")
        async with (
            aclosing(HttpTransport()) as transport,
            self._runtime(config, transport, NoPoints()) as runtime,
        ):
            service = await runtime.create_service_client()
            client = await self._client(service, await _base_model(service))
            task = Task(await client.get_tokenizer())
            self._progress.begin("again", self._third)

            def done(*_: float) -> None:
                self._progress.advance()

            await train(client, task, self._batches, first=1, last=self._third, done=done)
            return await records.weights(client.model_id)

    @asynccontextmanager
    async def _runtime(self, config: Config, transport: Transport, points: Points) -> AsyncGenerator[Runtime]:
        async with open_runtime(
            config=config, transport=transport, points=points, seed=self._options.seed
        ) as runtime:
            self._pending = runtime.pending
            try:
                yield runtime
            finally:
                self._pending = tuple

    async def _client(self, service: ServiceClient, base: str) -> TrainingClient:
        return await service.create_lora_training_client(
            base, rank=_RANK, seed=self._options.seed, train_unembed=False
        )

    def _announcement(self) -> str:
        text = f"{self._options.steps} steps of {BATCH} words"
        if self._plan.faults:
            text += f"; in {_first(self._third)} two crashes, a lost request and a lost reply"
        return text

    def _done(self, step: int, loss: float, rate: float, tokens: int) -> None:
        self._narrator.tell_faults()
        self._progress.record(step, loss, rate, tokens, self._pending())

    async def _evaluate(self, label: str, client: SamplingClient, task: Task) -> Evaluation:
        self._progress.begin(label, len(self._held_out))
        found = await evaluate(client, task, self._held_out, self._progress.advance)
        self._display.line(label, f"{found.accuracy:.1%} of {len(self._held_out)} held-out words right, such as")
        for answer in found.answers[:_SHOWN]:
            verdict = "right" if answer.right else f"wrong, it is {pig_latin(answer.word)}"
            self._display.line("", f"{answer.word} -> {printable(answer.given) or '(nothing)'}  ({verdict})")
        return found


def _first(steps: int) -> str:
    return "the first step" if steps == 1 else f"the first {steps} steps"


async def _base_model(service: ServiceClient) -> str:
    offered = [model.model_name for model in (await service.get_server_capabilities()).supported_models]
    return _BASE if _BASE in offered or not offered else str(offered[0])
