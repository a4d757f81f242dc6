"""A server under load that is killed at seeded moments, and what must be there after each restart."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import httpx
import msgspec

from tests.local.harness import PROTOBUF, TINY, create_body, datum, sample_body
from tests.local.process import KEY, Served, serving
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.types import ForwardBackwardRequest

_TRAINERS = 2
_SAMPLERS = 2


class Saved(msgspec.Struct):
    """What is known of one checkpoint: the digests of weights that it may have, the last one acknowledged or not."""

    run: str
    digests: list[str]
    acknowledged: int = 0
    """How many of ``digests`` were acknowledged: it has the last of those, or one that came after it."""
    sample: Any = None
    sampler: bool = False


@final
class Caller:
    """One blocking client. Raises httpx.TransportError when the server has gone."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url + "/api/v1", headers={"x-api-key": KEY}, timeout=60)

    def post(self, path: str, body: Any, kind: str = "application/json") -> Any:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        answer = self._http.post(path, content=content, headers={"content-type": kind})
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self._http.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def result(self, path: str, body: Any, kind: str = "application/json") -> Any:
        promise = self.post(path, body, kind)["request_id"]
        while (answer := self.post("/retrieve_future", {"request_id": promise})).get("type") == "try_again":
            pass
        assert "error" not in answer, (path, answer)
        return answer

    def session(self) -> str:
        return self.post("/create_session", {"tags": [], "user_metadata": {}, "sdk_version": "0"})["session_id"]

    def digest(self, model: str) -> str:
        return self.get(f"/local/digest/{model}")["digest"]

    def close(self) -> None:
        self._http.close()


@final
class Load:
    """Clients that train, save and sample until the server has gone. They share what was acknowledged."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.saved: dict[str, Saved] = {}
        self.applied: dict[str, int] = {}
        """The highest seq_id of each model that a result was given for."""
        self.recent: set[str] = set()
        self.failures: list[BaseException] = []
        self.acknowledged = 0
        self._lock = threading.Lock()

    def run(self, served: Served, seconds: float) -> None:
        """Work for ``seconds``, then kill the server and let the clients find that out."""
        self.recent.clear()
        seeds = [self._random.getrandbits(32) for _ in range(_TRAINERS + _SAMPLERS)]
        work = [self._train] * _TRAINERS + [self._sample] * _SAMPLERS
        threads = [
            threading.Thread(target=self._guarded, args=(client, served.url, random.Random(seed)))
            for client, seed in zip(work, seeds, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(30)
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def _guarded(self, client: Callable[[Caller, random.Random], None], url: str, draw: random.Random) -> None:
        caller = Caller(url)
        try:
            client(caller, draw)
        except httpx.TransportError:
            pass  # the server was killed
        except BaseException as error:  # raised in ``run``
            self.failures.append(error)
        finally:
            caller.close()

    def _train(self, caller: Caller, draw: random.Random) -> None:
        session = caller.session()
        model = caller.result("/create_model", create_body(session))["model_id"]
        seq = 0
        while True:
            request = ForwardBackwardRequest(
                model_id=model, seq_id=seq + 1, data=(datum(draw.getrandbits(16)),), loss_fn="cross_entropy"
            )
            caller.result("/forward_backward", b"".join(encode_forward_backward_request(request)), PROTOBUF)
            step = {"model_id": model, "seq_id": seq + 2, "adam_params": {"learning_rate": 0.01}}
            caller.result("/optim_step", step)
            seq += 3
            digest = caller.digest(model)
            name, sampler = f"s{draw.randrange(3)}", draw.random() < 0.4
            if sampler:
                name = f"x{seq}"
            kind = "sampler_weights" if sampler else "weights"
            path = f"tinker://{model}/{kind}/{name}"
            with self._lock:
                saved = self.saved.setdefault(path, Saved(model, [], sampler=sampler))
                saved.digests.append(digest)
                self.recent.add(path)
            body = {"model_id": model, "seq_id": seq, "path": name}
            if sampler:
                found = caller.result("/save_weights_for_sampler", body)
            else:
                found = caller.result("/save_weights", body | {"overwrite": True})
            assert found["path"] == path
            with self._lock:
                saved.acknowledged = len(saved.digests)
                self.acknowledged += 1
                self.applied[model] = seq
            if sampler:
                saved.sample = self.sample_of(caller, caller.session(), path)

    def _sample(self, caller: Caller, draw: random.Random) -> None:
        session = caller.session()
        body = {"session_id": session, "sampling_session_seq_id": 0, "base_model": TINY}
        sampler = caller.post("/create_sampling_session", body)["sampling_session_id"]
        number = 0
        while True:
            caller.result("/asample", sample_body(sampler, number, seed=draw.getrandbits(20), num_samples=3))
            number += 1

    @staticmethod
    def sample_of(caller: Caller, session: str, path: str) -> Any:
        body = {"session_id": session, "sampling_session_seq_id": 0, "model_path": path}
        sampler = caller.post("/create_sampling_session", body)["sampling_session_id"]
        answer = caller.result("/asample", sample_body(sampler))
        return [(one["tokens"], one["logprobs"]) for one in answer["sequences"]]


def check_files(directory: Path) -> None:
    """Of a server that has just started: rows and files agree, every file is whole, the log has whole lines."""
    with sqlite3.connect(f"file:{directory / 'server.sqlite3'}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT file, sha256, size_bytes FROM checkpoints").fetchall()
    files = directory / "checkpoints"
    assert {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()} == {row[0] for row in rows}
    for name, sha256, size in rows:
        data = (files / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size)


def check_log(directory: Path, applied: dict[str, int]) -> None:
    """The log has every operation that a result was given for, in order, without gaps."""
    found: dict[str, list[int]] = {}
    text = (directory / "applied.jsonl").read_text()
    assert text.endswith("\n") or not text
    for line in text.splitlines():
        entry = json.loads(line)
        found.setdefault(entry["model_id"], []).append(entry["seq_id"])
    for model, seqs in found.items():
        assert seqs == list(range(1, len(seqs) + 1)), model
    for model, last in applied.items():
        assert len(found[model]) >= last


def check_checkpoints(served: Served, load: Load, paths: set[str]) -> int:
    """The listings have what was acknowledged, and ``paths`` load to the bit. How many were loaded."""
    caller = Caller(served.url)
    try:
        session = caller.session()
        for run in {saved.run for saved in load.saved.values()}:
            known = {path for path, saved in load.saved.items() if saved.run == run}
            sure = {path for path in known if load.saved[path].acknowledged}
            if not sure:
                continue
            listed = caller.get(f"/training_runs/{run}/checkpoints")["checkpoints"]
            found = [entry["tinker_path"] for entry in listed]
            assert len(found) == len(set(found))
            assert sure <= set(found) <= known, run
        number = loaded = 0
        for path in sorted(paths):
            saved = load.saved[path]
            if not saved.acknowledged:
                continue
            loaded += 1
            if saved.sampler:
                if saved.sample is not None:
                    assert load.sample_of(caller, caller.session(), path) == saved.sample, path
                continue
            body = {"session_id": session, "model_seq_id": number, "path": path, "optimizer": True}
            number += 1
            model = caller.result("/load_weights", body)["model_id"]
            assert caller.digest(model) in saved.digests[saved.acknowledged - 1 :], path
        return loaded
    finally:
        caller.close()


def kill_again_and_again(directory: Path, seed: int, kills: int) -> tuple[Load, int]:
    """``kills`` rounds of load, kill, restart and a look; the load, and how many checkpoints were loaded again."""
    draw = random.Random(seed)
    load = Load(draw.getrandbits(32))
    loaded = 0
    with ExitStack() as stack:
        served = stack.enter_context(serving(directory))
        for kill in range(1, kills + 1):
            load.run(served, draw.uniform(0.1, 1.5))
            if draw.random() < 0.3:
                _kill_while_starting(directory, draw.uniform(0.0, 0.8))
            served = stack.enter_context(serving(directory))
            check_files(directory)
            check_log(directory, load.applied)
            older = sorted(set(load.saved) - load.recent)
            chosen = older if kill == kills else draw.sample(older, min(len(older), 5))
            loaded += check_checkpoints(served, load, load.recent | set(chosen))
    return load, loaded


def _kill_while_starting(directory: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "tinker_actors.cli", "serve", "--port", "0", "--base-model", TINY]
    process = subprocess.Popen(
        [*command, "--directory", str(directory)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    process.kill()
    process.wait(30)
