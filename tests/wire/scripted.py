"""An Api in front of an ASGI application that answers as a test says, over the in-memory network."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tinker_actors.config import Config
from tinker_actors.ports import Credentials
from tinker_actors.testing.network import Application, Message, open_network
from tinker_actors.wire.api import Api

__all__ = ["KEY", "Answer", "Asked", "Script", "scripted"]

KEY = "tml-planted-secret-0123456789"


class Asked(msgspec.Struct, frozen=True):
    """What reached the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    query: str = ""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Answer(msgspec.Struct, frozen=True):
    """What the server says; a body that is no bytes is sent as JSON. ``cut`` leaves out the end of the body."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = {}
    cut: bool = False


class Script:
    """The application: gives ``answers`` one after another, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append(Asked(scope["method"], scope["path"], headers, body, scope["query_string"].decode()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        content = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
        fields = {"content-type": "application/json"} | answer.headers
        raw = [(name.encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        await send({"type": "http.response.body", "body": content, "more_body": answer.cut})


@asynccontextmanager
async def scripted(
    *answers: Answer,
    base: str = "http://server:8000/services/prod",
    application: Application | None = None,
    credentials: Credentials | None = None,
    **options: Any,
) -> AsyncGenerator[tuple[Api, Script]]:
    """An Api whose server gives ``answers``, or is ``application``; ``options`` are for its Config."""
    script = Script(*answers)
    config = Config.load(**{"base_url": base, "api_key": KEY, "environ": {}, "allow_plain_http": True} | options)
    async with open_network(application or script, random=random.Random(1), latency=(0.0, 0.0)) as network:
        yield Api(network.transport(), config, credentials), script
