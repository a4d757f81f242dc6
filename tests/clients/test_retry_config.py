"""RetryConfig where the clients take it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.clients.scenario import train
from tinker_actors import (
    Config,
    InternalServerError,
    InvalidInput,
    ModelInput,
    OutageError,
    RateLimitError,
    RetryConfig,
    SamplingParams,
)
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import FaultPlan, Status
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import World, simulate

PROMPT = ModelInput.from_ints([1, 2, 3])
PARAMS = SamplingParams(max_tokens=2, seed=1)


def test_a_sampling_clients_own_retry_config_bounds_its_samples():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[float, float]:
        quick = await service.create_sampling_client(
            base_model=BASE_MODEL, retry_config=RetryConfig(progress_timeout=20.0)
        )
        never = await service.create_sampling_client(
            base_model=BASE_MODEL, retry_config=RetryConfig(enable_retry_logic=False)
        )
        spans: list[float] = []
        for sampler, error in ((never, RateLimitError), (quick, OutageError)):  # they share the pause after a 429
            start = trio.current_time()
            with pytest.raises(error):
                await sampler.sample(PROMPT, 1, PARAMS)
            spans.append(trio.current_time() - start)
        return spans[0], spans[1]

    never, quick = train(story, Status(path="/asample", status=429, times=10_000)).value
    assert 19.0 <= quick <= 31.0
    assert never < 1.0


def test_samples_of_saved_weights_are_tried_again_as_their_own_retry_config_says():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> float:
        sampler = await client.save_weights_and_get_sampling_client(retry_config=RetryConfig(progress_timeout=20.0))
        start = trio.current_time()
        with pytest.raises(OutageError):
            await sampler.sample(PROMPT, 1, PARAMS)
        with pytest.raises(InvalidInput, match="retry_config"):
            await client.save_weights_and_get_sampling_client(retry_config="fast")  # pyright: ignore[reportArgumentType]
        return trio.current_time() - start

    assert 19.0 <= train(story, Status(path="/asample", status=429, times=10_000)).value <= 31.0


@pytest.mark.parametrize(
    ("retry", "max_retries", "tries"),
    [(RetryConfig(enable_retry_logic=False), None, 1), (RetryConfig(max_retries=2), None, 3), (RetryConfig(), 1, 2)],
)
def test_a_session_is_created_as_the_retry_config_says(retry: RetryConfig, max_retries: int | None, tries: int):
    async def scenario(world: World) -> None:
        with pytest.raises(InternalServerError):
            await world.runtime.create_service_client()

    config = Config.load(
        base_url="https://server", api_key="tml-test", environ={}, retry=retry, max_retries=max_retries
    )
    fault = Status(path="/create_session", status=500, times=10_000)
    outcome = simulate(
        scenario,
        seed=1,
        plan=FaultPlan((fault,)),
        settings=ServerSettings(base_model=BASE_MODEL),
        config=config,
    )
    assert len(outcome.fired) == tries


@pytest.mark.parametrize("given", [5, "fast", {"max_retries": -1}, {"speed": 1}])
def test_a_retry_config_that_is_none_is_refused_at_the_call(given: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        with pytest.raises(InvalidInput, match="retry"):
            await service.create_sampling_client(base_model=BASE_MODEL, retry_config=given)

    train(story)
