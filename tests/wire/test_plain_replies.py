"""Replies whose headers and fields are written in any of the ways that servers have."""

from __future__ import annotations

import gzip

import pytest

from tests.wire.scripted import Answer, scripted
from tinker_actors.types import Promise
from tinker_actors.wire.endpoints.listings import get_sampler
from tinker_actors.wire.endpoints.weights import weights_info

BODY = b'{"request_id":"r"}'


@pytest.mark.parametrize("name", ["content-encoding", "Content-Encoding", "CONTENT-ENCODING"])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " Gzip "])
async def test_an_encoding_may_be_written_in_any_case(name: str, encoding: str):
    async with scripted(Answer(gzip.compress(BODY), headers={name: encoding})) as (api, _):
        assert await api.call("/x", Promise, {}, purpose="rest") == Promise(request_id="r")


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "identity"}, {"content-encoding": ""}])
async def test_a_reply_that_is_not_packed_is_read_as_it_is(headers: dict[str, str]):
    async with scripted(Answer(BODY, headers=headers)) as (api, _):
        reply = await api.exchange("POST", "/x", purpose="rest")
        assert reply.body == BODY


async def test_what_a_server_does_not_say_is_none():
    async with scripted(Answer({"base_model": "m", "is_lora": True})) as (api, script):
        info = await weights_info(api, "tinker://r/weights/a")
        assert (info.lora_rank, info.train_mlp) == (None, None)
        assert script.asked[0].json == {"tinker_path": "tinker://r/weights/a"}
    async with scripted(Answer({"sampler_id": "s", "base_model": "m"})) as (api, _):
        assert (await get_sampler(api, "s")).model_path is None
