"""What a Config asks of the runtime as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tinker_actors import Config, InvalidInput, open_runtime
from tinker_actors.ports import Request, Response
from tinker_actors.runtime.settings import make_transport, pool_limits
from tinker_actors.wire.transport import HttpTransport


def config(**options: object) -> Config:
    return Config.load(api_key="tml-test", environ={}, base_url="http://127.0.0.1:1", **options)  # pyright: ignore[reportArgumentType]


class Own:
    """A transport of a user's."""

    def __init__(self) -> None:
        self.closed = False

    async def send(self, request: Request) -> Response:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True


shared = Own()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("tinker_actors")
    before = found.level
    yield found
    found.setLevel(before)


async def test_a_level_is_set_and_none_leaves_it(logger: logging.Logger):
    logger.setLevel(logging.CRITICAL)
    async with open_runtime(config=config()):
        assert logger.level == logging.CRITICAL
    async with open_runtime(config=config(log_level="debug")):
        assert logger.level == logging.DEBUG


async def test_the_users_own_transport_is_used_and_left_open():
    own = Own()
    assert make_transport(config(http_client=own)) is own
    async with open_runtime(config=config(http_client=own)):
        pass
    assert not own.closed


def test_a_transport_can_be_named():
    assert make_transport(config(http_client=f"{__name__}:shared")) is shared
    assert isinstance(make_transport(config(http_client=f"{__name__}:Own")), Own)
    assert isinstance(make_transport(config()), HttpTransport)


@pytest.mark.parametrize("name", ["no_such_module:x", f"{__name__}:nothing", "math:pi", "os:getcwd", "a b"])
def test_a_name_that_leads_to_no_transport(name: str):
    with pytest.raises(InvalidInput, match="http_client"):
        make_transport(config(http_client=name))


def test_the_number_of_connections_follows_size_and_count():
    assert pool_limits(config()) == {}
    assert pool_limits(config(pool_size=50)) == {"sample": 1000, "poll": 250}
    assert pool_limits(config(pool_size=1, pool_count=1)) == {"sample": 1, "poll": 1}
