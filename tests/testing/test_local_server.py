"""A server for the length of a block: in memory, on loopback, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from tests.local.harness import TINY, datum
from tinker_actors import (
    AdamParams,
    Config,
    InvalidInput,
    LocalServer,
    ModelInput,
    SamplingParams,
    ServerSettings,
    local_server,
    local_server_thread,
    open_runtime,
)
from tinker_actors.testing.faults import CrashAt, DropAfter, FaultPlan

Opener = Callable[[ServerSettings], AbstractAsyncContextManager[LocalServer]]


@asynccontextmanager
async def threaded(settings: ServerSettings) -> AsyncGenerator[LocalServer]:
    with local_server_thread(settings) as server:
        yield server


OPENERS: list[Opener] = [local_server, lambda settings: local_server(settings, loopback=True), threaded]


def tiny(**more: object) -> ServerSettings:
    return msgspec.structs.replace(ServerSettings(base_model=TINY), **more)


@pytest.mark.parametrize("opened", OPENERS, ids=["memory", "loopback", "thread"])
async def test_a_runtime_trains_and_samples_at_it(opened: Opener) -> None:
    async with opened(tiny()) as server, open_runtime(server=server, seed=0) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client(TINY, rank=2)
        first = await (await client.forward_backward([datum(1)], "cross_entropy"))
        await client.optim_step(AdamParams(learning_rate=0.005))
        second = await (await client.forward_backward([datum(1)], "cross_entropy"))
        assert second.metrics["loss:sum"] < first.metrics["loss:sum"]
        sampler = await client.save_weights_and_get_sampling_client()
        response = await sampler.sample(ModelInput.from_ints([1, 2]), 1, SamplingParams(max_tokens=3, stop=[]))
        assert len(response.sequences[0].tokens) == 3


async def test_in_memory_there_is_no_socket_and_the_service_can_be_looked_at() -> None:
    async with local_server(tiny()) as server, open_runtime(server=server) as runtime:
        client = await (await runtime.create_service_client()).create_lora_training_client(TINY, rank=2)
        await (await client.forward_backward([datum(1)], "cross_entropy"))
        assert [entry.kind for entry in server.service.applied(client.model_id)] == ["forward_backward"]
    with pytest.raises(OSError, match=r"."):
        socket.getaddrinfo(urlsplit(server.url).hostname, 443)


@pytest.mark.parametrize("more", [{"api_keys": ("tml-a", "tml-b")}, {"owners": {"ann": ("tml-c",)}}, {}])
async def test_its_key_is_one_that_it_takes(more: dict[str, object]) -> None:
    async with local_server(tiny(**more)) as server, open_runtime(server=server) as runtime:
        await runtime.create_service_client()


async def test_runtimes_share_it_and_a_configuration_may_stand_beside_it() -> None:
    config = Config.load(base_url="http://127.0.0.1:1", api_key="tml-other", credential_cmd="false", environ={})
    async with (
        local_server(tiny(api_keys=("tml-mine",))) as server,
        open_runtime(server=server) as first,
        open_runtime(server=server, config=msgspec.structs.replace(config, max_pending=3)) as second,
    ):
        for runtime in (first, second):
            service = await runtime.create_service_client()
            assert [model.model_name for model in (await service.get_server_capabilities()).supported_models] == [
                TINY
            ]
    assert "mine" not in repr(server)


@pytest.mark.parametrize("given", [{"base_url": "http://127.0.0.1:1"}, {"api_key": "tml-a"}])
async def test_a_server_and_an_address_are_one_too_many(given: dict[str, str]) -> None:
    async with local_server(tiny()) as server:
        with pytest.raises(InvalidInput, match="server: is given beside"):
            async with open_runtime(server=server, **given):  # type: ignore[arg-type]
                pass
    with pytest.raises(InvalidInput, match="server: is of type str"):
        async with open_runtime(server="http://127.0.0.1:1"):  # type: ignore[arg-type]
            pass


async def test_a_seed_gives_the_same_ids() -> None:
    names: list[str] = []
    for _ in range(2):
        async with local_server(tiny(), seed=5) as server, open_runtime(server=server, seed=1) as runtime:
            client = await (await runtime.create_service_client()).create_lora_training_client(TINY, rank=2)
            names.append(client.model_id)
    assert names[0] == names[1]


@pytest.mark.parametrize("opened", OPENERS, ids=["memory", "loopback", "thread"])
async def test_what_the_block_raises_comes_out_as_it_is_and_nothing_is_left(opened: Opener, tmp_path: Path) -> None:
    error = ValueError("the user's own")
    with pytest.raises(ValueError, match="the user's own") as caught:
        async with opened(tiny(directory=tmp_path)) as server:
            url = server.url
            raise error
    assert caught.value is error
    if url.startswith("http://127"):
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{url}/api/v1/healthz")
    async with opened(tiny(directory=tmp_path)):  # it has let go of its directory
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "local-server"]


@pytest.mark.parametrize("opened", OPENERS, ids=["memory", "loopback", "thread"])
async def test_settings_that_cannot_be_served_are_refused_as_they_are(opened: Opener) -> None:
    with pytest.raises(InvalidInput, match="nobody/nothing"):
        async with opened(ServerSettings(base_model="nobody/nothing")):
            pass


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"settings": {"max_rank": 2}}, r"settings: is of type dict. Give ServerSettings\(...\)"),
        ({"faults": [DropAfter(path="")]}, r"faults: is of type list. Give FaultPlan\(...\)"),
        (
            {"faults": FaultPlan((CrashAt(point="training.polling"),))},
            r"faults\[0\]: is a CrashAt, which happens in a",
        ),
        (
            {"faults": FaultPlan((CrashAt(point="training.polling"),)), "loopback": True},
            r"faults\[0\]: is a CrashAt, which happens in a client's program",
        ),
        ({"port": 70_000, "loopback": True}, "port: 70000 is out of range"),
        ({"loopback": "yes"}, "loopback: 'yes' is neither True nor False"),
    ],
)
async def test_an_argument_of_another_kind_is_refused_by_name(given: Any, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        async with local_server(**given):
            pass


def test_a_port_in_use_is_an_oserror() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"), local_server_thread(tiny(), port=taken.getsockname()[1]):
            pass


def test_plain_code_asks_the_server_in_its_thread() -> None:
    with local_server_thread(tiny(api_keys=("tml-mine",))) as server:
        url = f"{server.url}/api/v1/get_server_capabilities"
        assert httpx.get(url, headers={"x-api-key": server.key}).json()["supported_models"][0]["model_name"] == TINY
        assert httpx.get(url, headers={"x-api-key": "tml-other"}).status_code == 401
        assert server.transport() is None
        with pytest.raises(RuntimeError, match="another thread"):
            server.service
