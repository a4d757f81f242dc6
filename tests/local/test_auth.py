from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from supervision.testing import run_seeded
from tests.local.harness import TINY, Answer, Caller, Stage, open_stage, play
from tinker_actors.local.settings import ServerSettings


def caller(stage: Stage, key: str | None) -> Caller:
    return Caller(stage.network.transport(), key=key)


def claims(token: str) -> dict[str, Any]:
    content = token.split(".")[1]
    return msgspec.json.decode(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))


def refused(answer: Answer) -> str:
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    return answer.detail


def test_a_token_is_as_good_as_its_key_for_a_while() -> None:
    async def scenario(stage: Stage) -> None:
        mine = stage.caller
        assert (await mine.post("/client/config", {})).ok["pjwt_auth_enabled"] is True
        model_id = await mine.model()
        token = (await mine.post("/auth/token", {})).ok["jwt"]
        said = claims(token)
        assert said["exp"] - said["iat"] == 100
        assert said["sub"] == (await mine.get("/auth/apikey/me")).ok["name"]
        with_token = caller(stage, token)
        await with_token.train(model_id, 1)
        assert (await with_token.get("/training_runs")).ok == (await mine.get("/training_runs")).ok
        bearer = await caller(stage, None).send(
            "POST", "/get_info", {"model_id": model_id}, headers={"authorization": f"Bearer {token}"}
        )
        assert bearer.status == 200
        other = (await caller(stage, "tml-other").post("/auth/token", {})).ok["jwt"]
        assert (await caller(stage, other).post("/get_info", {"model_id": model_id})).status == 404
        await trio.sleep(101.0)
        assert "has expired" in refused(await with_token.get("/training_runs"))
        await mine.train(model_id, 5)
        assert (
            await caller(stage, (await mine.post("/auth/token", {})).ok["jwt"]).get("/training_runs")
        ).status == 200

    play(scenario, pjwt_auth_enabled=True, jwt_lifetime=100.0)


def test_tokens_that_were_not_given_here() -> None:
    async def scenario(stage: Stage) -> str:
        token = (await stage.caller.post("/auth/token", {})).ok["jwt"]
        head, content, proof = token.split(".")
        said = claims(token) | {"sub": "somebody", "exp": claims(token)["exp"] + 1}
        forged = base64.urlsafe_b64encode(msgspec.json.encode(said)).rstrip(b"=").decode()
        nothing = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
        for wrong in (
            f"{head}.{forged}.{proof}",
            f"{nothing}.{forged}.",
            f"{head}.{content}.{proof}x",
            "eyJ",
            "eyJ...",
        ):
            assert "was not given by this server" in refused(await caller(stage, wrong).get("/training_runs"))
        for path in ("/auth/token", "/auth/apikey/me"):
            answer = await caller(stage, token).send("POST" if path == "/auth/token" else "GET", path)
            assert (answer.status, answer.detail) == (400, "X-API-Key: is a token. Present the API key itself")
        return token

    token = play(scenario, seed=1)

    async def restarted(stage: Stage) -> None:
        refused(await caller(stage, token).get("/training_runs"))

    play(restarted, seed=2)


def test_keys_are_described_and_revoked() -> None:
    async def scenario(stage: Stage) -> None:
        mine, other = caller(stage, "tml-mine"), caller(stage, "tml-other")
        described = (await mine.get("/auth/apikey/me")).ok
        assert (described["name"], described["note"]) == ("me", "")
        assert described["details"] == {"org_details": {"name": "local"}, "user_details": {"email": "me@localhost"}}
        assert described["key_id"] != (await caller(stage, "tml-mine2").get("/auth/apikey/me")).ok["key_id"]
        assert (await mine.get("/auth/apikey/me")).ok == described
        token = (await mine.post("/auth/token", {})).ok["jwt"]
        model_id = await mine.model()
        assert (await mine.send("DELETE", "/auth/apikey/me")).status == 204
        for method, path in (("GET", "/auth/apikey/me"), ("DELETE", "/auth/apikey/me"), ("POST", "/auth/token")):
            answer = await mine.send(method, path)
            assert (answer.status, answer.detail) == (401, "the API key has been revoked. Use another")
        assert "has been revoked" in refused(await caller(stage, token).get("/training_runs"))
        # the owner's other key is still good, and so are the others'
        await caller(stage, "tml-mine2").train(model_id, 1)
        assert (await other.get("/auth/apikey/me")).status == 200
        body = {"tinker_path": f"tinker://{model_id}/weights/a"}
        await caller(stage, "tml-mine2").save(model_id, 5, "a")
        assert (await other.post("/weights_info", body)).status == 404

    play(scenario, owners={"me": ("tml-mine", "tml-mine2"), "other": ("tml-other",)})


@pytest.mark.parametrize("keys", [None, ("tml-test", "tml-two")])
def test_a_revoked_key_stays_so(tmp_path: Path, keys: tuple[str, ...] | None) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path, api_keys=keys)

    async def run() -> None:
        async with open_stage(settings, seed=0) as stage:
            assert (await stage.caller.send("DELETE", "/auth/apikey/me")).status == 204
        async with open_stage(settings, seed=1) as stage:
            assert "revoked" in (await stage.caller.get("/auth/apikey/me")).detail
            assert (await caller(stage, "tml-two").get("/auth/apikey/me")).status == 200

    run_seeded(run, seed=0)
