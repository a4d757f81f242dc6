"""Sampling clients by handle: they take part in another process's session, and never get in its way."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest
import trio

from supervision.context import Context
from tests.clients.odd_server import ask
from tests.local.harness import TINY
from tinker_actors import (
    InvalidInput,
    ModelInput,
    ModelLost,
    Runtime,
    SamplerHandle,
    SamplingParams,
    ServerSettings,
    local_server,
    open_runtime,
)

PROMPT = ModelInput.from_ints([1, 2])
HANDLE = SamplerHandle(base_url="https://server", session_id="other", sampling_session_id="other:sample:0")


def _bodies(asked: list[tuple[str, bytes]], name: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(body) for found, body in asked if found == name]


def test_it_beats_in_the_session_and_neither_creates_nor_ends_it():
    async def story(runtime: Runtime) -> None:
        client = await runtime.create_sampling_client_from_handle(HANDLE)
        assert client.sampling_session_id == "other:sample:0"
        await client.sample(PROMPT)
        await trio.sleep(25)
        assert await runtime.create_sampling_client_from_handle(HANDLE) is client
        assert await runtime.create_sampling_client_from_handle_async(HANDLE) is client
        await client.aclose()
        again = await runtime.create_sampling_client_from_handle(HANDLE)
        assert again is not client
        await trio.sleep(10)

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert {name for name, _ in asked} == {"client/config", "asample", "retrieve_future", "session_heartbeat"}
    beats = _bodies(asked, "session_heartbeat")
    assert 3 <= len(beats) <= 4
    assert {beat["session_id"] for beat in beats} == {"other"}


@pytest.mark.parametrize("actor", ["joiner", "heartbeat", "clients/sampler-0"])
def test_a_crash_of_who_takes_part_costs_nothing(actor: str):
    async def story(runtime: Runtime) -> None:
        client = await runtime.create_sampling_client_from_handle(HANDLE)
        await client.sample(PROMPT)
        place: Any = runtime.system.child("sessions")
        for name in f"joined-0/{actor}".split("/"):
            place = place.child(name)

        async def crash() -> None:
            raise RuntimeError("of this test")

        Context(place.place.life).start_task(crash, name="planted")
        await trio.sleep(20)
        assert runtime.counters()["actor_restarts"] == 1
        await client.sample(PROMPT)

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert {name for name, _ in asked} == {"client/config", "asample", "retrieve_future", "session_heartbeat"}
    first, second = [body["seq_id"] for body in _bodies(asked, "asample")]
    assert second == first + 1


def test_each_copy_numbers_its_samples_apart():
    async def story(runtime: Runtime) -> None:
        client = await runtime.create_sampling_client_from_handle(HANDLE)
        for _ in range(2):
            await client.sample(PROMPT)

    blocks: set[int] = set()
    for _ in range(5):  # runtimes of one seed, as the workers of a pool may be
        asked: list[tuple[str, bytes]] = []
        ask(story, {}, asked=asked)
        first, second = [body["seq_id"] for body in _bodies(asked, "asample")]
        assert second == first + 1
        assert first % 1_000_000_000 == 0
        assert 1 <= first // 1_000_000_000 < 1_000_000_000
        blocks.add(first)
    assert len(blocks) == 5


def test_a_server_that_counts_copies_gives_the_number():
    async def story(runtime: Runtime) -> None:
        client = await runtime.create_sampling_client_from_handle(HANDLE)
        await client.sample(PROMPT)

    asked: list[tuple[str, bytes]] = []
    odd = {"client/config": {"sample_join_sampling_session": True}, "join_sampling_session": {"client_counter": 7}}
    ask(story, odd, asked=asked)
    assert [body["sampling_session_id"] for body in _bodies(asked, "join_sampling_session")] == ["other:sample:0"]
    assert [body["seq_id"] for body in _bodies(asked, "asample")] == [7_000_000_000]


@pytest.mark.parametrize("odd", [None, "handle", b"", object()])
def test_what_is_no_handle_is_refused(odd: Any):
    async def story(runtime: Runtime) -> None:
        with pytest.raises(InvalidInput, match="get_sampler_handle"):
            await runtime.create_sampling_client_from_handle(odd)
        with pytest.raises(InvalidInput, match="get_sampler_handle"):
            runtime.create_sampling_client_from_handle_async(odd)
        elsewhere = msgspec.structs.replace(HANDLE, base_url="https://elsewhere")
        with pytest.raises(InvalidInput, match=r"https://elsewhere.*same base_url"):
            await runtime.create_sampling_client_from_handle(elsewhere)

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert asked == []


async def test_copies_in_several_runtimes_sample_from_the_same_weights():
    settings = ServerSettings(base_model=TINY)
    async with local_server(settings) as server, open_runtime(server=server, seed=0) as owner:
        service = await owner.create_service_client()
        client = await service.create_lora_training_client(TINY, rank=2)
        sampler = await client.save_weights_and_get_sampling_client()
        handle = sampler.get_sampler_handle()
        assert msgspec.json.decode(msgspec.json.encode(handle), type=SamplerHandle) == handle
        written = pickle.dumps(handle)
        assert pickle.loads(written) == handle
        assert server.key.encode() not in written
        params = SamplingParams(max_tokens=4, seed=5)
        mine = await sampler.sample(PROMPT, 1, params)
        identities: set[str | None] = {mine.sequences[0].sequence_id}
        for _ in range(2):
            async with open_runtime(server=server, seed=0) as runtime:
                copy = await runtime.create_sampling_client_from_handle(handle)
                theirs = await copy.sample(PROMPT, 1, params)
                assert theirs.sequences[0].tokens.tolist() == mine.sequences[0].tokens.tolist()
                identities.add(theirs.sequences[0].sequence_id)
        assert len(identities) == 3
        assert (await sampler.sample(PROMPT, 1, params)).sequences[0].tokens.tolist()  # nobody has ended its session
        assert len(server.service.sessions.alive()) == 1


async def test_a_session_that_is_over_is_told():
    settings = ServerSettings(base_model=TINY)
    async with local_server(settings) as server, open_runtime(server=server) as owner:
        service = await owner.create_service_client()
        handle = (await service.create_sampling_client(base_model=TINY)).get_sampler_handle()
        await service.aclose()
        async with open_runtime(server=server) as runtime:
            copy = await runtime.create_sampling_client_from_handle(handle)
            with pytest.raises(ModelLost):
                await copy.sample(PROMPT, 1, SamplingParams(max_tokens=1))


async def test_a_trio_handle_is_not_pickled():
    settings = ServerSettings(base_model=TINY)
    async with local_server(settings) as server, open_runtime(server=server) as runtime:
        service = await runtime.create_service_client()
        sampler = await service.create_sampling_client(base_model=TINY)
        with pytest.raises(TypeError, match="get_sampler_handle"):
            pickle.dumps(sampler)
