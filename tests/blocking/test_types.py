"""What a type checker knows of the blocking handles: basedpyright checks this file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import assert_type

import pytest

from tinker_actors.blocking import (
    BlockingFuture,
    BlockingRuntime,
    SamplingClient,
    ServiceClient,
    TrainingClient,
    blocking_runtime,
)
from tinker_actors.flow.pending import Pending
from tinker_actors.telemetry import capture_exceptions
from tinker_actors.types import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    GetInfoResponse,
    ModelInput,
    OptimStepResponse,
    SampleResponse,
    SaveWeightsResponse,
)


def checked(data: Sequence[Datum], prompt: ModelInput) -> None:
    """Never run: only checked."""
    with blocking_runtime(base_url="http://127.0.0.1:8000", api_key="tml-key", seed=1, stall_alarm=None) as runtime:
        assert_type(runtime, BlockingRuntime)
        assert_type(runtime.pending(), tuple[Pending, ...])
        service = runtime.create_service_client(user_metadata={"run": "7"})
        assert_type(service, ServiceClient)
        assert_type(runtime.create_service_client_async(), BlockingFuture[ServiceClient])
        client = service.create_lora_training_client("model", rank=8, train_mlp=False)
        assert_type(client, TrainingClient)
        assert_type(service.within(5), ServiceClient)
        capture_exceptions(service)
        step = client.forward_backward(data, "cross_entropy", loss_fn_config=None)
        assert_type(step, BlockingFuture[ForwardBackwardOutput])
        assert_type(step.result(timeout=5), ForwardBackwardOutput)
        library: Future[ForwardBackwardOutput] = step
        assert_type(library.result(), ForwardBackwardOutput)
        assert_type(client.optim_step_async(AdamParams()).result(), OptimStepResponse)
        assert_type(client.save_state("name", ttl_seconds=60).result(), SaveWeightsResponse)
        assert_type(client.get_info_async(), BlockingFuture[GetInfoResponse])
        sampler = client.save_weights_and_get_sampling_client()
        assert_type(sampler, SamplingClient)
        assert_type(sampler.sample(prompt, 2, include_prompt_logprobs=True), SampleResponse)
        assert_type(sampler.model_path, str | None)

        blocking_runtime(bas_url="")  # pyright: ignore[reportCallIssue]
        client.optim_step(0.1)  # pyright: ignore[reportArgumentType]
        client.forward_backward(data, lossfn="cross_entropy")  # pyright: ignore[reportCallIssue]
        sampler.sample()  # pyright: ignore[reportCallIssue]
        sampler.sample(prompt, "2")  # pyright: ignore[reportArgumentType]


async def checked_in_asyncio(client: TrainingClient, sampler: SamplingClient, prompt: ModelInput) -> None:
    """Never run: only checked."""
    assert_type(await client.optim_step(AdamParams()), OptimStepResponse)
    assert_type(await sampler.sample_async(prompt), SampleResponse)


@pytest.mark.ci
def test_the_checker_agrees() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--level", "error", __file__],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
