"""One owner never sees what is another's: by id it is as if it never was."""

import random
from pathlib import Path

import pytest
import trio
from starlette.routing import compile_path

from supervision.testing import run_seeded
from tests.local import test_custom_losses as custom_losses
from tests.local.harness import TINY, Caller, Stage, create_body, open_stage, play, sample_body
from tinker_actors.errors import InvalidInput
from tinker_actors.local.endpoints.table import ENDPOINTS
from tinker_actors.local.settings import ServerSettings


async def everything(caller: Caller) -> dict[str, str]:
    """One of each that a server can hold, with ids as they stand in requests."""
    session_id = await caller.session()
    model_id = await caller.start_model(session_id)
    await caller.train(model_id, 1)
    await caller.save(model_id, 5, "kept")
    await caller.save_sampler(model_id, 6, path="kept")
    external = {"model_id": model_id, "seq_id": 7, "path": "kept"}
    await caller.result((await caller.post("/save_weights_external", external)).ok["request_id"])
    sampler = await caller.sampler(session_id, 0)
    request_id = (await caller.post("/asample", sample_body(sampler))).ok["request_id"]
    await caller.result(request_id)
    return {"session": session_id, "model": model_id, "sampler": sampler, "request": request_id}


NEVER = {
    "session": "sess-0000000000000000",
    "model": "sess-0000000000000000:train:0",
    "sampler": "sess-0000000000000000:sample:0",
    "request": "req-00000000-00000000-1",
}


async def asked(caller: Caller, own: str, ids: dict[str, str]) -> dict[str, tuple[int, str]]:
    """What each endpoint answers that is given ``ids``; ``own`` is the asker's session."""
    model, session, sampler = ids["model"], ids["session"], ids["sampler"]
    weights, sampled = f"tinker://{model}/weights/kept", f"tinker://{model}/sampler_weights/kept"
    numbered = {"model_id": model, "seq_id": 8}
    load = {"session_id": own, "model_seq_id": 0, "path": weights, "optimizer": True}
    making = {"session_id": own, "sampling_session_seq_id": 0}
    run = f"GET /training_runs/{model}"
    checkpoint = f"/training_runs/{model}/checkpoints/weights/kept"
    target = {"type": "sampling_session", "sampling_session_id": sampler, "cloned_sampler_id": 0}
    streamed = sample_body(sampler, 9) | {"prompt_logprobs": False}
    datum_json = {
        "model_input": {"chunks": [{"type": "encoded_text", "tokens": [3, 4]}]},
        "loss_fn_inputs": {"target_tokens": {"data": [4, 5], "dtype": "int64"}},
    }
    forward = numbered | {"forward_input": {"data": [datum_json], "loss_fn": "cross_entropy"}}
    requests: list[tuple[str, object]] = [
        ("POST /session_heartbeat", {"session_id": session}),
        ("POST /create_model", create_body(session, 0)),
        ("POST /create_model", create_body(session, 1)),
        ("POST /create_custom_loss", custom_losses.body(session, custom_losses.weighted())),
        ("POST /get_info", {"model_id": model}),
        ("POST /forward", forward),
        ("POST /optim_step", numbered | {"adam_params": {"learning_rate": 0.1}}),
        ("POST /save_weights", numbered | {"path": "mine"}),
        ("POST /save_weights_for_sampler", numbered | {"path": "mine"}),
        ("POST /save_weights_external", numbered | {"path": "mine"}),
        ("POST /copy_weights", {"source_path": weights, "destination_project_id": "p"}),
        ("POST /load_weights", numbered | {"path": weights, "optimizer": True}),
        ("POST /load_weights", load),
        ("POST /weights_info", {"tinker_path": weights}),
        (run, None),
        (f"{run}?access_scope=accessible", None),
        (f"{run}/checkpoints", None),
        (f"GET /models/{model}/checkpoints", None),
        (f"POST {checkpoint}/publish", None),
        (f"DELETE {checkpoint}/publish", None),
        (f"PUT {checkpoint}/ttl", {"ttl_seconds": 5000}),
        (f"GET {checkpoint}/archive", None),
        (f"GET /training_runs/{model}/checkpoints/external_weights/kept/external_weights_urls", None),
        (f"DELETE {checkpoint}", None),
        (f"GET /sessions/{session}", None),
        (f"GET /sessions/{session}?access_scope=accessible", None),
        (f"PUT /sessions/{session}/project", {"project_id": "p"}),
        (f"GET /sessions/{session}/trace_export", None),
        ("POST /create_sampling_session", making | {"session_id": session, "base_model": TINY}),
        ("POST /create_sampling_session", making | {"model_path": sampled}),
        ("POST /join_sampling_session", {"sampling_session_id": sampler}),
        ("POST /asample", sample_body(sampler, 0)),
        ("POST /asample", sample_body(sampler, 8)),
        ("POST /stream_sample", streamed),
        (f"GET /samplers/{sampler}", None),
        ("POST /retrieve_future", {"request_id": ids["request"], "allow_metadata_only": False}),
        ("POST /retrieve_futures", {"target": target, "prev_cursor": 0, "timeout": 0, "retrieved_request_ids": []}),
        ("POST /cancel_future", {"request_id": ids["request"]}),
        (f"GET /local/applied/{model}", None),
        (f"GET /local/digest/{model}", None),
        ("POST /unload_model", {"model_id": model}),
        (f"POST /sessions/{session}/finish", {"reason": {"type": "success"}, "detail": None}),
    ]
    answers = {"POST /forward_backward": await caller.forward_backward(model, 8)}
    answers["POST /forward_backward again"] = await caller.forward_backward(model, 1)
    for number, (name, body) in enumerate(requests):
        method, _, path = name.partition(" ")
        answers[f"{method} {path} {number}"] = await caller.send(method, path, body)
    texts: dict[str, tuple[int, str]] = {}
    for name, answer in answers.items():
        text = answer.detail if answer.status >= 400 else answer.content.decode("utf-8", "replace")
        shown = name
        for kind in sorted(ids):
            text, shown = text.replace(ids[kind], kind), shown.replace(ids[kind], kind)
        texts[shown] = (answer.status, text)
    return texts


OF_NOBODY = {  # what names nothing that anybody owns: lists are of one's own, see below
    "GET /healthz",
    "POST /client/config",
    "POST /client/dynamic_config",
    "POST /auth/token",
    "GET /auth/apikey/me",
    "DELETE /auth/apikey/me",
    "GET /get_server_capabilities",
    "POST /telemetry",
    "POST /create_session",
    "GET /training_runs",
    "GET /checkpoints",
    "GET /sessions",
    "POST /sessions/search",
    "GET /audit",
    "GET /billing/usage/events",
    "GET /billing/usage/checkpoints/current",
    "GET /local/queue",
    "GET /openapi.json",
    "GET /local/trace/{session_id}.pftrace",  # these two by signatures
    "GET /local/download/{run_id}/{checkpoint_id:path}/{file}",
}


def test_every_endpoint_is_asked_for_what_is_anothers() -> None:
    async def scenario(stage: Stage) -> None:
        names = await asked(stage.caller, await stage.caller.session(), NEVER)
        left = {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
        for name in names:
            method, path = name.split(" ")[:2]
            path = path.partition("?")[0]
            found = [
                (endpoint.method, endpoint.path)
                for endpoint in ENDPOINTS
                if endpoint.method == method and compile_path(endpoint.path)[0].fullmatch(path)
            ]
            left.discard(found[0])  # the first that fits serves it
        assert {f"{method} {path}" for method, path in left} <= OF_NOBODY

    play(scenario)


async def lists(caller: Caller) -> str:
    """All that listings tell, in one text."""
    day = "starting_on=2000-01-01T00:00:00Z&ending_before=2000-01-02T00:00:00Z"
    texts: list[str] = []
    for path in (
        "/training_runs",
        "/training_runs?access_scope=accessible",
        "/checkpoints",
        "/sessions",
        "/sessions?access_scope=accessible",
        "/audit?event_type=all",
        f"/billing/usage/events?{day}",
        "/billing/usage/checkpoints/current",
        "/local/queue",
    ):
        answer = await caller.get(path)
        assert answer.status == 200, (path, answer.content)
        texts.append(answer.content.decode())
    for owner in ({"type": "own"}, {"type": "accessible"}):
        body = {"user_metadata": {}, "owner": owner, "limit": 50}
        texts.append(str((await caller.post("/sessions/search", body)).ok))
    return "\n".join(texts)


def test_no_list_holds_what_is_anothers() -> None:
    async def scenario(stage: Stage) -> None:
        theirs = await everything(stage.caller)
        other = stage.other()
        mine = await everything(other)
        told = await lists(other)
        assert theirs["session"] not in told
        assert mine["session"] in told
        assert mine["model"] in told
        # what is published is in the list of what is accessible, and in no other
        await stage.caller.send("POST", f"/training_runs/{theirs['model']}/checkpoints/weights/kept/publish")
        told = await lists(other)
        accessible = (await other.get("/training_runs?access_scope=accessible")).content.decode()
        assert theirs["model"] in accessible
        assert theirs["session"] not in told.replace(accessible, "")

    play(scenario)


def test_what_is_anothers_is_as_if_it_never_was() -> None:
    async def scenario(stage: Stage) -> None:
        theirs = await everything(stage.caller)
        digest = await stage.caller.digest(theirs["model"])
        applied = await stage.caller.applied(theirs["model"])
        other = stage.other()
        own = await other.session()
        answers = await asked(other, own, theirs)
        assert {name: status for name, (status, _) in answers.items()} == dict.fromkeys(answers, 404)
        assert answers == await asked(other, own, NEVER)
        # and nothing happened to it
        assert await stage.caller.digest(theirs["model"]) == digest
        assert await stage.caller.applied(theirs["model"]) == applied
        answers = await asked(stage.caller, await stage.caller.session(), theirs)
        assert {name for name, (status, _) in answers.items() if status == 404} == set()

    play(scenario)


def test_what_is_anothers_is_as_if_it_never_was_after_its_time_and_after_a_restart(tmp_path: Path) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path, session_expiry=100.0, result_retention=100.0)

    async def before() -> dict[str, str]:
        async with open_stage(settings, seed=1) as stage:
            theirs = await everything(stage.caller)
            await trio.sleep(101.0)
            other = stage.other()
            assert (await stage.caller.poll(theirs["request"])).status == 410
            own = await other.session()
            assert await asked(other, own, theirs) == await asked(other, own, NEVER)
            return theirs

    async def after(theirs: dict[str, str]) -> None:
        async with open_stage(settings, seed=2) as stage:
            assert (await stage.caller.poll(theirs["request"])).status == 410
            assert (await stage.caller.post("/session_heartbeat", {"session_id": theirs["session"]})).status == 410
            assert (await stage.caller.post("/get_info", {"model_id": theirs["model"]})).status == 410
            listed = (await stage.caller.get(f"/training_runs/{theirs['model']}/checkpoints")).ok["checkpoints"]
            assert len(listed) == 3
            other = stage.other()
            own = await other.session()
            assert await asked(other, own, theirs) == await asked(other, own, NEVER)

    theirs = run_seeded(before, seed=1)
    run_seeded(lambda: after(theirs), seed=2)


def test_promises_are_counted_for_each_owner() -> None:
    # the number in an id tells nobody how much others do
    async def scenario(stage: Stage) -> None:
        await everything(stage.caller)
        other = stage.other()
        first = (await other.post("/create_model", create_body(await other.session()))).ok["request_id"]
        assert first.endswith("-1")

    play(scenario)


def test_a_queue_shows_what_is_ones_own() -> None:
    async def scenario(stage: Stage) -> None:
        other = stage.other()
        mine, theirs = await stage.caller.model(), await other.model()
        assert [model["model_id"] for model in (await stage.caller.get("/local/queue")).ok["models"]] == [mine]
        assert [model["model_id"] for model in (await other.get("/local/queue")).ok["models"]] == [theirs]
        sampler = await other.sampler(theirs.partition(":train:")[0])
        with trio.CancelScope(shield=True):
            for number in range(30):
                await other.post("/asample", sample_body(sampler, number) | {"num_samples": 64})
        assert (await stage.caller.get("/local/queue")).ok["samples_queued"] == 0
        assert (await other.get("/local/queue")).ok["samples_queued"] > 0

    play(scenario)


def test_nothing_is_reported_in_anothers_name() -> None:
    async def scenario(stage: Stage) -> None:
        session_id = await stage.caller.session()
        for caller, event_id in ((stage.other(), "0"), (stage.caller, "1")):
            body = {"session_id": session_id, "events": [{"event_id": event_id, "event": "GENERIC_EVENT"}]}
            assert (await caller.post("/telemetry", body)).ok == {"status": "accepted"}
        assert [event.event_id for event in stage.service.reports.of(session_id)] == ["1"]

    play(scenario)


def test_keys_of_one_name_are_one_owner() -> None:
    async def scenario(stage: Stage) -> None:
        laptop, cluster, other = (Caller(stage.network.transport(), key=key) for key in ("tml-a", "tml-b", "tml-c"))
        model_id = await laptop.model()
        await cluster.train(model_id, 1)
        assert await cluster.digest(model_id) == await laptop.digest(model_id)
        assert (await other.get(f"/local/digest/{model_id}")).status == 404
        assert (await stage.other("tml-d").get(f"/local/digest/{model_id}")).status == 401

    play(scenario, owners={"lab": ("tml-a", "tml-b")}, api_keys=("tml-c",))


def test_owners_that_can_not_be() -> None:
    for owners, words in (
        ({"": ("tml-a",)}, "owner's name"),
        ({"key-a": ("tml-a",)}, "owner's name"),
        ({"nobody": ("tml-a",)}, "owner's name"),
        ({"a b": ("tml-a",)}, "owner's name"),
        ({"a": ()}, "no key"),
        ({"a": ("",)}, "no key"),
        ({"a": ("tml-x",), "b": ("tml-x",)}, "one owner"),
        ({"a": ("tml-known",)}, "one owner"),
    ):
        with pytest.raises(InvalidInput, match=words):
            ServerSettings(owners=owners, api_keys=("tml-known",))
    shown = repr(ServerSettings(owners={"lab": ("tml-planted",)}))
    assert "planted" not in shown
    assert "lab" in shown


def test_no_key_is_kept(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_stage(ServerSettings(base_model=TINY, directory=tmp_path)) as stage:
            await everything(stage.other("tml-planted-secret"))

    run_seeded(run, seed=0)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 2
    assert [path for path in files if b"planted" in path.read_bytes()] == []


def test_random_owners_end_as_if_each_had_the_server_alone() -> None:
    async def work(caller: Caller, seed: int) -> str:
        model_id = await caller.model()
        for step in range(3):
            await trio.sleep(random.Random(seed * 10 + step).random())
            await caller.train(model_id, 2 * step + 1, 1)
        return await caller.digest(model_id)

    async def alone(stage: Stage) -> str:
        return await work(stage.caller, 0)

    async def together(stage: Stage) -> set[str]:
        digests: set[str] = set()

        async def one(seed: int) -> None:
            digests.add(await work(stage.other(f"tml-{seed}"), seed))

        async with trio.open_nursery() as nursery:
            for seed in range(4):
                nursery.start_soon(one, seed)
        return digests

    assert play(together) == {play(alone)}
