from __future__ import annotations

import http.client
import json
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import trio

from tests.local.harness import TINY, Caller, Stage, play, sample_body
from tests.local.process import KEY, serving
from tinker_actors.local.engine.pieces import TextPieces
from tinker_actors.ports import Request, Response

DAY = "starting_on=2000-01-01T00:00:00Z&ending_before=2000-01-02T00:00:00Z"


def body(sampler: str, *, tokens: int = 40, **more: Any) -> Any:
    given = sample_body(sampler) | {"prompt_logprobs": False} | more
    given["sampling_params"] |= {"max_tokens": tokens}
    return given


async def begin(stage: Stage, given: Any) -> Response:
    request = Request(
        method="POST",
        url="http://server/api/v1/stream_sample",
        headers=(("x-api-key", "tml-test"), ("content-type", "application/json"), ("accept", "text/event-stream")),
        body=(msgspec.json.encode(given),),
        timeout=1000.0,
    )
    return await stage.caller.transport.send(request)


async def events(response: Response) -> AsyncGenerator[Any]:
    assert response.status == 200
    assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert "content-length" not in response.headers
    rest = b""
    async with aclosing(response.stream()) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            *whole, rest = (rest + piece).split(b"\n\n")
            for event in whole:
                assert event.startswith(b"data: ")
                yield msgspec.json.decode(event.removeprefix(b"data: "))
    assert rest == b""


async def sampled(caller: Caller) -> int:
    found = (await caller.get(f"/billing/usage/events?{DAY}")).ok["data"]
    counts = [e["event_info"]["token_count"] for e in found if e["event_info"]["type"] == "sampling_sample"]
    return sum(counts)


def test_a_stream_is_the_sample_token_by_token() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        await caller.train(model_id, 1)
        ephemeral = (await caller.save_sampler(model_id, 5, sampling_session_seq_id=0))["sampling_session_id"]
        path = (await caller.save(model_id, 6, "a"))["path"]
        for sampler in (ephemeral, await caller.sampler(session_id, 1, model_path=path)):
            for seq_id, stop in enumerate((None, [], [9])):
                given = body(sampler, tokens=30)
                given["sampling_params"]["stop"] = stop
                promise = (await caller.post("/asample", given | {"seq_id": seq_id})).ok
                (expected,) = (await caller.result(promise["request_id"]))["sequences"]
                seen = [event async for event in events(await begin(stage, given))]
                assert [event["token_id"] for event in seen] == expected["tokens"]
                assert [event["logprob"] for event in seen] == pytest.approx(expected["logprobs"], abs=1e-7)
                assert [event["index"] for event in seen] == list(range(len(seen)))
                assert all("finish_reason" not in event for event in seen[:-1])
                assert (seen[-1]["finish_reason"], seen[-1]["total_tokens"]) == (expected["stop_reason"], len(seen))
                text = "".join(event["token"] for event in seen)
                assert text == bytes(token - 3 for token in expected["tokens"] if token >= 3).decode()
                if stop is not None and not stop:
                    assert len(seen) == 30
        assert len(stage.service.streams) == 0

    play(scenario)


def test_the_first_token_leaves_before_the_last_is_computed_and_who_goes_ends_the_rest() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        sampler = await caller.sampler(await caller.session())
        response = await begin(stage, body(sampler, tokens=60))
        assert len(stage.service.streams) == 1
        async with aclosing(events(response)) as given:
            assert (await anext(given))["index"] == 0
        await response.aclose()
        await trio.sleep(10.0)
        assert len(stage.service.streams) == 0
        # the little that was under way, and not all of it
        assert 1 <= await sampled(caller) < 40
        whole = [event async for event in events(await begin(stage, body(sampler, tokens=60)))]
        assert len(whole) == 60
        names = {span.name for span in stage.service.activity.traces.of_session(sampler.partition(":")[0])}
        assert names == {"stream 0"}

    play(scenario)


def test_a_stream_ends_with_its_session() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        sampler = await caller.sampler(session_id)
        response = await begin(stage, body(sampler, tokens=60))
        seen: list[Any] = []
        async for event in events(response):
            if not seen:
                await caller.post(f"/sessions/{session_id}/finish", {"reason": {"type": "success"}, "detail": None})
                await trio.sleep(1.0)
            seen.append(event)
        assert seen[-1] == {"error": f"the session {session_id} is over"}
        assert 1 < len(seen) < 60

    play(scenario)


def test_streams_that_can_not_be() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        sampler = await caller.sampler(await caller.session())
        for wrong, status, field in (
            ({"num_samples": 2}, 400, "num_samples"),
            ({"prompt_logprobs": True}, 400, "prompt_logprobs"),
            ({"record_stability_info": True}, 400, "record_stability_info"),
            ({"prompt": {"chunks": []}}, 400, "prompt"),
            ({"prompt": {"chunks": [{"type": "encoded_text", "tokens": [99]}]}}, 400, "prompt"),
            ({"sampling_session_id": None}, 400, "sampling_session_id"),
            ({"sampling_session_id": "none"}, 404, "sampling session 'none'"),
            ({"seq_id": -1}, 400, "seq_id"),
        ):
            answer = await caller.post("/stream_sample", body(sampler) | wrong)
            assert (answer.status, answer.detail.split(":")[0]) == (status, field)
        assert (await other.post("/stream_sample", body(sampler))).status == 404
        first, second = [await begin(stage, body(sampler, tokens=60)) for _ in range(2)]
        answer = await caller.post("/stream_sample", body(sampler))
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        await first.aclose()
        await trio.sleep(1.0)
        assert len([event async for event in events(await begin(stage, body(sampler, tokens=5)))]) == 5
        await second.aclose()

    play(scenario, max_streams=2)


def test_without_a_seed_a_stream_has_its_own() -> None:
    async def scenario(stage: Stage) -> list[list[int]]:
        sampler = await stage.caller.sampler(await stage.caller.session())
        given = body(sampler)
        del given["sampling_params"]["seed"], given["seq_id"]
        return [[event["token_id"] async for event in events(await begin(stage, given))] for _ in range(3)]

    first = play(scenario, seed=1)
    assert len({tuple(tokens) for tokens in first}) == 3
    assert play(scenario, seed=1) == first


def test_a_checkpoint_that_is_gone_is_told_in_the_stream() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        path = (await caller.save_sampler(model_id, 1, path="a"))["path"]
        sampler = await caller.sampler(session_id, model_path=path)
        await caller.send("DELETE", f"/training_runs/{model_id}/checkpoints/sampler_weights/a")
        seen = [event async for event in events(await begin(stage, body(sampler)))]
        cure = "Check the name; it may have expired or been deleted"
        assert seen == [{"error": f"sample: path: there is no checkpoint {path}. {cure}"}]

    play(scenario)


def test_pieces_are_whole_characters_and_all_of_the_text() -> None:
    for text in ("añ€😀z", "plain", ""):
        tokens = [byte + 3 for byte in text.encode()]
        pieces = TextPieces(None)
        given = [pieces.add(token, last=index == len(tokens) - 1) for index, token in enumerate(tokens)]
        assert "".join(given) == text
        assert [piece for piece in given if piece] == list(text)
    cut = TextPieces(None)
    assert [cut.add(0xE2 + 3, last=False), cut.add(2, last=True)] == ["", "�"]

    def text_of(tokens: Any) -> str:
        return bytes(tokens).decode("utf-8", "replace")

    rng = random.Random(0)
    for _ in range(200):
        text = "".join(rng.choice("aé€😀\ufffd") for _ in range(rng.randrange(6)))
        tokens = list(text.encode())
        pieces = TextPieces(text_of)
        given = [pieces.add(token, last=index == len(tokens) - 1) for index, token in enumerate(tokens)]
        assert "".join(given) == text


@pytest.mark.process
def test_on_a_socket_tokens_come_one_by_one_and_who_goes_ends_the_rest() -> None:
    with serving(models=("tinker-actors/base-s", TINY)) as server:
        parts = urlsplit(server.url)

        def call(method: str, path: str, given: Any = None) -> Any:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
            content = None if given is None else json.dumps(given)
            headers = {"x-api-key": KEY, "content-type": "application/json"}
            connection.request(method, f"/api/v1{path}", content, headers)
            return connection, connection.getresponse()

        def post(path: str, given: Any) -> Any:
            connection, response = call("POST", path, given)
            with closing(connection):
                return json.loads(response.read())

        session_id = post("/create_session", {"tags": [], "user_metadata": {}, "sdk_version": "0"})["session_id"]
        place = {"session_id": session_id, "sampling_session_seq_id": 0, "base_model": "tinker-actors/base-s"}
        sampler = post("/create_sampling_session", place)["sampling_session_id"]
        connection, response = call("POST", "/stream_sample", body(sampler, tokens=200))
        first = json.loads(response.readline().removeprefix(b"data: "))
        assert first["index"] == 0
        connection.close()
        response.close()
        # the next stream is one of this length, and by then the first has ended
        connection, response = call("POST", "/stream_sample", body(sampler, tokens=10))
        assert response.read().count(b"data: ") == 10
        connection.close()
        connection, response = call("GET", f"/sessions/{session_id}/trace_export")
        url = json.loads(response.read())["url"]
        connection.close()
        connection, response = call("GET", url.partition("/api/v1")[2])
        trace = response.read()
        connection.close()
        assert trace.count(b"tokens") == 2
        assert b"tokens\x20\xc8\x01" not in trace  # 200 of them
