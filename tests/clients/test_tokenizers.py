"""Clients' tokenizers: of one cache for the whole runtime, and known by the base model."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from tests.clients.odd_server import ask
from tests.clients.test_odd_servers import hub
from tinker_actors.errors import APIResponseError, CredentialError, InvalidInput
from tinker_actors.runtime import Runtime


def test_all_clients_of_a_runtime_share_a_tokenizer(monkeypatch: pytest.MonkeyPatch):
    asked_of_the_hub = hub(monkeypatch)

    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        clients = [await service.create_lora_training_client("a/b", 2) for _ in range(2)]
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b/tuned:3")
        saved = await clients[0].save_weights_and_get_sampling_client("mine")
        found = {id(await client.get_tokenizer()) for client in (*clients, sampler, saved)}
        assert len(found) == 1

    ask(story, {})
    assert asked_of_the_hub == ["a/b"]


def test_a_base_model_that_is_no_name_on_the_hub_has_no_tokenizer(monkeypatch: pytest.MonkeyPatch):
    asked_of_the_hub = hub(monkeypatch)

    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        sampler = await service.create_sampling_client(model_path="tinker://r/sampler_weights/mine")
        with pytest.raises(APIResponseError, match="base_model"):
            await sampler.get_tokenizer()
        odd = await service.create_sampling_client(base_model="../here")
        with pytest.raises(InvalidInput, match="which is no name on the hub"):
            await odd.get_tokenizer()

    ask(story, {"samplers/sampler": {"sampler_id": "sampler"}})
    assert not asked_of_the_hub


def test_why_there_is_no_tokenizer_is_told(monkeypatch: pytest.MonkeyPatch):
    asked_of_the_hub = hub(monkeypatch, error="there is none for 'a/b'")

    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        for _ in range(2):  # an error is not kept
            with pytest.raises(InvalidInput, match="there is none for 'a/b'"):
                await client.get_tokenizer()
        monkeypatch.setattr("tinker_actors.clients.tokenizing.hub_token", no_token)
        with pytest.raises(CredentialError, match="hf_token"):
            await client.get_tokenizer()

    def no_token(config: object) -> None:
        raise CredentialError("hf_token", "is no token", "Mend it")

    ask(story, {})
    assert asked_of_the_hub == ["a/b", "a/b"]


def test_an_error_of_the_models_description_is_told():
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        with pytest.raises(APIResponseError, match="get_info"):
            await service.create_lora_training_client("a/b", 2)

    ask(story, {"get_info": {"model_id": 5}})


@pytest.mark.parametrize("model", ["a/b", "odd name!"])
def test_a_tokenizer_of_the_users_own_asks_nobody(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked_of_the_hub = hub(monkeypatch)
    packaged = files("tinker_actors").joinpath("local", "base", "tokenizer.json").read_text("utf-8")
    (tmp_path / "tokenizer.json").write_text(packaged, "utf-8")

    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client(model, 2)
        sampler = await service.create_sampling_client(base_model=model)
        tokenizer = await client.get_tokenizer()
        assert tokenizer is await sampler.get_tokenizer()
        assert tokenizer.decode(tokenizer.encode("a word")) == "a word"
        lost = await service.create_sampling_client(base_model="c/d")
        with pytest.raises(InvalidInput, match=r"tokenizers\['c/d'\]: there is no .*none"):
            await lost.get_tokenizer()

    own = {model: tmp_path, "c/d": tmp_path / "none"}
    info = {"model_id": "model", "model_data": {"model_name": model, "tokenizer_id": "x/y"}}
    ask(story, {"get_info": info}, tokenizers=own)
    assert not asked_of_the_hub
