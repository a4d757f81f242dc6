"""A server in simulation and someone who speaks raw HTTP to it."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from supervision.testing import run_seeded
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.codec.forward_backward_output import decode_forward_backward_output
from tinker_actors.local.clock import Now, trio_now
from tinker_actors.local.owners import Owner
from tinker_actors.local.service import LocalService, open_service
from tinker_actors.local.settings import ServerSettings
from tinker_actors.ports import InlineOffload, Request, Transport
from tinker_actors.testing.network import Network, open_network
from tinker_actors.types import AdamParams, Datum, ForwardBackwardOutput, ForwardBackwardRequest, ModelInput

TINY = "tinker-actors/tiny"
PROTOBUF = "application/x-protobuf"


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.content)

    @property
    def ok(self) -> Any:
        assert self.status == 200, (self.status, self.content)
        return self.json

    @property
    def detail(self) -> str:
        assert self.headers["content-length"] == str(len(self.content))
        return self.json["detail"]


class Caller:
    """One client's end; ``key`` None sends none."""

    def __init__(self, transport: Transport, *, base: str = "http://server", key: str | None = "tml-test") -> None:
        self.transport = transport
        self.base = base
        self.key = key

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        content = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        given = {"content-type": "application/json", **(headers or {})}
        if self.key is not None:
            given["x-api-key"] = self.key
        request = Request(
            method=method,
            url=f"{self.base}/api/v1{path}",
            headers=tuple(given.items()),
            body=(content,),
            timeout=timeout,
        )
        response = await self.transport.send(request)
        return Answer(response.status, response.headers, await response.read(1 << 26))

    async def post(self, path: str, body: object, **headers: str) -> Answer:
        return await self.send("POST", path, body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def get(self, path: str) -> Answer:
        return await self.send("GET", path)

    async def session(self) -> str:
        body = {"tags": [], "user_metadata": {}, "sdk_version": "0.38.0"}
        return (await self.post("/create_session", body)).ok["session_id"]

    async def start_model(self, session_id: str, number: int = 0, *, rank: int = 2, seed: int = 7) -> str:
        answer = await self.post("/create_model", create_body(session_id, number, rank=rank, seed=seed))
        return (await self.result(answer.ok["request_id"]))["model_id"]

    async def model(self) -> str:
        """The first model of a new session."""
        return await self.start_model(await self.session())

    async def poll(self, request_id: str, *, accept: str = "application/json", metadata: bool = False) -> Answer:
        body = {"request_id": request_id, "allow_metadata_only": metadata}
        return await self.post("/retrieve_future", body, accept=accept)

    async def wait(self, request_id: str, *, accept: str = "application/json") -> Answer:
        while True:
            answer = await self.poll(request_id, accept=accept)
            if answer.status != 200 or answer.headers["content-type"] == PROTOBUF:
                return answer
            if answer.json.get("type") != "try_again":
                return answer

    async def result(self, request_id: str) -> Any:
        return (await self.wait(request_id)).ok

    async def forward_backward(
        self,
        model_id: str,
        seq_id: int,
        data: tuple[Datum, ...] | None = None,
        *,
        loss_fn: str = "cross_entropy",
        forward_only: bool = False,
    ) -> Answer:
        request = ForwardBackwardRequest(
            model_id=model_id,
            seq_id=seq_id,
            data=data if data is not None else (datum(1),),
            loss_fn=loss_fn,
            forward_only=forward_only,
        )
        content = b"".join(encode_forward_backward_request(request))
        return await self.post("/forward_backward", content, content_type=PROTOBUF)

    async def optim_step(self, model_id: str, seq_id: int, learning_rate: float | None = 0.01) -> Answer:
        params = msgspec.to_builtins(AdamParams()) | {"learning_rate": learning_rate}
        return await self.post("/optim_step", {"model_id": model_id, "seq_id": seq_id, "adam_params": params})

    async def train(self, model_id: str, first: int, steps: int = 2) -> list[float]:
        """``steps`` pairs of forward_backward and optim_step from seq_id ``first`` on; their losses."""
        losses: list[float] = []
        for step in range(steps):
            forward = (await self.forward_backward(model_id, first + 2 * step)).ok
            update = (await self.optim_step(model_id, first + 2 * step + 1)).ok
            losses.append((await self.output(forward["request_id"])).metrics["loss:sum"])
            await self.result(update["request_id"])
        return losses

    async def output(self, request_id: str) -> ForwardBackwardOutput:
        answer = await self.wait(request_id, accept=PROTOBUF)
        assert answer.headers["content-type"] == PROTOBUF, answer
        return decode_forward_backward_output(answer.content)

    async def digest(self, model_id: str) -> str:
        return (await self.get(f"/local/digest/{model_id}")).ok["digest"]

    async def applied(self, model_id: str) -> list[tuple[int, str]]:
        listed = (await self.get(f"/local/applied/{model_id}")).ok["applied"]
        return [(entry["seq_id"], entry["kind"]) for entry in listed]

    async def save(self, model_id: str, seq_id: int, name: str, **more: object) -> Any:
        body = {"model_id": model_id, "seq_id": seq_id, "path": name, **more}
        return await self.result((await self.post("/save_weights", body)).ok["request_id"])

    async def save_sampler(self, model_id: str, seq_id: int, **more: object) -> Any:
        body = {"model_id": model_id, "seq_id": seq_id, **more}
        return await self.result((await self.post("/save_weights_for_sampler", body)).ok["request_id"])

    async def sampler(self, session_id: str, number: int = 0, **what: object) -> str:
        body = {"session_id": session_id, "sampling_session_seq_id": number, **(what or {"base_model": TINY})}
        return (await self.post("/create_sampling_session", body)).ok["sampling_session_id"]

    async def sample(self, sampler: str, seq_id: int = 0, *, seed: int | None = 3, num_samples: int = 1) -> Any:
        answer = await self.post("/asample", sample_body(sampler, seq_id, seed=seed, num_samples=num_samples))
        return await self.result(answer.ok["request_id"])


def create_body(session_id: str, number: int = 0, *, rank: int = 2, seed: int | None = 7, base: str = TINY) -> Any:
    lora = {"rank": rank, "train_unembed": True, "train_mlp": True, "train_attn": True}
    if seed is not None:
        lora["seed"] = seed
    return {
        "session_id": session_id,
        "model_seq_id": number,
        "base_model": base,
        "lora_config": lora,
        "optimizer_config": {"type": "adamw"},
        "type": "create_model",
    }


def sample_body(sampler: str, seq_id: int = 0, *, seed: int | None = 3, num_samples: int = 1) -> Any:
    params: dict[str, object] = {"max_tokens": 4, "temperature": 1.0, "top_k": -1, "top_p": 1.0, "stop": []}
    if seed is not None:
        params["seed"] = seed
    return {
        "num_samples": num_samples,
        "prompt": {"chunks": [{"tokens": [1, 2, 3], "type": "encoded_text"}]},
        "sampling_params": params,
        "sampling_session_id": sampler,
        "seq_id": seq_id,
        "prompt_logprobs": True,
        "topk_prompt_logprobs": 0,
        "prompt_alt_tokens_k": 0,
        "type": "sample",
    }


def datum(seed: int) -> Datum:
    rng = random.Random(seed)
    tokens = [rng.randrange(3, 32) for _ in range(6)]
    return Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": [1.0] * 5})


class Stage(msgspec.Struct):
    """What a scenario works with."""

    caller: Caller
    service: LocalService
    network: Network

    @property
    def owner(self) -> Owner:
        """Whom ``caller`` is for the service."""
        return self.service.owners.identify(self.caller.key or "")

    def other(self, key: str = "tml-other") -> Caller:
        """Somebody with another key, by a connection of their own."""
        return Caller(self.network.transport(), key=key)


@asynccontextmanager
async def open_stage(
    settings: ServerSettings | None = None, *, seed: int = 0, now: Now = trio_now
) -> AsyncGenerator[Stage]:
    rng = random.Random(seed)
    async with (
        open_service(
            settings or ServerSettings(base_model=TINY),
            offload=InlineOffload(),
            random=random.Random(rng.getrandbits(64)),
            now=now,
        ) as service,
        open_network(service.app, random=random.Random(rng.getrandbits(64))) as network,
    ):
        yield Stage(Caller(network.transport()), service, network)


def play(scenario: Callable[[Stage], Awaitable[Any]], *, seed: int = 0, **settings: Any) -> Any:
    """Run ``scenario`` against a server with these settings, in virtual time."""

    async def run() -> Any:
        async with open_stage(ServerSettings(base_model=TINY, **settings), seed=seed) as stage:
            value = await scenario(stage)
            await trio.lowlevel.checkpoint()
            return value

    return run_seeded(run, seed=seed)
