"""Servers that take protobuf only, JSON only, or both: found out once, remembered."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

import tinker_actors.types as ta
from tests.wire.scripted import Answer, Asked, scripted
from tinker_actors import errors
from tinker_actors.codec.forward_backward import encode_data
from tinker_actors.wire.api import PROTOBUF, Api
from tinker_actors.wire.endpoints.training import forward_backward

DATUM = ta.Datum(ta.ModelInput.from_ints([1, 2]), {"target_tokens": [2, 3], "weights": [0.0, 1.0]})
Taken = Literal["protobuf", "json", "both"]


class Picky:
    """A server that takes some forms and answers the other with ``refusal``."""

    def __init__(self, taken: Taken, refusal: int) -> None:
        self.taken = taken
        self.refusal = refusal
        self.values_are_wrong = False
        self.asked: list[Asked] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append(Asked(scope["method"], scope["path"].rpartition("/")[2], headers, body))
        form = "protobuf" if headers["content-type"] == PROTOBUF else "json"
        if self.taken not in (form, "both"):
            await self.say(send, self.refusal, {"detail": f"no {form} here"})
        elif self.values_are_wrong:
            await self.say(send, 422, {"detail": "rank mismatch"})
        else:
            await self.say(send, 200, {"request_id": form})

    async def say(self, send: Any, status: int, body: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": msgspec.json.encode(body)})


@asynccontextmanager
async def picky(taken: Taken, refusal: int = 415) -> AsyncGenerator[tuple[Api, Picky]]:
    server = Picky(taken, refusal)
    async with scripted(Answer(), application=server) as (api, _):
        yield api, server


async def ask(api: Api, *, forward_only: bool = False, **config: float) -> str:
    request = ta.ForwardBackwardRequest(
        model_id="m", seq_id=3, data=(DATUM,), loss_fn="ppo", loss_fn_config=config, forward_only=forward_only
    )
    return (await forward_backward(api, request, key="key")).request_id


@pytest.mark.parametrize("refusal", [415, 422])
async def test_a_json_only_server_is_found_out_and_remembered(refusal: int):
    async with picky("json", refusal) as (api, server):
        assert await ask(api, clip=0.2) == "json"
        assert await ask(api) == "json"
        assert await ask(api, forward_only=True) == "json"
    first, second, third, fourth = server.asked
    assert first.headers["content-type"] == PROTOBUF
    assert first.headers["x-idempotency-key"] == second.headers["x-idempotency-key"] == "key"
    assert second.path == "forward_backward"
    assert second.json == {
        "forward_backward_input": {
            "data": [
                {
                    "model_input": {"chunks": [{"tokens": [1, 2], "type": "encoded_text"}]},
                    "loss_fn_inputs": {
                        "target_tokens": {"data": [2, 3], "dtype": "int64", "shape": [2]},
                        "weights": {"data": [0.0, 1.0], "dtype": "float32", "shape": [2]},
                    },
                }
            ],
            "loss_fn": "ppo",
            "loss_fn_config": {"clip": 0.2},
        },
        "model_id": "m",
        "seq_id": 3,
    }
    assert "loss_fn_config" not in third.json["forward_backward_input"]
    assert (fourth.path, next(iter(fourth.json))) == ("forward", "forward_input")
    assert fourth.headers["x-sdk-method"] == "TrainingClient.forward"


@pytest.mark.parametrize("taken", ["protobuf", "both"])
async def test_a_server_that_takes_protobuf_is_never_asked_in_json(taken: Taken):
    async with picky(taken) as (api, server):
        assert await ask(api) == "protobuf"
        assert await ask(api, forward_only=True) == "protobuf"
        server.values_are_wrong = True
        with pytest.raises(errors.UnprocessableEntityError, match="rank mismatch"):
            await ask(api)
    assert [asked.headers["content-type"] for asked in server.asked] == [PROTOBUF] * 3
    assert {asked.path for asked in server.asked} == {"forward_backward"}


async def test_wrong_values_in_the_first_request_of_all_are_told_as_such():
    for taken in ("protobuf", "both"):
        async with picky(taken, 415) as (api, server):
            server.values_are_wrong = True
            with pytest.raises(errors.UnprocessableEntityError, match="rank mismatch"):
                await ask(api)
            server.values_are_wrong = False
            assert await ask(api) == "protobuf"


async def test_a_server_that_changes_its_mind_by_415_is_followed():
    async with picky("json") as (api, server):
        assert await ask(api) == "json"
        server.taken = "protobuf"
        assert await ask(api) == "protobuf"
        assert await ask(api) == "protobuf"
        server.taken = "json"
        assert await ask(api) == "json"
    assert len(server.asked) == 7


async def test_what_was_accepted_is_what_is_sent_in_json_too():
    """The caller's array changes after its data were encoded."""
    weights = np.array([0.0, 1.0], np.float32)
    datum = ta.Datum(ta.ModelInput.from_ints([1, 2]), {"target_tokens": [2, 3], "weights": weights})
    request = ta.ForwardBackwardRequest(model_id="m", seq_id=1, data=(datum,), loss_fn="cross_entropy")
    data = encode_data(request.data)
    weights[:] = 9.0
    async with picky("json") as (api, server):
        await forward_backward(api, request, key="key", data=data)
    sent = server.asked[1].json["forward_backward_input"]["data"][0]["loss_fn_inputs"]["weights"]
    assert sent["data"] == [0.0, 1.0]
