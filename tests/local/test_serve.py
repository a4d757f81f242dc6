"""The server as a process on loopback: real sockets, signals and kills."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.local.harness import PROTOBUF, TINY, create_body, datum, sample_body
from tests.local.process import KEY, Served, serving
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.types import ForwardBackwardRequest

pytestmark = pytest.mark.process


class Client:
    """A blocking caller with connections of its own."""

    def __init__(self, served: Served) -> None:
        self.http = httpx.Client(base_url=served.url + "/api/v1", headers={"x-api-key": KEY}, timeout=60)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        given = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        response = self.http.post(path, content=content, headers=given)
        assert response.status_code == 200, response.text
        return response.json()

    def status(self, path: str, body: Any) -> int:
        return self.http.post(path, json=body).status_code

    def result(self, request_id: str) -> Any:
        while (answer := self.post("/retrieve_future", {"request_id": request_id})).get("type") == "try_again":
            pass
        return answer

    def session(self) -> str:
        body = {"tags": [], "user_metadata": {}, "sdk_version": "0.38.0"}
        return self.post("/create_session", body)["session_id"]

    def model(self, session_id: str) -> str:
        return self.result(self.post("/create_model", create_body(session_id))["request_id"])["model_id"]

    def step(self, model_id: str, seq_id: int) -> float:
        request = ForwardBackwardRequest(model_id=model_id, seq_id=seq_id, data=(datum(1),), loss_fn="cross_entropy")
        content = b"".join(encode_forward_backward_request(request))
        forward = self.post("/forward_backward", content, content_type=PROTOBUF)["request_id"]
        params = {"learning_rate": 0.01}
        update = self.post("/optim_step", {"model_id": model_id, "seq_id": seq_id + 1, "adam_params": params})
        self.result(update["request_id"])
        return self.result(forward)["metrics"]["loss:sum"]

    def save(self, model_id: str, seq_id: int, name: str) -> str:
        body = {"model_id": model_id, "seq_id": seq_id, "path": name}
        return self.result(self.post("/save_weights", body)["request_id"])["path"]

    def load(self, session_id: str, path: str) -> str:
        body = {"session_id": session_id, "model_seq_id": 0, "path": path, "optimizer": True}
        return self.result(self.post("/load_weights", body)["request_id"])["model_id"]

    def digest(self, model_id: str) -> str:
        return self.http.get(f"/local/digest/{model_id}").json()["digest"]


@pytest.fixture
def client() -> Generator[Client]:
    with serving() as served:
        made = Client(served)
        with made.http:
            yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_polls_under_way(number: signal.Signals, tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        client = Client(served)
        with client.http:
            model_id = client.model(client.session())
            body = {"model_id": model_id, "seq_id": 2, "adam_params": {}}
            early = client.post("/optim_step", body)["request_id"]

            def poll() -> None:
                answers.append(client.post("/retrieve_future", {"request_id": early})["type"])

            answers: list[str] = []
            thread = threading.Thread(target=poll)
            thread.start()
            time.sleep(1.0)  # the poll has arrived, or is answered the same when it does
            began = time.monotonic()
            served.process.send_signal(number)
            assert served.process.wait(10) == 0
            assert time.monotonic() - began < 5.0
            thread.join(10)
            assert answers == ["try_again"]  # at once, not after the hold


def test_after_a_kill_it_goes_on_from_its_directory(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        client = Client(served)
        with client.http:
            session_id = client.session()
            model_id = client.model(session_id)
            losses = [client.step(model_id, seq_id) for seq_id in (1, 3, 5)]
            assert losses == sorted(losses, reverse=True)
            path = client.save(model_id, 7, "kept")
            digest = client.digest(model_id)
            after = [client.step(model_id, seq_id) for seq_id in (8, 10)]
            ended = client.digest(model_id)
            served.process.kill()
            served.process.wait(10)
    with serving(tmp_path) as served:
        client = Client(served)
        with client.http:
            assert client.status("/session_heartbeat", {"session_id": session_id}) == 410
            assert client.status("/get_info", {"model_id": model_id}) == 410
            resumed = client.load(client.session(), path)
            assert client.digest(resumed) == digest
            assert [client.step(resumed, seq_id) for seq_id in (1, 3)] == after
            assert client.digest(resumed) == ended
    lines = [json.loads(line) for line in (tmp_path / "applied.jsonl").read_text().splitlines()]
    assert [line["seq_id"] for line in lines if line["model_id"] == model_id] == list(range(1, 12))


def test_kills_at_random_moments_lose_no_acknowledged_checkpoint(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    for round_ in range(5):
        with serving(tmp_path) as served:
            client = Client(served)
            with client.http:
                session_id = client.session()
                model_id = client.model(session_id)

                # The first one at any moment, the others once there is something to lose, however slow the machine.
                due = threading.Event()
                if round_ == 0:
                    due.set()

                def kill_soon(
                    served: Served = served, due: threading.Event = due, after: float = 0.03 + 0.05 * round_
                ) -> None:
                    due.wait(60)
                    time.sleep(after)
                    served.process.kill()

                killer = threading.Thread(target=kill_soon)
                killer.start()
                seq_id = 1
                try:
                    while True:
                        client.step(model_id, seq_id)
                        digest = client.digest(model_id)
                        acknowledged[client.save(model_id, seq_id + 2, f"at-{seq_id}")] = digest
                        due.set()
                        seq_id += 3
                except httpx.HTTPError:
                    pass
                killer.join()
    assert len(acknowledged) >= 4
    with serving(tmp_path) as served:
        client = Client(served)
        with client.http:
            for path, digest in acknowledged.items():
                assert client.digest(client.load(client.session(), path)) == digest


def test_a_thousand_connections_at_once(client: Client) -> None:
    address = (client.http.base_url.host, client.http.base_url.port)
    request = b"GET /api/v1/healthz HTTP/1.1\r\nhost: a\r\n\r\n"
    connections = [socket.create_connection(address, timeout=30) for _ in range(1000)]
    try:
        for connection in connections:
            connection.sendall(request)
        assert all(connection.recv(4096).startswith(b"HTTP/1.1 200") for connection in connections)
    finally:
        for connection in connections:
            connection.close()


def test_a_connection_serves_many_requests_and_outlives_a_pause(client: Client) -> None:
    address = (client.http.base_url.host, client.http.base_url.port)
    with socket.create_connection(address, timeout=30) as connection:
        for n in range(1200):
            if n == 1100:
                time.sleep(6.0)  # longer than Hypercorn's own keep-alive
            connection.sendall(b"GET /api/v1/healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b'"ok"}'):
                piece = connection.recv(4096)
                assert piece, f"closed at request {n}"
                answer += piece


def test_a_body_above_the_limit_is_answered(client: Client) -> None:
    response = client.http.post("/create_session", content=bytes(70_000_000))
    assert response.status_code == 413
    assert "longer than" in response.json()["detail"]


def test_many_samples_under_way(client: Client) -> None:
    session_id = client.session()
    body = {"session_id": session_id, "sampling_session_seq_id": 0, "base_model": TINY}
    sampler = client.post("/create_sampling_session", body)["sampling_session_id"]
    ids = [client.post("/asample", sample_body(sampler, n, seed=n))["request_id"] for n in range(200)]
    results = [client.result(request_id) for request_id in ids]
    assert all(len(result["sequences"][0]["tokens"]) == 4 for result in results)


def test_an_address_in_use_is_told() -> None:
    import trio

    from tinker_actors.local.server import serve
    from tinker_actors.local.settings import ServerSettings

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BaseException) as caught:
        trio.run(serve, ServerSettings(base_model=TINY), "127.0.0.1", taken.getsockname()[1])
    leaf: BaseException = caught.value
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, OSError)
