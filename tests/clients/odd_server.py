"""A server of few words, and of odd ones where a test says so, for a whole runtime over the in-memory network."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from supervision.testing import run_seeded
from tinker_actors.config import Config
from tinker_actors.ports import InlineOffload
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.faults import Fault, FaultPlan, FaultyTransport
from tinker_actors.testing.network import Message, open_network

__all__ = ["OddServer", "ask"]

T = TypeVar("T")
_RESULTS: dict[str, Any] = {
    "create_model": {"type": "create_model", "model_id": "model"},
    "forward_backward": {"loss_fn_output_type": "x", "loss_fn_outputs": [{}], "metrics": {"loss:sum": 1.0}},
    "optim_step": {},
    "save_weights": {"path": "tinker://r/weights/kept"},
    "save_weights_for_sampler": {"path": "tinker://r/sampler_weights/mine"},
    "load_weights": {"path": "tinker://r/weights/kept"},
    "asample": {"sequences": [{"stop_reason": "length", "tokens": [1], "logprobs": [0.0]}]},
}
_ANSWERS: dict[str, Any] = {
    "create_session": {"session_id": "session"},
    "create_sampling_session": {"sampling_session_id": "sampler"},
    "get_info": {"model_id": "model", "model_data": {"model_name": "a/b"}, "model_name": "a/b"},
}


class OddServer:
    """Answers each endpoint by its table, or as ``odd`` says; ``asked`` gets each request."""

    def __init__(self, odd: Mapping[str, Any], asked: list[tuple[str, bytes]]) -> None:
        self._odd = odd
        self._asked = asked
        self._promised: Counter[str] = Counter()

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        name = scope["path"].removeprefix("/api/v1/")
        body = (await receive())["body"]
        self._asked.append((name, body))
        if name in _RESULTS:
            answer = {"request_id": f"{name} {self._promised[name]}"}
            self._promised[name] += 1
        elif name == "retrieve_future":
            promised = msgspec.json.decode(body)["request_id"]
            name = promised.partition(" ")[0]
            usual = self._odd.get(f"result of {name}", _RESULTS[name])
            answer = self._odd.get(f"result of {promised}", usual)
        else:
            answer = self._odd.get(name, _ANSWERS.get(name, {}))
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": msgspec.json.encode(answer), "more_body": False})


def ask(
    story: Callable[[Runtime], Awaitable[T]],
    odd: Mapping[str, Any],
    *,
    limit: float = 400.0,
    asked: list[tuple[str, bytes]] | None = None,
    faults: Sequence[Fault] = (),
    **options: Any,
) -> T:
    """What ``story`` gives in a runtime whose server answers ``odd`` things: by endpoint, by "result of ENDPOINT", or
    by "result of ENDPOINT 1" for the second request there.

    Fails when it takes more than ``limit`` virtual seconds. ``asked`` gets each request, by endpoint and body, that
    ``faults`` let through; ``options`` are for the Config.
    """

    async def run() -> T:
        given: dict[str, Any] = {
            "base_url": "https://server",
            "api_key": "tml-test",
            "environ": {},
            "recovery": False,
            "server_class": "dedup",
        }
        config = Config.load(**given | options)
        async with (
            open_network(OddServer(odd, [] if asked is None else asked), random=random.Random(1)) as network,
            open_runtime(
                config=config,
                transport=FaultyTransport(network.transport(), FaultPlan(tuple(faults))),
                seed=1,
                offload=InlineOffload(),
            ) as runtime,
        ):
            return await story(runtime)

    return run_seeded(run, seed=1, limit=limit)
