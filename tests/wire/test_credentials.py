"""The Credentials port: what the wire asks of it, and what it does when the server refuses."""

from __future__ import annotations

import pickle

import pytest

from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors.errors import AuthenticationError
from tinker_actors.ports import Credential, Credentials, FixedCredentials
from tinker_actors.types import Promise
from tinker_actors.wire.api import Api

PROMISE = Answer({"request_id": "r-1"})


async def submit(api: Api) -> Promise:
    return await api.call("/optim_step", Promise, {"a": 1}, purpose="train", key="key-1")


class Exchanged(Credentials):
    """Gives another token after each refusal that names the token as invalid."""

    def __init__(self) -> None:
        self.given = 0

    async def current(self) -> Credential:
        token = f"eyJ-token-{self.given}"
        return Credential((("x-api-key", token),), (token,))

    async def refused(self, credential: Credential, challenge: str) -> bool:
        self.given += "invalid_token" in challenge
        return "invalid_token" in challenge

    def learn(self, *, exchange: bool, source: str) -> None: ...

    def renew(self, key: str) -> None: ...


INVALID = Answer({"detail": "no, eyJ-token-0"}, 401, {"www-authenticate": 'Bearer error="invalid_token"'})


async def test_a_request_refused_with_401_is_sent_once_more_with_another_credential():
    async with scripted(INVALID, PROMISE, credentials=Exchanged()) as (api, script):
        assert (await submit(api)).request_id == "r-1"
    first, second = script.asked
    assert (first.headers.pop("x-api-key"), second.headers.pop("x-api-key")) == ("eyJ-token-0", "eyJ-token-1")
    assert (first.headers, first.body, first.path) == (second.headers, second.body, second.path)


@pytest.mark.parametrize(("answer", "asked"), [(INVALID, 2), (Answer({"detail": "no, eyJ-token-0"}, 401), 1)])
async def test_a_second_401_and_one_that_no_other_credential_mends_are_final(answer: Answer, asked: int):
    async with scripted(answer, credentials=Exchanged()) as (api, script):
        with pytest.raises(AuthenticationError, match=r"no, \[hidden\]"):
            await submit(api)
    assert len(script.asked) == asked


async def test_a_fixed_key_and_what_goes_with_it_are_sent_and_never_shown():
    extra = (("cf-access-client-id", "the-id"), ("cf-access-client-secret", "the-secret"))
    fixed = FixedCredentials(KEY, extra)
    async with scripted(PROMISE, credentials=fixed) as (api, script):
        await submit(api)
        assert api.redact(f"{KEY} the-secret") == "[hidden] [hidden]"
    sent = script.asked[0].headers
    assert [sent[name] for name in ("x-api-key", "cf-access-client-id", "cf-access-client-secret")] == [
        KEY,
        "the-id",
        "the-secret",
    ]
    credential = await fixed.current()
    assert KEY not in repr(fixed) + repr(credential)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(credential)


async def test_a_key_given_while_a_request_was_refused_is_tried_at_once():
    fixed = FixedCredentials(KEY)
    refused = await fixed.current()
    assert not await fixed.refused(refused, "")
    fixed.renew("tml-the-next")
    assert await fixed.refused(refused, "")
    assert (await fixed.current()).headers == (("x-api-key", "tml-the-next"),)
