"""A server of few words over the in-memory network, and what a test changes about it, endpoint by endpoint."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from supervision.testing import run_seeded
from tests.wire.scripted import KEY, Answer, Asked
from tinker_actors.config import Config
from tinker_actors.ports import InlineOffload
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.network import open_network

__all__ = ["OUTPUT", "SAMPLE", "Quirk", "Server", "against"]

T = TypeVar("T")

Quirk: TypeAlias = Callable[["Server", Asked], Awaitable[Answer]] | Answer | list[Answer]
"""How one endpoint answers: computed, always the same, or one after another and the last one again and again."""

OUTPUT: dict[str, Any] = {
    "loss_fn_output_type": "x",
    "loss_fn_outputs": [{"logprobs": {"data": [0.5], "dtype": "float32"}}],
    "metrics": {"loss:sum": 1.0},
}
SAMPLE: dict[str, Any] = {"sequences": [{"stop_reason": "length", "tokens": [1], "logprobs": [0.0]}]}

_DIRECT: Mapping[str, Any] = {
    "client/config": {},
    "create_session": {"session_id": "session"},
    "create_sampling_session": {"sampling_session_id": "sampler"},
    "get_info": {"model_id": "model", "model_data": {"model_name": "a/b"}, "model_name": "a/b"},
}
_RESULTS: Mapping[str, Any] = {
    "create_model": {"model_id": "model"},
    "forward": OUTPUT,
    "forward_backward": OUTPUT,
    "optim_step": {},
    "asample": SAMPLE,
    "save_weights": {"path": "tinker://model/weights/a"},
    "save_weights_for_sampler": {"path": "tinker://model/sampler_weights/a"},
    "load_weights": {},
}


class Server:
    """The application. A promise's id is ``<endpoint>-<number>``; its result is the quirk "result of <endpoint>"."""

    def __init__(self, quirks: Mapping[str, Quirk]) -> None:
        self.quirks = {name: list(quirk) if isinstance(quirk, list) else quirk for name, quirk in quirks.items()}
        self.asked: list[Asked] = []

    def times(self, endpoint: str) -> int:
        """How often ``endpoint`` was asked."""
        return len(self.all(endpoint))

    def all(self, endpoint: str) -> list[Asked]:
        """What ``endpoint`` was asked."""
        return [asked for asked in self.asked if asked.path == endpoint]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["path"].removeprefix("/api/v1/")
        asked = Asked(scope["method"], path, headers, (await receive())["body"])
        self.asked.append(asked)
        answer = await self._answer(asked)
        content = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
        fields = {"content-type": "application/json", "content-length": str(len(content))} | answer.headers
        raw = [(name.encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        await send({"type": "http.response.body", "body": content, "more_body": answer.cut})

    async def _answer(self, asked: Asked) -> Answer:
        name, usual = asked.path, Answer(_DIRECT.get(asked.path, {}))
        if name in _RESULTS:
            usual = Answer({"request_id": f"{name}-{len(self.asked)}"})
        elif name == "retrieve_future":
            promised = asked.json["request_id"].rpartition("-")[0]
            name, usual = f"result of {promised}", Answer(_RESULTS.get(promised, {}))
        quirk = self.quirks.get(name, usual)
        if isinstance(quirk, list):
            return quirk.pop(0) if len(quirk) > 1 else quirk[0]
        return quirk if isinstance(quirk, Answer) else await quirk(self, asked)


def against(
    quirks: Mapping[str, Quirk], story: Callable[[Runtime], Awaitable[T]], *, limit: float = 400.0, **options: Any
) -> tuple[T, Server]:
    """What ``story`` gives in a runtime in front of such a server, and the server.

    Fails when it takes more than ``limit`` virtual seconds. ``options`` are for the Config: that
    of a server which knows repeated requests.
    """
    server = Server(quirks)

    async def run() -> T:
        known = {"base_url": "https://server", "api_key": KEY, "environ": {}, "server_class": "dedup"}
        config = Config.load(**known | options)
        async with (
            open_network(server, random=random.Random(1), latency=(0.0, 0.01)) as network,
            open_runtime(config=config, transport=network.transport(), seed=1, offload=InlineOffload()) as runtime,
        ):
            return await story(runtime)

    return run_seeded(run, seed=1, limit=limit), server
