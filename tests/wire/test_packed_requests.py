"""Batches packed with zstd where the server's configuration asks for it, as long as it takes them."""

from __future__ import annotations

import random
import typing
from collections.abc import Sequence

import pytest

import tinker_actors.types as ta
from tests.clients.scenario import batch, train
from tests.wire.quirky import Server, against
from tests.wire.scripted import Answer, Asked, scripted
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.codec.compression import Encoding, compress, decompress
from tinker_actors.codec.forward_backward import decode_forward_backward_request
from tinker_actors.errors import APIStatusError, TinkerError
from tinker_actors.local import ServerSettings
from tinker_actors.runtime import Runtime
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import World
from tinker_actors.wire.api import PROTOBUF, Body
from tinker_actors.wire.endpoints.training import forward_backward

ASKED_FOR = {"client/config": Answer({"proto_compress_fwdbwd": True})}
LIMIT = 1 << 20


async def trained(runtime: Runtime, steps: int = 3) -> list[str]:
    """What became of each step."""
    service = await runtime.create_service_client()
    client = await service.create_lora_training_client("a/b", 2)
    ends: list[str] = []
    for _ in range(steps):
        step = await client.forward_backward(batch(1))
        try:
            await step
        except TinkerError as error:
            ends.append(type(error).__name__)
        else:
            ends.append("done")
    return ends


def bodies(server: Server) -> list[tuple[str | None, ta.ForwardBackwardRequest]]:
    """Of each batch how it was packed, and what stood in it."""
    found: list[tuple[str | None, ta.ForwardBackwardRequest]] = []
    for asked in server.all("forward_backward"):
        assert asked.headers["content-type"] == PROTOBUF
        encoding = asked.headers.get("content-encoding")
        body = decompress(asked.body, encoding or "identity", limit=LIMIT)
        found.append((encoding, decode_forward_backward_request(body)))
    return found


def packings(server: Server) -> list[str | None]:
    return [encoding for encoding, _ in bodies(server)]


def test_a_row_of_buffers_is_one_frame_of_all_of_them():
    rng = random.Random(1)
    pieces = (rng.randbytes(100), b"", memoryview(bytes(200_000)), b"end")
    whole = b"".join(pieces)
    for encoding in typing.get_args(Encoding):
        assert decompress(compress(pieces, encoding), encoding, limit=len(whole)) == whole


def test_nothing_is_packed_unless_the_server_asks_for_it():
    ends, server = against({}, trained)
    assert ends == ["done"] * 3
    assert packings(server) == [None] * 3


def test_a_server_that_asks_for_it_gets_every_batch_packed():
    ends, server = against(ASKED_FOR, trained)
    assert ends == ["done"] * 3
    assert packings(server) == ["zstd"] * 3
    assert [request.seq_id for _, request in bodies(server)] == [1, 2, 3]
    assert all(request.data == tuple(batch(1)) for _, request in bodies(server))
    assert not any("content-encoding" in asked.headers for asked in server.asked if asked.path != "forward_backward")


@pytest.mark.parametrize("status", [415, 422])
def test_a_server_that_refuses_what_it_has_asked_for_is_asked_once(status: int):
    async def unpacked_only(server: Server, asked: Asked) -> Answer:
        if "content-encoding" in asked.headers:
            return Answer({"detail": "what is this?"}, status)
        return Answer({"request_id": "forward_backward-1"})

    ends, server = against({**ASKED_FOR, "forward_backward": unpacked_only}, trained)
    assert ends == ["done"] * 3
    assert packings(server) == ["zstd", None, None, None]
    first, second, *_ = server.all("forward_backward")
    assert first.headers["x-idempotency-key"] == second.headers["x-idempotency-key"]
    assert bodies(server)[0][1] == bodies(server)[1][1]


async def pack(body: Body) -> bytes:
    return compress(body, "zstd")


async def how(*statuses: int, times: int) -> tuple[list[int], list[str | None]]:
    """What ``times`` requests come to (200 for a promise), and how each that was sent was packed."""
    answers = [Answer({"request_id": "r"} if status == 200 else {"detail": "no"}, status) for status in statuses]
    ends: list[int] = []
    async with scripted(*answers) as (api, script):
        for number in range(times):
            request = ta.ForwardBackwardRequest(
                model_id="m", seq_id=number + 1, data=tuple(batch(1)), loss_fn="cross_entropy"
            )
            try:
                await forward_backward(api, request, key="key", pack=pack)
            except APIStatusError as error:
                ends.append(error.status)
            else:
                ends.append(200)
    return ends, [
        asked.headers.get("content-encoding", asked.headers["content-type"].rpartition("-")[2])
        for asked in script.asked
    ]


async def test_what_a_server_has_taken_once_it_refuses_by_415_alone():
    ends, sent = await how(200, 422, 415, 200, 200, times=4)
    assert ends == [200, 422, 200, 200]
    assert sent == ["zstd", "zstd", "zstd", "protobuf", "protobuf"]


async def test_wrong_values_are_not_taken_for_the_packing():
    ends, sent = await how(422, 422, 422, 200, times=2)
    assert ends == [422, 200]
    assert sent == ["zstd", "protobuf", "application/json", "zstd"]


@pytest.mark.parametrize("status", [400, 413, 500])
async def test_no_other_refusal_is_about_the_packing(status: int):
    ends, sent = await how(status, 200, times=2)
    assert ends == [status, 200]
    assert sent == ["zstd", "zstd"]


def two_steps(compressed: bool) -> tuple[Sequence[float], Sequence[str]]:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses: list[float] = []
        for _ in range(2):
            step = await client.forward_backward(batch(1, 2))
            update = await client.optim_step(ta.AdamParams(learning_rate=0.01))
            losses.append((await step).metrics["loss:sum"])
            await update
        return losses

    settings = ServerSettings(base_model=BASE_MODEL, proto_compress_fwdbwd=compressed)
    outcome = train(story, settings=settings)
    (model,) = outcome.models
    return outcome.value, [operation.digest for operation in model.applied]


def test_the_local_server_unpacks_them_to_the_same_steps():
    assert two_steps(compressed=True) == two_steps(compressed=False)
