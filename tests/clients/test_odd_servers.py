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
from tinker_actors.tokenizers import Hub
from tinker_actors.types import AdamParams, ModelInput, SamplingParams

PROMPT = ModelInput.from_ints([1, 2])
TOKENIZER = Path(__file__).parents[2] / "tinker_actors" / "local" / "base" / "tokenizer.json"


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


@pytest.mark.parametrize("field", ["tokenizer_id", "model_name"])
@pytest.mark.parametrize(
    "name",
    [
        *("FOLDER", "FOLDER/tokenizer.json", "here", "org/here", "./here", "../here", "..", ".", "~", "~/here", "/"),
        *("org/../here", "org\\here", "\\\\host\\share", "org/na\0me", "\0", "org/name\n", " org/name", "org//name"),
        *("org/", "/org", "a/b/c/d", "a" * 97, "ö/b", "", ":", ":main", "%2e%2e/here", "org/n..me"),
    ],
)
def test_a_server_chooses_no_file_to_be_read_here(
    name: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for folder in (tmp_path, tmp_path / "here", tmp_path / "org" / "here", tmp_path / "down"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    monkeypatch.chdir(tmp_path / "down" if name == "../here" else tmp_path)
    asked_of_the_hub = hub(monkeypatch, error="there is no such model")
    name = name.replace("FOLDER", str(tmp_path))

    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        with pytest.raises(InvalidInput) as caught:
            await client.get_tokenizer()
        assert caught.value.field == "tokenizer"
        assert "tokenizer.json" in caught.value.cure or "tokenizer_for" in caught.value.cure
        if not asked_of_the_hub:
            assert "'model'" in caught.value.problem

    ask(story, {"get_info": {"model_id": "model", "model_data": {field: name}}})
    assert asked_of_the_hub == ([name] if name in ("here", "org/here") else [])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"tokenizer_id": "org/name", "model_name": "x/y"}, "org/name"),
        ({"tokenizer_id": "org/name:612681931a", "model_name": "x/y"}, "org/name"),
        ({"tokenizer_id": "", "model_name": "org/name"}, "org/name"),
        ({"model_name": "org/name:main"}, "org/name"),
        ({"model_name": "org/name/tuned"}, "org/name"),
        ({"model_name": "org/name/tuned:2"}, "org/name"),
        ({"model_name": "gpt2"}, "gpt2"),
        ({"model_name": "meta-llama/Llama-3.1-8B:x"}, "thinkingmachineslabinc/meta-llama-3-tokenizer"),
    ],
)
def test_a_name_on_the_hub_is_asked_for_there(data: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch):
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        tokenizer = await client.get_tokenizer()
        assert tokenizer.decode(tokenizer.encode("ab")) == "ab"
        assert await client.get_tokenizer() is tokenizer

    asked_of_the_hub = hub(monkeypatch)
    ask(story, {"get_info": {"model_id": "model", "model_data": data}})
    assert asked_of_the_hub == [name]


def hub(monkeypatch: pytest.MonkeyPatch, error: str | None = None) -> list[str]:
    """A hub that has every tokenizer, or none; the names that it is asked for."""

    def hub_file(name: str, file: str, hub: Hub, *, revision: str | None = None) -> Path:
        asked.append(name)
        if error is not None:
            raise InvalidInput("tokenizer", error, "Give a folder with a tokenizer.json")
        return TOKENIZER

    asked: list[str] = []
    monkeypatch.setattr("tinker_actors.tokenizers.tokenizer.hub_file", hub_file)
    return asked


def test_a_server_that_names_no_tokenizer_is_told():
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        with pytest.raises(InvalidInput, match="names none for model 'model'"):
            await client.get_tokenizer()

    ask(story, {"get_info": {"model_id": "model", "model_data": {}}})
