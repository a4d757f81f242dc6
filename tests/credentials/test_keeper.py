"""The Keeper: exchange, renewal before expiry, one exchange for many, and what a refusal means."""

from __future__ import annotations

import base64
import itertools
import json
import pickle
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.config import Config
from tinker_actors.credentials import Keeper
from tinker_actors.credentials import keeper as keeper_module
from tinker_actors.credentials.keeper import lifetime_of
from tinker_actors.errors import APIStatusError, AuthenticationError, CredentialUnavailable, InternalServerError
from tinker_actors.testing.network import Message, open_network
from tinker_actors.types import Promise
from tinker_actors.wire.api import Api

KEY = "tml-planted-key"
INVALID = 'Bearer error="invalid_token"'


def jwt(number: int, lifetime: float | None = 3600.0) -> str:
    claims = {} if lifetime is None else {"iat": 1000.0, "exp": 1000.0 + lifetime}
    body = base64.urlsafe_b64encode(json.dumps(claims | {"n": number}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{body}.s"


class Server:
    """Issues a token for each exchange; other requests are promised under a known token and refused else."""

    def __init__(self, lifetime: float | None = 3600.0) -> None:
        self.lifetime = lifetime
        self.exchanges: list[str] = []
        self.tokens: list[str] = []
        self.seen: list[str] = []
        self.refused: set[str] = set()
        self.exchange_status = 200
        self.challenge = INVALID
        self.delay = 0.0

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        key = next(value.decode() for name, value in scope["headers"] if name == b"x-api-key")
        status, body = 200, {"request_id": "r"}
        if scope["path"].endswith("/auth/token"):
            self.exchanges.append(key)
            await trio.sleep(self.delay)
            status, body = self.exchange_status, {"detail": f"about {key}"}
            if status == 200:
                self.tokens.append(jwt(len(self.tokens), self.lifetime))
                body = {"jwt": self.tokens[-1]}
        else:
            self.seen.append(key)
            if key in self.refused:
                status, body = 401, {"detail": f"not with {key}"}
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", self.challenge.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@asynccontextmanager
async def runtime(server: Server, *, exchange: bool = True, **options: Any) -> AsyncGenerator[tuple[Api, Keeper]]:
    given = {"api_key": KEY} if not {"credential_cmd", "api_key"} & set(options) else {}
    config = Config.load(base_url="https://server", environ={}, **given, **options)
    async with open_network(server, random=random.Random(1), latency=(0.0, 0.0)) as network:
        transport = network.transport()
        keeper = Keeper(config, transport, random.Random(2))
        keeper.learn(exchange=exchange, source="api_key")
        yield Api(transport, config, keeper), keeper


async def submit(api: Api) -> Promise:
    return await api.call("/optim_step", Promise, {}, purpose="train", key="k")


async def test_without_an_exchange_the_key_is_sent(autojump_clock: trio.testing.MockClock):
    server = Server()
    async with runtime(server, exchange=False) as (api, _):
        await submit(api)
    assert (server.seen, server.exchanges) == ([KEY], [])


async def test_a_key_is_exchanged_once_and_the_token_renewed_about_half_way(autojump_clock: trio.testing.MockClock):
    server = Server(lifetime=3600.0)
    async with runtime(server) as (api, _):
        start = trio.current_time()
        renewed: list[float] = []
        while len(server.tokens) < 4:
            before = len(server.tokens)
            await submit(api)
            if len(server.tokens) > before:
                renewed.append(trio.current_time() - start)
            await trio.sleep(10.0)
    gaps = [later - sooner for sooner, later in itertools.pairwise(renewed)]
    assert all(0.45 * 3600 <= gap <= 0.55 * 3600 + 10.0 for gap in gaps), gaps
    assert set(server.exchanges) == {KEY}
    assert set(server.seen) == set(server.tokens)


async def test_many_that_need_a_token_share_one_exchange(autojump_clock: trio.testing.MockClock):
    server = Server()
    server.delay = 1.0
    async with runtime(server) as (api, _), trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(submit, api)
    assert len(server.exchanges) == 1
    assert server.seen == [server.tokens[0]] * 50


async def test_an_invalid_token_is_replaced_and_the_request_sent_once_more(autojump_clock: trio.testing.MockClock):
    server = Server()
    async with runtime(server) as (api, _):
        await submit(api)
        server.refused.add(server.tokens[0])
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(submit, api)
    first, second = server.tokens
    assert server.seen == [first, *[first] * 20, *[second] * 20]


@pytest.mark.parametrize("challenge", ["", "Bearer", 'Bearer error="insufficient_scope"'])
async def test_any_other_401_is_final(challenge: str, autojump_clock: trio.testing.MockClock):
    server = Server()
    server.challenge = challenge
    async with runtime(server) as (api, _):
        await submit(api)
        server.refused.add(server.tokens[0])
        with pytest.raises(AuthenticationError, match=r"not with \[hidden\]"):
            await submit(api)
    assert len(server.exchanges) == 1


async def test_a_failed_renewal_uses_the_token_while_it_lives_and_tries_again_each_minute(
    autojump_clock: trio.testing.MockClock,
):
    server = Server(lifetime=600.0)
    async with runtime(server) as (api, _):
        await submit(api)
        server.exchange_status = 503
        start = trio.current_time()
        with pytest.raises(InternalServerError):
            while True:
                await submit(api)
                await trio.sleep(1.0)
        assert trio.current_time() - start == pytest.approx(600.0, abs=2.0)
        failed = len(server.exchanges) - 1
        assert 4 <= failed <= 8
        server.exchange_status = 200
        await submit(api)
    assert server.seen[-1] == server.tokens[-1]


class Clocked(Server):
    """Issues tokens by a clock of its own and refuses those that have ended by it."""

    def __init__(self, ahead: float, rate: float) -> None:
        super().__init__()
        self.ahead = ahead
        self.rate = rate

    def now(self) -> float:
        return 1.0e9 + self.ahead + trio.current_time() * self.rate

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        key = next(value.decode() for name, value in scope["headers"] if name == b"x-api-key")
        status, body = 200, {"request_id": "r"}
        if scope["path"].endswith("/auth/token"):
            now = self.now()
            claims = base64.urlsafe_b64encode(json.dumps({"iat": now, "exp": now + 3600.0}).encode()).decode()
            self.tokens.append(f"eyJ.{claims.rstrip('=')}.{len(self.tokens)}")
            body = {"jwt": self.tokens[-1]}
        else:
            self.seen.append(key)
            middle = key.split(".")[1]
            if json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))["exp"] <= self.now():
                status = 401
                self.refused.add(key)
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", INVALID.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@pytest.mark.parametrize("ahead", [-3.0e8, -1800.0, 0.0, 1800.0, 3.0e8])
@pytest.mark.parametrize("rate", [0.5, 1.0, 1.5])
async def test_a_servers_clock_may_differ(ahead: float, rate: float, autojump_clock: trio.testing.MockClock):
    server = Clocked(ahead, rate)
    async with runtime(server) as (api, _):
        for _ in range(70):  # for five hours and fifty minutes
            await submit(api)
            await trio.sleep(300.0)
    assert server.refused == set()
    assert 10 <= len(server.tokens) <= 14


async def test_a_servers_clock_may_jump(autojump_clock: trio.testing.MockClock):
    server = Clocked(0.0, 1.0)
    async with runtime(server) as (api, _):
        await submit(api)
        server.ahead += 7200.0
        await submit(api)
        server.ahead -= 90000.0
        await submit(api)
    assert server.seen == [server.tokens[0], server.tokens[0], server.tokens[1], server.tokens[1]]


async def test_a_refused_exchange_is_told_at_once(autojump_clock: trio.testing.MockClock):
    server = Server(lifetime=600.0)
    async with runtime(server) as (api, _):
        await submit(api)
        server.exchange_status = 401
        await trio.sleep(400.0)
        with pytest.raises(AuthenticationError, match=r"about \[hidden\]"):
            await submit(api)


@pytest.mark.parametrize("lifetime", [None, 30.0])
async def test_tokens_that_tell_no_lifetime_or_a_short_one_are_renewed_in_time(
    lifetime: float | None, autojump_clock: trio.testing.MockClock
):
    server = Server(lifetime=lifetime)
    async with runtime(server) as (api, _):
        for _ in range(3):
            await submit(api)
            await trio.sleep(61.0)
    assert len(server.tokens) == 3


async def test_a_token_given_as_the_key_is_sent_as_it_is(autojump_clock: trio.testing.MockClock):
    server = Server()
    async with runtime(server, api_key="eyJ.given.x") as (api, _):
        await submit(api)
    assert (server.seen, server.exchanges) == (["eyJ.given.x"], [])


async def test_a_new_key_counts_from_the_next_request(autojump_clock: trio.testing.MockClock):
    server = Server()
    async with runtime(server) as (api, keeper):
        await submit(api)
        keeper.renew("tml-new")
        await submit(api)
    assert server.exchanges == [KEY, "tml-new"]
    assert server.seen == server.tokens


class Printer:
    """Stands for the credential command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *printed: str) -> None:
        self.runs = 0
        self.printed = printed
        monkeypatch.setattr(keeper_module, "run_command", self)

    async def __call__(self, command: Any) -> Any:
        await trio.sleep(1.0)
        self.runs += 1
        text = self.printed[min(self.runs, len(self.printed)) - 1]
        if not text:
            raise CredentialUnavailable("the credential command x ended with status 1")
        return keeper_module.Secret(text)


async def test_the_commands_output_is_used_until_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    server, printer = Server(), Printer(monkeypatch, "tml-1", "tml-2", "tml-2")
    async with runtime(server, exchange=False, credential_cmd="x") as (api, _):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(submit, api)
        assert printer.runs == 1
        server.refused.add("tml-1")
        await submit(api)
        assert printer.runs == 2
        server.refused.add("tml-2")
        with pytest.raises(AuthenticationError):
            await submit(api)
    assert server.seen == [*["tml-1"] * 6, "tml-2", "tml-2"]


async def test_the_command_is_run_for_each_exchange_and_its_failure_is_an_error_of_the_request(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    server, printer = Server(), Printer(monkeypatch, "tml-1", "tml-2", "")
    async with runtime(server, credential_cmd="x") as (api, keeper):
        await submit(api)
        await keeper.refused(await keeper.current(), INVALID)
        await submit(api)
        await keeper.refused(await keeper.current(), INVALID)
        with pytest.raises(CredentialUnavailable, match="status 1"):
            await submit(api)
    assert server.exchanges == ["tml-1", "tml-2"]
    assert printer.runs == 3


async def test_nothing_of_it_shows(autojump_clock: trio.testing.MockClock):
    server = Server()
    access = {"cf_access_client_id": "the-id", "cf_access_client_secret": "planted-access"}
    async with runtime(server, **access) as (api, keeper):
        await submit(api)
        credential = await keeper.current()
        assert dict(credential.headers)["cf-access-client-secret"] == "planted-access"
        shown = f"{keeper!r} {credential!r} {vars(keeper)!r}"
        assert not any(secret in shown for secret in ("planted", server.tokens[0]))
        assert api.redact(f"{KEY} {server.tokens[0]} planted-access") == "[hidden] [hidden] [hidden]"
        for value in (keeper, credential):
            with pytest.raises(TypeError):
                pickle.dumps(value)


async def test_a_server_that_answers_the_exchange_with_nonsense(autojump_clock: trio.testing.MockClock):
    server = Server()
    server.exchange_status = 404
    async with runtime(server) as (api, _):
        with pytest.raises(APIStatusError):
            await submit(api)
    assert server.seen == []


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: f"a.{base64.b64encode(raw).decode()}.c"))
def test_any_token_has_a_lifetime_or_none(token: str):
    found = lifetime_of(token)
    assert found is None or found > 0


def test_a_lifetime_is_from_issue_to_end():
    assert lifetime_of(jwt(1, 1234.0)) == 1234.0
    assert lifetime_of(jwt(1, -5.0)) is None
    assert lifetime_of(jwt(1, None)) is None
