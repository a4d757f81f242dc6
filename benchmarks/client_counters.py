"""What one operation costs the client, in counters that are the same on every machine: no network, no clock.

A transport that answers at once stands in for the wire, and codecs run inline, so that all that is counted is the
client's own: its handles, ledger, lane, polls, codecs and what they wait for. Bytes are those of the heads and bodies
that it sends. The virtual clock moves only when nothing is left to do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, final
from urllib.parse import urlsplit

import msgspec
import numpy as np
import trio
from trio.testing import MockClock

import tinker_actors as ta
from benchmarks.canned import MODEL, Answers
from benchmarks.counters import Counters, Operations, count
from benchmarks.rows import Goal, Row
from supervision.testing.seeded import seeded_scheduler
from tinker_actors.ports import InlineOffload, Request, Response, Transport

__all__ = ["KINDS", "CannedTransport", "ClientCounters", "Kind", "client_counters", "counter_rows"]

TOKENS: Final = 16
DATUMS: Final = 4
AHEAD: Final = 8
IN_FLIGHT: Final = 200
STEPS: Final = 40

Start: TypeAlias = Callable[[ta.ServiceClient], Awaitable[Operations]]


class ClientCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Per operation: ``steps`` of tasks, ``calls`` of functions, ``requests``, and ``sent`` bytes."""

    steps: float
    calls: float
    requests: float
    sent: float


@final
class _Reply:
    def __init__(self, status: int, kind: bytes, content: bytes) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"content-type": kind.decode(), "content-length": str(len(content))}
        self._content = content

    async def stream(self) -> AsyncIterator[bytes]:
        yield self._content

    async def read(self, limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._content

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@final
class CannedTransport(Transport):
    """Answers at once, after a checkpoint as any network needs at least."""

    def __init__(self, tokens: int = TOKENS) -> None:
        self.requests = self.sent = 0
        self._answers = Answers(tokens)

    async def send(self, request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        body = b"".join(request.body)
        self.requests += 1
        self.sent += len(body) + sum(len(name) + len(value) + 4 for name, value in request.headers)
        path = urlsplit(request.url).path.rpartition("/")[2]
        return _Reply(*self._answers.answer(path.encode(), body))

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _data() -> list[ta.Datum]:
    tokens = list(range(1, TOKENS + 1))
    inputs = {"target_tokens": tokens, "weights": [1.0] * TOKENS}
    return [ta.Datum(ta.ModelInput.from_ints(tokens), inputs) for _ in range(DATUMS)]


async def _step(service: ta.ServiceClient) -> Operations:
    """forward_backward and optim_step, each awaited before the next call."""
    client, data = await service.create_lora_training_client(MODEL, rank=8), _data()

    async def operations(times: int) -> None:
        for _ in range(times):
            await (await client.forward_backward(data))
            await (await client.optim_step(ta.AdamParams()))

    return operations


async def _pipelined(service: ta.ServiceClient) -> Operations:
    """The same, AHEAD steps submitted before the first of them is awaited."""
    client, data = await service.create_lora_training_client(MODEL, rank=8), _data()

    async def operations(times: int) -> None:
        for _ in range(times // AHEAD):
            futures: list[ta.Future[Any]] = []
            for _ in range(AHEAD):
                futures += [await client.forward_backward(data), await client.optim_step(ta.AdamParams())]
            for future in futures:
                await future

    return operations


async def _custom(service: ta.ServiceClient) -> Operations:
    """forward_backward_custom, whose function gives its own gradients, and optim_step."""
    client, data = await service.create_lora_training_client(MODEL, rank=8), _data()

    def loss(data: object, logprobs: list[Any]) -> Any:
        return 0.0, [np.ones_like(row) for row in logprobs]

    async def operations(times: int) -> None:
        for _ in range(times):
            await (await client.forward_backward_custom(data, loss, differentiation="own"))
            await (await client.optim_step(ta.AdamParams()))

    return operations


async def _sample(service: ta.ServiceClient) -> Operations:
    """A sample of 512 tokens of prompt, all that are asked for in flight at once."""
    client = await service.create_sampling_client(base_model=MODEL)
    prompt, params = ta.ModelInput.from_ints(range(512)), ta.SamplingParams(max_tokens=64, seed=1)

    async def operations(times: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(client.sample, prompt, 1, params)

    return operations


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """An operation, run ``times`` times to be counted; ``most`` is what the tests let it cost on Python 3.11."""

    start: Start
    times: int
    most: ClientCounters


KINDS: Final[Mapping[str, Kind]] = {
    "step": Kind(start=_step, times=STEPS, most=ClientCounters(steps=24.5, calls=4560, requests=4, sent=3700)),
    "pipelined_step": Kind(
        start=_pipelined, times=STEPS, most=ClientCounters(steps=20, calls=4170, requests=4, sent=3700)
    ),
    "custom_loss_step": Kind(
        start=_custom, times=STEPS, most=ClientCounters(steps=32.5, calls=7260, requests=6, sent=6130)
    ),
    "sample_of_200": Kind(
        start=_sample, times=IN_FLIGHT, most=ClientCounters(steps=6.1, calls=1010, requests=2, sent=3470)
    ),
}


def client_counters(kind: str) -> ClientCounters:
    """The counters of one operation of ``kind``."""
    with seeded_scheduler(1):  # and no instrument of a simulation's, whose calls would be counted
        return trio.run(_count, kind, clock=MockClock(autojump_threshold=0))


async def _count(kind: str) -> ClientCounters:
    start, times = KINDS[kind].start, KINDS[kind].times
    transport = CannedTransport()
    config = ta.Config.load(base_url="https://server", api_key="tml-benchmark", environ={}, telemetry_enabled=False)
    async with ta.open_runtime(config=config, transport=transport, seed=1, offload=InlineOffload()) as runtime:
        operations = await start(await runtime.create_service_client())
        counted: Counters = await count(operations, times)
        requests, sent = transport.requests, transport.sent
        await operations(times)
        return ClientCounters(
            steps=counted.steps,
            calls=counted.calls,
            requests=(transport.requests - requests) / times,
            sent=(transport.sent - sent) / times,
        )


def counter_rows() -> list[Row]:
    """The rows of all kinds."""
    note = f"no network; {DATUMS} datums of {TOKENS} tokens, {AHEAD} steps ahead where pipelined"
    rows: list[Row] = []
    for kind in KINDS:
        most = msgspec.structs.asdict(KINDS[kind].most)
        rows += [
            Row(figure=f"{kind}_{name}", value=value, unit=name, goal=Goal(must=most[name]), note=note)
            for name, value in msgspec.structs.asdict(client_counters(kind)).items()
        ]
    return rows
