"""What errors and the log say: the matter once, the advice once, and nobody is called crashed who was refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from tests.clients.scenario import train
from tests.clients.test_epochs import lose_model, lose_session
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import APIStatusError, ClosedError, GoneError, ModelLost, NotFoundError, TinkerError
from tinker_actors.testing.faults import CrashAt, Delay
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SamplingParams


@pytest.mark.parametrize("lose", [lose_model, lose_session])
def test_advice_is_given_once(lose: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await lose(world, client)
        texts: list[str] = []
        with pytest.raises(ModelLost) as caught:
            await (await client.optim_step(AdamParams()))
        texts.append(str(caught.value))
        if lose is lose_session:
            with pytest.raises(ModelLost) as caught:
                await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1))
            texts.append(str(caught.value))
        return texts

    for text in train(story).value:
        advice = [APIStatusError.cure, NotFoundError.cure, GoneError.cure, "Create a new", "Open a new"]
        assert sum(text.count(each) for each in advice) == 1, text


def test_who_is_refused_has_not_crashed(caplog: pytest.LogCaptureFixture):
    async def story(_: World, service: ServiceClient, client: TrainingClient) -> None:
        for call in (
            service.create_lora_training_client("no/such-model", 2),
            service.create_sampling_client(base_model="no/such-model"),
            service.create_training_client_from_state("tinker://r/weights/none"),
        ):
            with pytest.raises(TinkerError):
                await call
        assert "crashed" not in caplog.text
        await (await client.optim_step(AdamParams()))

    with caplog.at_level(logging.INFO, "tinker_actors"):
        train(story, CrashAt(point="training.polling"))
    assert caplog.text.count("did not start: ") == 3
    assert caplog.text.count("training-0 crashed: ") == 1, "who did crash"


@pytest.mark.parametrize("what", ["get_info", "get_sampler_info"])
def test_a_call_whose_client_closes_meanwhile_was_closed(what: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        asked = client if what == "get_info" else sampler
        ended: list[BaseException] = []

        async def ask() -> None:
            try:
                await getattr(asked, what)()
            except TinkerError as error:
                ended.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            await trio.sleep(1.0)
            await asked.aclose()
        assert all(isinstance(error, ClosedError) for error in ended)
        if what == "get_info":
            assert {str(error) for error in ended} == {"get_info was not done: its client was closed meanwhile"}

    train(story, Delay(path="/get_info", nth=2, seconds=30.0))


def test_a_sample_whose_session_closes_meanwhile_was_closed():
    async def story(_: World, service: ServiceClient, __: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        ended: list[BaseException] = []

        async def sample() -> None:
            try:
                await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1))
            except TinkerError as error:
                ended.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sample)
            await trio.sleep(1.0)
            await service.close()
        assert [type(error) for error in ended] == [ClosedError], ended
        assert "was closed" in str(ended[0])

    train(story, Delay(path="/asample", seconds=30.0))
