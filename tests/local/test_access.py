"""Who may read a checkpoint: its owner, everybody while it is published, and who shows a key of its owner's."""

from functools import partial

import msgspec

from tests.local.harness import Caller, Stage, play
from tinker_actors.local.owners import Owners
from tinker_actors.local.settings import ServerSettings

WEIGHTS, SAMPLED = "tinker://{}/weights/kept", "tinker://{}/sampler_weights/kept"


async def saved(caller: Caller) -> str:
    """A model with both kinds of checkpoint."""
    model_id = await caller.model()
    await caller.train(model_id, 1)
    await caller.save(model_id, 5, "kept")
    await caller.save_sampler(model_id, 6, path="kept")
    return model_id


async def publish(stage: Stage, path: str, public: bool) -> None:
    catalog = stage.service.catalog
    record = catalog.find(stage.owner, path)
    assert record is not None
    amended = msgspec.structs.replace(record, public=public)
    catalog._storage.amend(amended)  # pyright: ignore[reportPrivateUsage]
    catalog._checkpoints[path] = amended  # pyright: ignore[reportPrivateUsage]


async def load(caller: Caller, path: str, **more: object) -> str:
    """A new model with these weights, and "404" if they are refused."""
    body = {"session_id": await caller.session(), "model_seq_id": 0, "path": path, "optimizer": True, **more}
    answer = await caller.post("/load_weights", body)
    if answer.status == 404:
        assert "there is no checkpoint" in answer.detail
        return "404"
    model_id = (await caller.result(answer.ok["request_id"]))["model_id"]
    return await caller.digest(model_id)


async def load_into(caller: Caller, path: str, **more: object) -> str:
    """The same into a model of its own, and the operation's error if it fails."""
    model_id = await caller.model()
    body = {"model_id": model_id, "seq_id": 1, "path": path, "optimizer": True, **more}
    result = await caller.result((await caller.post("/load_weights", body)).ok["request_id"])
    return result["error"] if "error" in result else await caller.digest(model_id)


def test_what_is_published_is_read_by_everybody_until_it_no_longer_is() -> None:
    async def scenario(stage: Stage) -> None:
        model_id = await saved(stage.caller)
        digest = await stage.caller.digest(model_id)
        weights, sampled = WEIGHTS.format(model_id), SAMPLED.format(model_id)
        other = stage.other()
        assert await load(other, weights) == "404"
        for path in (weights, sampled):
            await publish(stage, path, public=True)
        assert await load(other, weights) == digest
        assert await load_into(other, weights) == digest
        assert (await other.post("/weights_info", {"tinker_path": weights})).ok["lora_rank"] == 2
        sampler = await other.sampler(await other.session(), model_path=sampled)
        mine = await stage.caller.sampler(await stage.caller.session(), model_path=sampled)
        assert (await other.sample(sampler))["sequences"] == (await stage.caller.sample(mine))["sequences"]
        # its run, its model and what else is its owner's are still not there
        assert (await other.post("/get_info", {"model_id": model_id})).status == 404
        assert (await other.get(f"/training_runs/{model_id}/checkpoints")).status == 404
        for path in (weights, sampled):
            await publish(stage, path, public=False)
        assert await load(other, weights) == "404"
        assert "there is no checkpoint" in await load_into(other, weights)
        assert (await other.post("/weights_info", {"tinker_path": weights})).status == 404

    play(scenario)


def test_a_sampler_reads_its_checkpoint_only_while_it_may() -> None:
    async def scenario(stage: Stage) -> None:
        path = SAMPLED.format(await saved(stage.caller))
        other = stage.other()
        await publish(stage, path, public=True)
        session_id = await other.session()
        read, unread = [await other.sampler(session_id, number, model_path=path) for number in (0, 1)]
        await other.sample(read)
        await publish(stage, path, public=False)
        assert "there is no checkpoint" in (await other.sample(unread))["error"]
        # as with a deleted one: who has read it goes on
        assert "sequences" in await other.sample(read, 1)

    play(scenario)


def test_a_key_of_the_owner_gives_access() -> None:
    async def scenario(stage: Stage) -> None:
        model_id = await saved(stage.caller)
        digest, path = await stage.caller.digest(model_id), WEIGHTS.format(model_id)
        for way in (load, load_into):
            read = partial(way, stage.other(), path)
            assert await read(weights_access_token="tml-test") == digest
            for token in ("tml-third", "tml-", "what", ""):
                assert "404" in (said := await read(weights_access_token=token)) or "there is no checkpoint" in said
        # access is to the weights named, in this request
        assert await load(stage.other(), path) == "404"

    play(scenario)


def test_a_token_that_the_server_does_not_know_is_nobodys() -> None:
    owners = Owners(ServerSettings(owners={"lab": ("tml-a", "tml-b")}))
    assert owners.of_token("tml-b") == owners.of_token("tml-a") == "lab"
    assert owners.of_token("tml-c") is None
    assert owners.of_token(None) is None


def test_listings_of_what_is_accessible() -> None:
    async def scenario(stage: Stage) -> None:
        first, second = await saved(stage.caller), await saved(stage.caller)
        catalog, other = stage.service.catalog, stage.service.owners.identify("tml-other")
        assert catalog.accessible_runs(other) == catalog.accessible_checkpoints(other) == ()
        await publish(stage, WEIGHTS.format(first), public=True)
        assert [record.run_id for record in catalog.accessible_runs(other)] == [first]
        assert [record.path for record in catalog.accessible_checkpoints(other)] == [WEIGHTS.format(first)]
        # to be changed by its owner only
        assert catalog.find(other, WEIGHTS.format(first)) is None
        assert catalog.runs(other) == catalog.checkpoints(other) == ()
        assert [record.run_id for record in catalog.accessible_runs(stage.owner)] == [first, second]
        assert len(catalog.accessible_checkpoints(stage.owner)) == 4

    play(scenario)
