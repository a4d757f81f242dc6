"""Which pool each request belongs to, how long it may take, and that nothing is asked twice by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tinker_actors.types as ta
from tests.wire import test_endpoints, test_more_endpoints
from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors import errors
from tinker_actors.config import Config
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.futures import retrieve_future
from tinker_actors.wire.endpoints.listings import list_sessions, list_training_runs
from tinker_actors.wire.endpoints.training import forward_backward

Send = Callable[[Api], Awaitable[Any]]
BATCH = ta.ForwardBackwardRequest(model_id="m", seq_id=1, data=(test_endpoints.DATUM,), loss_fn="cross_entropy")


def _poll(api: Api) -> Awaitable[Any]:
    return retrieve_future(api, "r", ta.OptimStepResponse, iteration=0, request_type="OptimStep", timeout=45.0)


CALLS: dict[str, Send] = {row.rpartition("/")[2]: row_[0] for row, row_ in test_endpoints.ROWS.items()}
CALLS |= {name: row[1] for name, row in test_more_endpoints.ROWS.items()}
CALLS |= {"forward_backward": lambda api: forward_backward(api, BATCH, key="key"), "retrieve_future": _poll}
PURPOSES = {
    "create_session": "session",
    "session_heartbeat": "session",
    "forward_backward": "train",
    "optim_step": "train",
    "save_weights": "train",
    "save_weights_for_sampler": "train",
    "load_weights": "train",
    "asample": "sample",
    "retrieve_future": "poll",
    "retrieve_futures": "poll",
    "send_telemetry": "telemetry",
    "list_sessions": "rest",
}


class Recording(Transport):
    """Refuses each request, and keeps it."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.asked.append(request)
        raise errors.APIConnectionError("refused", sent=False)

    async def aclose(self) -> None:
        """Nothing to close."""


async def recorded(send: Send) -> Request:
    transport = Recording()
    with pytest.raises(errors.APIConnectionError):
        await send(Api(transport, Config.load(base_url="https://server", api_key=KEY, environ={})))
    (request,) = transport.asked
    return request


@pytest.mark.parametrize("name", PURPOSES)
async def test_each_request_has_its_pool(name: str):
    assert (await recorded(CALLS[name])).purpose == PURPOSES[name]


async def test_a_beat_has_ten_seconds_and_a_poll_what_it_is_given():
    assert (await recorded(CALLS["session_heartbeat"])).timeout == 10.0
    assert (await recorded(CALLS["retrieve_future"])).timeout == 45.0
    assert (await recorded(CALLS["asample"])).timeout == 60.0


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
@pytest.mark.parametrize("name", ["asample", "retrieve_future", "session_heartbeat", "save_weights", "optim_step"])
async def test_nothing_is_asked_twice_by_itself(name: str, status: int):
    refusal = Answer(b"busy", status, {"retry-after": "0", "x-should-retry": "true"})
    async with scripted(refusal) as (api, script):
        with pytest.raises(errors.APIStatusError):
            await CALLS[name](api)
        assert len(script.asked) == 1


async def test_listings_begin_at_the_start_with_twenty():
    body = {"sessions": [], "training_runs": [], "cursor": {"offset": 0, "limit": 20, "total_count": 0}}
    async with scripted(Answer(body)) as (api, script):
        await list_sessions(api)
        await list_training_runs(api)
    assert [asked.query for asked in script.asked] == ["limit=20&offset=0&access_scope=owned"] * 2
