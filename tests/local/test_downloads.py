from __future__ import annotations

import base64
import gzip
import io
import tarfile
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy
import trio

from tests.local.harness import TINY, Answer, Caller, Stage, play
from tinker_actors.local.clock import trio_now


async def save_external(caller: Caller, model_id: str, seq_id: int, name: str, **more: Any) -> Any:
    body = {"model_id": model_id, "seq_id": seq_id, "path": name, **more}
    return await caller.result((await caller.post("/save_weights_external", body)).ok["request_id"])


async def fetch(stage: Stage, url: str, **headers: str) -> Answer:
    """Without a key, as a download is made."""
    start, _, path = url.partition("/api/v1")
    assert start == "http://server"
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await Caller(stage.network.transport(), key=None).send("GET", path, headers=given)


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def test_external_weights_are_files_that_peft_reads() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id, rank=4)
        await caller.train(model_id, 1)
        saved = await save_external(caller, model_id, 5, "out", ttl_seconds=7200)
        assert saved["path"] == f"tinker://{model_id}/external_weights/out"
        state = (await caller.save(model_id, 6, "same"))["path"]
        place = f"/training_runs/{model_id}/checkpoints"
        (external, _) = (await caller.get(place)).ok["checkpoints"]
        assert (external["checkpoint_id"], external["checkpoint_type"]) == ("external_weights/out", "external")
        assert external["size_bytes"] == saved["size_bytes"]

        answer = (await caller.get(f"{place}/external_weights/out/external_weights_urls")).ok
        assert set(answer["urls"]) == {"adapter_model.safetensors", "adapter_config.json"}
        files = {name: (await fetch(stage, url)).content for name, url in answer["urls"].items()}
        assert len(files["adapter_model.safetensors"]) == saved["size_bytes"]
        config = msgspec.json.decode(files["adapter_config.json"])
        assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 32.0)
        assert config["base_model_name_or_path"] == TINY
        assert config["target_modules"][-1] == "lm_head"

        # W + (alpha / r) B A is what the trained model computes with
        archived = await caller.get(f"{place}/weights/same/archive")
        packed = members((await fetch(stage, archived.headers["location"])).content)
        assert packed["adapter_model.safetensors"] == files["adapter_model.safetensors"]
        assert packed["adapter_config.json"] == files["adapter_config.json"]
        ours = safetensors.numpy.load(packed["checkpoint.safetensors"])
        theirs = safetensors.numpy.load(files["adapter_model.safetensors"])
        assert len(theirs) == sum(not name.startswith("adam") for name in ours) > 4
        for name, array in theirs.items():
            short = name.removeprefix("base_model.model.").removesuffix(".weight")
            assert np.array_equal(ours[short], array)
        assert any(array.any() for name, array in theirs.items() if "lora_B" in name)

        for path, field in ((saved["path"], "path"), (saved["path"], "model_path")):
            body: dict[str, Any] = {field: path, "session_id": session_id}
            body |= (
                {"sampling_session_seq_id": 0} if field == "model_path" else {"model_seq_id": 1, "optimizer": False}
            )
            where = "/create_sampling_session" if field == "model_path" else "/load_weights"
            assert (await caller.post(where, body)).status == 400
        assert (await caller.post("/weights_info", {"tinker_path": saved["path"]})).ok["lora_rank"] == 4
        answer = await caller.get(f"{place}/weights/same/external_weights_urls")
        assert (answer.status, answer.detail.partition(" ")[2]) == (
            400,
            f"{state} holds no external weights. Use save_weights_external first",
        )
        assert (await caller.get(f"{place}/external_weights/none/external_weights_urls")).status == 404

    play(scenario)


def test_external_weights_are_saved_in_their_turn_and_once() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        body = {"model_id": model_id, "seq_id": 2, "path": "out"}
        early = (await caller.post("/save_weights_external", body)).ok
        assert (await caller.post("/save_weights_external", body)).ok == early
        other = await caller.post("/save_weights_external", body | {"path": "another"})
        assert (other.status, other.detail.split(":")[0]) == (400, "seq_id")
        await caller.forward_backward(model_id, 1)
        assert (await caller.result(early["request_id"]))["path"].endswith("/external_weights/out")
        assert [kind for _, kind in await caller.applied(model_id)] == ["forward_backward", "save_weights_external"]
        failure = await save_external(caller, model_id, 3, "out")
        assert "exists" in failure["error"]
        for wrong in (
            {"path": "a/b"},
            {"ttl_seconds": 0},
            {"age_encryption_recipients": ["age1xyz"]},
        ):
            answer = await caller.post("/save_weights_external", body | {"seq_id": 4} | wrong)
            assert (answer.status, answer.detail.split(":")[0]) == (400, next(iter(wrong)))
        assert (await caller.post("/save_weights_external", {"model_id": model_id, "seq_id": 4})).status == 422
        await caller.train(model_id, 4)

    play(scenario)


def test_an_archive_is_a_redirect_to_a_real_one() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        await caller.train(model_id, 1)
        state = (await caller.save(model_id, 5, "s"))["path"]
        await caller.save_sampler(model_id, 6, path="s")
        place = f"/training_runs/{model_id}/checkpoints"
        answer = await caller.get(f"{place}/weights/s/archive")
        assert answer.status == 302
        body = answer.json
        assert answer.headers["location"] == body["url"]
        lifetime = parsedate_to_datetime(answer.headers["expires"]) - trio_now()
        assert 3590.0 < lifetime.total_seconds() <= 3600.0
        file = await fetch(stage, body["url"])
        assert file.headers["content-type"] == "application/gzip"
        packed = members(file.content)
        assert list(packed) == [
            "adapter_config.json",
            "adapter_model.safetensors",
            "checkpoint.safetensors",
            "checkpoint_complete",
        ]
        assert packed["checkpoint_complete"] == b""
        (listed, _) = (await caller.get(place)).ok["checkpoints"]
        assert len(packed["checkpoint.safetensors"]) == listed["size_bytes"]
        assert (await fetch(stage, body["url"])).content == file.content

        sampler = await caller.get(f"{place}/sampler_weights/s/archive")
        packed = members((await fetch(stage, sampler.json["url"])).content)
        assert list(packed) == ["adapter_config.json", "adapter_model.safetensors", "checkpoint_complete"]
        for wrong, status in (("weights/none", 404), ("weights", 400), ("checkpoints/s", 400)):
            assert (await caller.get(f"{place}/{wrong}/archive")).status == status

        # what has been deleted is not to be had any more, URL or not
        await caller.send("DELETE", f"{place}/weights/s")
        gone = await fetch(stage, body["url"])
        assert (gone.status, gone.detail) == (404, f"there is no checkpoint {state} any more")

    play(scenario)


def test_urls_are_good_for_what_and_as_long_as_they_say() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        await caller.save(model_id, 1, "a")
        await caller.save(model_id, 2, "b")
        url = (await caller.get(f"/training_runs/{model_id}/checkpoints/weights/a/archive")).json["url"]
        other = Caller(stage.network.transport(), key="tml-other")
        assert (await other.get(f"/training_runs/{model_id}/checkpoints/weights/a/archive")).status == 404
        assert (await fetch(stage, url)).status == 200
        head, _, query = url.partition("?")
        expires = int(query.partition("&")[0].partition("=")[2])
        for forged in (
            url.replace("/weights/a/", "/weights/b/"),
            url.replace("checkpoint.tar.gz", "adapter_config.json"),
            url.replace(str(expires), str(expires + 1)),
            url[:-1] + ("0" if url[-1] != "0" else "1"),
            f"{head}?expires={expires}&signature=",
            f"{head}?expires={expires}&signature=%C3%A9",
        ):
            answer = await fetch(stage, forged)
            assert answer.status in (403, 422), forged
        assert (await fetch(stage, head)).status == 422
        await trio.sleep(3590.0)
        assert (await fetch(stage, url)).status == 200
        await trio.sleep(20.0)
        late = await fetch(stage, url)
        assert (late.status, late.detail) == (410, "this URL was good for an hour. Ask for a new one")

    play(scenario)


def test_a_file_can_be_had_from_a_byte_on_as_long_as_it_is_that_file() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        await caller.save(model_id, 1, "a")
        url = (await caller.get(f"/training_runs/{model_id}/checkpoints/weights/a/archive")).json["url"]
        whole = await fetch(stage, url)
        content, tag, size = whole.content, whole.headers["etag"], len(whole.content)
        assert whole.headers["repr-digest"] == f"sha-256=:{base64.b64encode(sha256(content).digest()).decode()}:"
        for asked, start, end in (("100-", 100, size), ("0-0", 0, 1), ("7-9", 7, 10), (f"9-{size + 9}", 9, size)):
            part = await fetch(stage, url, range=f"bytes={asked}", if_range=tag)
            assert (part.status, part.content) == (206, content[start:end])
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
            assert part.headers["etag"] == tag
        beyond = await fetch(stage, url, range=f"bytes={size}-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size}")
        for headers in (
            {"range": "bytes=100-", "if_range": '"another"'},
            {"range": "bytes=-5"},
            {"range": "bytes=1-2,5-6"},
            {"range": "lines=1-2"},
        ):
            answer = await fetch(stage, url, **headers)
            assert (answer.status, answer.content) == (200, content), headers

    play(scenario)


def test_what_is_published_may_be_downloaded_by_others() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        other = Caller(stage.network.transport(), key="tml-other")
        model_id = await caller.model()
        await save_external(caller, model_id, 1, "out")
        place = f"/training_runs/{model_id}/checkpoints/external_weights/out"
        for where in ("archive", "external_weights_urls"):
            assert (await other.get(f"{place}/{where}")).status == 404
        assert (await caller.send("POST", f"{place}/publish")).status == 204
        urls = (await other.get(f"{place}/external_weights_urls")).ok["urls"]
        assert (await fetch(stage, urls["adapter_config.json"])).status == 200
        archived = (await fetch(stage, (await other.get(f"{place}/archive")).json["url"])).content
        assert set(members(archived)) == {*urls, "checkpoint_complete"}

    play(scenario)
