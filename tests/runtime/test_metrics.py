"""What a runtime counts of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import InvalidInput
from tinker_actors.metrics import OWN, Metrics, MetricsSnapshot, ModelUsage, Price
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.runtime import open_runtime
from tinker_actors.runtime.measured import MeasuredTransport
from tinker_actors.testing.faults import CrashAt, Delay, DropBefore, Fault, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SamplingParams


async def step(world: World, service: ServiceClient, client: TrainingClient) -> MetricsSnapshot:
    await (await client.forward_backward(batch(1, 2)))
    await (await client.optim_step(AdamParams()))
    sampler = await client.save_weights_and_get_sampling_client()
    await sampler.sample(PROMPT, 2, SamplingParams(max_tokens=3, seed=1, stop=()))
    return world.runtime.metrics.snapshot()


def measured(*faults: Fault) -> MetricsSnapshot:
    return train(step, *faults).value


def test_tokens_operations_requests_and_bytes_are_counted():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        trained = sum(datum.model_input.length for datum in batch(1, 2))
        now = await step(world, service, client)
        sampled = now.counters["tokens_sampled"]
        assert 2 <= sampled <= 6
        assert now.counters["tokens_trained"] == trained
        assert now.counters["tokens_prompted"] == PROMPT.length
        assert world.runtime.usage() == {
            BASE_MODEL: ModelUsage(trained=trained, prompted=PROMPT.length, sampled=int(sampled))
        }
        price = Price(trained=1e6, prompted=0.0, sampled=2e6)
        assert world.runtime.cost({BASE_MODEL: price}) == pytest.approx(trained + 2 * sampled)
        with pytest.raises(InvalidInput, match="prices"):
            world.runtime.cost({})
        assert now.counters["operations_done"] == 3
        assert now.counters["samples_done"] == 1
        assert now.counters["train_requests"] == 4  # one made the model
        assert now.counters["sample_requests"] == 1
        assert now.counters["bytes_sent"] > 100
        assert now.counters["bytes_received"] > 100
        for name, count in (("operation_seconds", 3), ("queue_seconds", 3), ("sample_seconds", 1)):
            assert now.histograms[name].count == count
        assert "tinker_actors_tokens_trained" in world.runtime.metrics.prometheus()
        assert "retries" not in now.counters

    train(story)


def test_faults_are_counted_and_change_no_count_of_work():
    undisturbed = measured()
    found = measured(
        Status(path="/forward_backward", status=503, times=2),
        DropBefore(path="/asample"),
        CrashAt(point="training.polling", nth=1),
        Delay(path="/optim_step", seconds=7.0),
    )
    assert found.counters["retries"] == 3
    assert found.counters["train_requests_failed"] == 2
    assert found.counters["sample_requests_failed"] == 1
    assert found.counters["actor_restarts"] == 1
    assert found.histograms["train_request_seconds"].maximum >= 7.0
    assert found.histograms["queue_seconds"].maximum >= 7.0
    for name in ("tokens_trained", "tokens_prompted", "tokens_sampled", "operations_done", "samples_done"):
        assert found.counters[name] == undisturbed.counters[name], name


def test_a_program_may_add_its_own():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        world.runtime.metrics.set("loss", 0.5)
        with pytest.raises(InvalidInput, match="name"):
            world.runtime.metrics.set("my loss\n", 0.5)
        assert world.runtime.metrics.snapshot().gauges == {"loss": 0.5}

    train(story)


def test_a_crash_is_said_in_the_log(caplog: pytest.LogCaptureFixture):
    measured(CrashAt(point="training.polling", nth=1))
    said = [r.getMessage() for r in caplog.records if r.name == "tinker_actors.runtime"]
    assert len(said) == 1
    assert said[0].startswith("runtime/sessions/session-0/clients/training-0 crashed: ")


@pytest.mark.parametrize(("name", "value"), [("config", 3), ("transport", 3), ("transport", "x")])
async def test_settings_of_another_kind(name: str, value: Any):
    with pytest.raises(InvalidInput, match=name):
        async with open_runtime(**{"base_url": "http://127.0.0.1:9", "api_key": "tml-test", name: value}):
            pass


def test_a_poll_that_says_not_yet_by_408_is_no_failure():
    fault = Status(path="/retrieve_future", status=408, times=2)
    assert "poll_requests_failed" not in measured(fault).counters
    other = Status(path="/retrieve_future", status=503, times=2)
    assert measured(other).counters["poll_requests_failed"] == 2


@pytest.mark.parametrize(
    ("length", "counted"), [("7", 7), ("9" * 5000, 0), ("9" * 19, 0), ("-1", 0), ("", 0), ("x", 0)]
)
async def test_what_a_server_says_of_a_length_harms_no_request(length: str, counted: int):
    class Odd(Transport):
        async def send(self, request: Request) -> Response:
            await trio.lowlevel.checkpoint()
            return cast("Response", SimpleNamespace(status=200, headers={"content-length": length}))

        async def aclose(self) -> None:
            """Nothing is open."""

    metrics = Metrics(OWN)
    await MeasuredTransport(Odd(), metrics).send(Request(method="GET", url="https://server/x"))
    assert metrics.counters().get("bytes_received", 0) == counted
