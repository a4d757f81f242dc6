"""Headers that nobody may see, and what a server says in its own."""

from __future__ import annotations

import logging

import pytest

from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors import errors
from tinker_actors.types import Promise
from tinker_actors.wire.api import Api
from tinker_actors.wire.headers import merged, on_behalf_of, redacted, without_secrets

PROMISE = Answer({"request_id": "r-1"})


async def ask(api: Api) -> Promise:
    return await api.call("/x", Promise, {}, purpose="train")


def test_secret_headers_are_hidden_and_others_are_not():
    secret = (
        "X-API-Key",
        "authorization",
        "Proxy-Authorization",
        "Cookie",
        "CF-Access-Client-Id",
        "CF-Access-Client-Secret",
        "x-tinker-weights-access-token",
        "x-my-token",
        "X-Db-Password",
    )
    shown = redacted([(name, KEY) for name in secret])
    assert [name for name, _ in shown] == list(secret)
    assert KEY not in str(shown)
    plain = (("x-idempotency-key", "k"), ("accept", "a"), ("x-sdk-method", "m"))
    assert redacted(plain) == plain


def test_another_host_gets_nothing_of_the_callers():
    assert without_secrets((("accept", "a"), ("x-api-key", KEY), ("x-team", "t"), ("User-Agent", "u"))) == (
        ("accept", "a"),
        ("User-Agent", "u"),
    )


def test_of_one_name_the_last_header_counts():
    assert merged([("Accept", "a"), ("b", "1")], [("ACCEPT", "z")]) == (("accept", "z"), ("b", "1"))
    assert dict(on_behalf_of("TrainingClient.optim_step"))["x-sdk-method"] == "TrainingClient.optim_step"


async def test_debug_logs_name_the_headers_but_no_secret(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "tinker_actors")
    hidden = {"cf-access-client-secret": "planted-cf", "x-team": f"a-{KEY}"}
    async with scripted(PROMISE, default_headers=hidden) as (api, _):
        await ask(api)
    assert "x-api-key: [hidden]" in caplog.text
    assert "-> 200" in caplog.text
    assert KEY not in caplog.text
    assert "planted-cf" not in caplog.text


async def test_header_dumps_are_at_level_info_and_only_where_asked_for(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "tinker_actors")
    for dump in (False, True):
        caplog.clear()
        async with scripted(PROMISE, dump_headers=dump) as (api, _):
            await ask(api)
        assert ("x-api-key: [hidden]" in caplog.text) is dump
        assert KEY not in caplog.text


async def test_a_deprecation_is_told_once_at_its_level(caplog: pytest.LogCaptureFixture):
    note = {"x-deprecation-note": f"update by  May {KEY}"}
    answers = [Answer({"request_id": "r"}, headers=note)] * 2
    answers.append(
        Answer({"request_id": "r"}, headers=note | {"x-deprecation-note": "now", "x-deprecation-level": "error"})
    )
    async with scripted(*answers) as (api, _):
        for _ in range(4):
            await ask(api)
    told = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert told == [
        (logging.WARNING, "the server says: update by May [hidden]"),
        (logging.ERROR, "the server says: now"),
    ]


@pytest.mark.parametrize(("said", "heard"), [("true", True), ("FALSE ", False), ("maybe", None), (None, None)])
async def test_a_server_may_say_whether_to_ask_again(said: str | None, heard: bool | None):
    headers = {} if said is None else {"x-should-retry": said}
    async with scripted(Answer({"detail": "no"}, 500, headers)) as (api, _):
        with pytest.raises(errors.InternalServerError) as caught:
            await ask(api)
    assert caught.value.should_retry is heard


@pytest.mark.parametrize("headers", [{}, {"content-length": "0"}])
async def test_a_proxys_400_is_a_lost_connection_until_it_lasts(headers: dict[str, str]):
    refused = Answer(b"", 400, headers)
    async with scripted(*[refused] * 15, PROMISE, refused) as (api, _):
        for _ in range(15):
            with pytest.raises(errors.APIConnectionError):
                await ask(api)
        await ask(api)  # gives one back: two are left
        for _ in range(2):
            with pytest.raises(errors.APIConnectionError):
                await ask(api)
        with pytest.raises(errors.BadRequestError):
            await ask(api)
        # other pools have their own count
        with pytest.raises(errors.APIConnectionError):
            await api.call("/x", Promise, {}, purpose="rest")


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"detail": "wrong"}, 400),
        Answer(b"bad request", 400, {"content-length": "11"}),
    ],
)
async def test_a_400_with_a_reason_is_the_servers(answer: Answer):
    async with scripted(answer) as (api, _):
        with pytest.raises(errors.BadRequestError):
            await ask(api)
