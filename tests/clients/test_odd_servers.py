"""Servers that answer what they should not: one typed error for whom it concerns, in bounded time, and no crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervision import ActorCrashed, Event
from tests.clients.odd_server import ask
from tests.clients.scenario import batch
from tinker_actors.errors import APIResponseError, InvalidInput, TinkerError
from tinker_actors.runtime import Runtime
from tinker_actors.types import AdamParams, ModelInput, SamplingParams

PROMPT = ModelInput.from_ints([1, 2])


def test_a_withheld_result_fails_its_operation_alone_and_crashes_nobody():
    async def story(runtime: Runtime) -> list[Event]:
        events: list[Event] = []
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        with runtime.system.events.subscribe(events.append):
            withheld = await client.forward_backward(batch(1))
            update = await client.optim_step(AdamParams())
            with pytest.raises(TinkerError, match="withheld") as failed:
                await withheld
            assert isinstance(failed.value, APIResponseError)
            await update
        return events

    odd = {"result of forward_backward": {"status": "complete_metadata", "response_payload_size": 5}}
    assert not [event for event in ask(story, odd) if isinstance(event, ActorCrashed)]


@pytest.mark.parametrize("logprobs", [{}, {"prompt_logprobs": None}, {"prompt_logprobs": [None]}])
def test_prompt_logprobs_that_are_not_there_are_an_error_of_the_server_s(logprobs: dict[str, Any]):
    async def story(runtime: Runtime) -> None:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")
        with pytest.raises(APIResponseError, match="prompt_logprobs"):
            await sampler.compute_logprobs(PROMPT)

    sample = {"sequences": [{"stop_reason": "length", "tokens": [1], "logprobs": [0.0]}]}
    ask(story, {"result of asample": sample | logprobs})


@pytest.mark.parametrize("limit", [0, -5])
def test_a_server_that_allows_no_sample_at_a_time_gets_one(limit: int):
    async def story(runtime: Runtime) -> int:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")
        return len((await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1))).sequences)

    assert ask(story, {"client/config": {"sample_max_concurrent_requests": limit}}) == 1


@pytest.mark.parametrize("content", [b"no JSON", b"{}", b"\xff"])
def test_a_tokenizer_that_is_none_is_told(content: bytes, tmp_path: Path):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)

    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        with pytest.raises(InvalidInput, match="tokenizer"):
            await client.get_tokenizer()

    ask(story, {"get_info": {"model_id": "model", "model_data": {"tokenizer_id": str(file)}}})
