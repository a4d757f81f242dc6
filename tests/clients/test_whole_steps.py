"""Whole steps of training and sampling: what arrives at the server, under which numbers, and for whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from tests.clients.odd_server import ask
from tests.clients.scenario import KEYS, batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.codec.forward_backward import decode_forward_backward_request
from tinker_actors.config import Config
from tinker_actors.local import ServerSettings
from tinker_actors.ports import InlineOffload
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.faults import DropAfter, Fault, Status
from tinker_actors.testing.operations import BASE_MODEL, start_client
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, Datum, ModelInput, SamplingParams

PROMPT = ModelInput.from_ints([1, 2])
STEP = AdamParams(learning_rate=1e-2)
TENANTS = ServerSettings(base_model=BASE_MODEL, owners={"somebody": KEYS[:1], "another": KEYS[1:]})


def test_a_step_of_1025_datums_is_four_requests_in_order_and_one_result():
    async def story(runtime: Runtime) -> dict[str, float]:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        data = [Datum(ModelInput.from_ints([1]), {"target_tokens": [1], "weights": [1.0]})] * 1025
        result = await client.forward_backward(data)
        await client.optim_step(STEP)
        await (await client.save_state("kept"))
        return dict((await result).metrics)

    def chunk(records: int, mean: float, total: float) -> dict[str, Any]:
        metrics = {"loss:mean": mean, "tokens:sum": total}
        return {"loss_fn_output_type": "x", "loss_fn_outputs": [{}] * records, "metrics": metrics}

    asked: list[tuple[str, bytes]] = []
    # the first chunk is sent last
    first, second = chunk(1024, 1.0, 10.0), chunk(1, 1026.0, 20.0)
    odd = {"result of forward_backward 0": second, "result of forward_backward 1": first}
    metrics = ask(story, odd, asked=asked)
    assert (metrics["loss:mean"], metrics["tokens:sum"]) == ((1024 + 1026) / 1025, 30.0)
    numbered: dict[int, tuple[str, int]] = {}
    for name, body in asked:
        if name == "forward_backward":
            request = decode_forward_backward_request(body)
            numbered[request.seq_id] = (name, len(request.data))
        elif name in ("optim_step", "save_weights"):
            numbered[msgspec.json.decode(body)["seq_id"]] = (name, 0)
    assert numbered == {
        1: ("forward_backward", 1024),
        2: ("forward_backward", 1),
        3: ("optim_step", 0),
        4: ("save_weights", 0),
    }


def test_samples_wait_for_the_end_of_a_pause_and_each_is_sent_once_under_its_number():
    async def story(runtime: Runtime) -> list[float]:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")
        began = trio.current_time()
        ends: list[float] = []

        async def one() -> None:
            await sampler.sample(PROMPT)
            ends.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await trio.sleep(1.0)
            for _ in range(20):
                nursery.start_soon(one)
        return ends

    asked: list[tuple[str, bytes]] = []
    ends = ask(story, {}, asked=asked, faults=[Status(path="/asample", status=429, retry_after=30.0)])
    assert len(ends) == 21
    assert min(ends) >= 30.0
    assert sorted(msgspec.json.decode(body)["seq_id"] for name, body in asked if name == "asample") == [*range(21)]


def in_company(
    mine: Callable[[ServiceClient, TrainingClient], Awaitable[Any]],
    theirs: Callable[[ServiceClient, TrainingClient], Awaitable[Any]] | None,
    *faults: Fault,
) -> tuple[Any, Any]:
    """What ``mine`` gives, and ``theirs`` beside it, with a runtime and a key of its own at the same server."""

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[Any, Any]:
        found: dict[str, Any] = {}

        async def other() -> None:
            assert theirs is not None
            config = Config.load(base_url="https://server", api_key=KEYS[1], environ={})
            async with open_runtime(
                config=config, transport=world.transport, seed=2, offload=InlineOffload()
            ) as runtime:
                beside = await runtime.create_service_client()
                found["theirs"] = await theirs(beside, await start_client(beside))

        async with trio.open_nursery() as nursery:
            if theirs is not None:
                nursery.start_soon(other)
            found["mine"] = await mine(service, client)
        limits = service._session.limits.statistics()
        assert (limits.sampling.in_flight.held, limits.sampling.dispatch.held, limits.sampling.size.held) == (0, 0, 0)
        assert (limits.training.held, limits.results.held, limits.sampling.window.waiting) == (0, 0, 0)
        return found["mine"], found.get("theirs")

    return train(story, *faults, settings=TENANTS).value


def test_a_pause_of_one_tenant_does_not_delay_another():
    async def sampled(service: ServiceClient, client: TrainingClient) -> float:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        began = trio.current_time()
        await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1, seed=1))
        return trio.current_time() - began

    async def later(service: ServiceClient, client: TrainingClient) -> float:
        await trio.sleep(100.0)  # the other one's is paused meanwhile
        return await sampled(service, client)

    paused, other = in_company(sampled, later, Status(path="/asample", status=429, retry_after=1000.0))
    assert paused >= 1000.0
    assert other < 10.0


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (
            *(Status(path="/forward_backward", status=500, nth=nth) for nth in (3, 50)),
            *(Status(path="/asample", status=500, nth=nth) for nth in (5, 70)),
            *(Status(path="/retrieve_future", status=500, nth=nth) for nth in (4, 60, 150)),
            DropAfter(path="/asample", nth=20),
        ),
    ],
)
def test_two_tenants_that_train_and_sample_sixty_times_at_once_do_not_mix(faults: tuple[Fault, ...]):
    def work(seed: int) -> Callable[[ServiceClient, TrainingClient], Awaitable[list[Any]]]:
        async def run(service: ServiceClient, client: TrainingClient) -> list[Any]:
            sampler = await service.create_sampling_client(base_model=BASE_MODEL)
            samples: dict[int, tuple[int, ...]] = {}

            async def one(number: int) -> None:
                params = SamplingParams(max_tokens=2, seed=seed + number)
                found = await sampler.sample(PROMPT, 1, params)
                samples[number] = tuple(int(token) for token in found.sequences[0].tokens)

            async with trio.open_nursery() as nursery:
                for number in range(60):
                    nursery.start_soon(one, number)
                losses = [client.forward_backward_async(batch(seed + number)) for number in range(60)]
                update = client.optim_step_async(STEP)
            await update
            after = await (await client.forward(batch(seed)))
            return [samples, [(await loss).metrics["loss:sum"] for loss in losses], after.metrics["loss:sum"]]

        return run

    alone = [in_company(work(seed), None)[0] for seed in (1, 1000)]
    assert list(in_company(work(1), work(1000), *faults)) == alone
    assert alone[0] != alone[1]
