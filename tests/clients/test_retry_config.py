"""RetryConfig where the clients take it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.clients.scenario import train
from tinker_actors import InvalidInput, ModelInput, OutageError, RateLimitError, RetryConfig, SamplingParams
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.testing.faults import Status
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import World

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
        for sampler, error in ((quick, OutageError), (never, RateLimitError)):
            start = trio.current_time()
            with pytest.raises(error):
                await sampler.sample(PROMPT, 1, PARAMS)
            spans.append(trio.current_time() - start)
        return spans[0], spans[1]

    quick, never = train(story, Status(path="/asample", status=429, times=10_000)).value
    assert 19.0 <= quick <= 31.0
    assert never < 1.0


@pytest.mark.parametrize("given", [5, "fast", {"max_retries": -1}, {"speed": 1}])
def test_a_retry_config_that_is_none_is_refused_at_the_call(given: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        with pytest.raises(InvalidInput, match="retry"):
            await service.create_sampling_client(base_model=BASE_MODEL, retry_config=given)

    train(story)
