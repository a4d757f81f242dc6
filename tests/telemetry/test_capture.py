"""capture_exceptions: what leaves a block or a function is recorded, and goes on its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.telemetry.reporting import Planted, names, report, reported, telemetry_of
from tinker_actors import capture_exceptions
from tinker_actors.clients import ServiceClient
from tinker_actors.errors import InvalidInput
from tinker_actors.telemetry import Telemetry, TelemetryProvider
from tinker_actors.testing.faults import Delay
from tinker_actors.testing.operations import BASE_MODEL, start_client
from tinker_actors.testing.simulation import World


class Own(TelemetryProvider):
    """Has no telemetry of its own."""


class Lent(TelemetryProvider):
    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    def get_telemetry(self) -> Telemetry:
        return self.telemetry


def fails(error: BaseException) -> Any:
    raise error


async def fails_later(error: BaseException) -> Any:
    await trio.sleep(1)
    raise error


async def in_block(capture: Any, error: BaseException) -> Any:
    with capture:
        fails(error)


async def in_async_block(capture: Any, error: BaseException) -> Any:
    async with capture:
        await fails_later(error)


async def in_function(capture: Any, error: BaseException) -> Any:
    return capture(fails)(error)


async def in_async_function(capture: Any, error: BaseException) -> Any:
    return await capture(fails_later)(error)


WAYS = pytest.mark.parametrize("way", [in_block, in_async_block, in_function, in_async_function])
Way = Callable[[Any, BaseException], Awaitable[Any]]


def told(way: Way, error: BaseException, **options: Any) -> list[dict[str, Any]]:
    async def story(world: World, service: ServiceClient):
        with pytest.raises(type(error)) as caught:
            await way(capture_exceptions(service, **options), error)
        assert caught.value is error
        await telemetry_of(service).flush()
        return [dict(event.fields) for event in reported(world, service)[1:]]

    return report(story).value


@WAYS
def test_an_exception_is_recorded_once_and_raised_on_unchanged(way: Way):
    (event,) = told(way, Planted("it broke"))
    assert (event["event"], event["error_message"], event["severity"]) == ("UNHANDLED_EXCEPTION", "it broke", "ERROR")
    assert "Planted" in event["traceback"]


@WAYS
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), ExceptionGroup("g", [KeyError("k")])], ids=repr
)
def test_the_ends_of_programs_and_groups_are_recorded_too(way: Way, error: BaseException):
    (event,) = told(way, error)
    assert event["error_type"] == type(error).__name__


@WAYS
def test_a_severity_of_one_s_own(way: Way):
    (event,) = told(way, Planted("it broke"), severity="critical")
    assert event["severity"] == "CRITICAL"


@WAYS
def test_a_fatal_one_is_sent_at_once_and_ends_no_session(way: Way):
    async def story(world: World, service: ServiceClient):
        with pytest.raises(Planted):
            await way(capture_exceptions(service, fatal=True), Planted("fatal"))
        await trio.sleep(0.5)
        return names(world, service)

    assert report(story).value == ["SESSION_START", "UNHANDLED_EXCEPTION"]


@WAYS
def test_without_telemetry_it_is_only_raised_on(way: Way):
    async def story(world: World, service: ServiceClient):
        error = Planted("it broke")
        for provider in (None, service, Own()):
            with pytest.raises(Planted) as caught:
                await way(capture_exceptions(provider, fatal=True), error)
            assert caught.value is error

    report(story, telemetry_enabled=False)


async def test_what_returns_returns_its_value(autojump_clock: object):
    capture = capture_exceptions(None)

    @capture
    def add(one: int, *, two: int) -> int:
        """Adds."""
        return one + two

    @capture
    async def later(one: int) -> int:
        await trio.sleep(1)
        return one

    assert add(1, two=2) == 3
    assert await later(4) == 4
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    with capture:
        pass
    async with capture:
        pass


def test_an_async_block_waits_for_the_fatal_event_within_a_bound_and_keeps_its_exception():
    async def story(world: World, service: ServiceClient):
        began = trio.current_time()
        with pytest.raises(Planted), trio.move_on_after(3):
            async with capture_exceptions(service, fatal=True):
                raise Planted
        return trio.current_time() - began

    assert 5 <= report(story, Delay(path="/telemetry", seconds=1000, times=9)).value < 6


def test_a_cancellation_is_nothing_to_report():
    async def story(world: World, service: ServiceClient):
        with trio.move_on_after(1):
            async with capture_exceptions(service):
                await trio.sleep_forever()
        with trio.move_on_after(1):
            with capture_exceptions(service):
                await trio.sleep_forever()

        async def one(error: Exception | None) -> None:
            if error is not None:
                raise error
            await trio.sleep_forever()

        with pytest.raises(ExceptionGroup):
            async with capture_exceptions(service), trio.open_nursery() as nursery:
                nursery.start_soon(one, None)
                nursery.start_soon(one, Planted("alone"))

        def numbers():
            with capture_exceptions(service):
                yield 1
                yield 2

        running = numbers()
        next(running)
        running.close()
        await telemetry_of(service).flush()
        return reported(world, service)[1:]

    (event,) = report(story).value
    assert event.fields["error_type"] == "ExceptionGroup"
    assert "Planted: alone" in event.fields["traceback"]


def test_what_can_not_be_recorded_does_not_hide_the_exception(caplog: pytest.LogCaptureFixture):
    class Broken(TelemetryProvider):
        def get_telemetry(self) -> Telemetry:
            raise OSError("no telemetry")

    with pytest.raises(Planted), capture_exceptions(Broken()):
        raise Planted
    assert "could not be recorded" in caplog.text


def test_from_a_thread_the_exception_comes_out_as_it_is(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient):
        return telemetry_of(service)

    telemetry = report(story).value
    with pytest.raises(Planted), capture_exceptions(telemetry, fatal=True):
        raise Planted
    assert "outside of trio" in caplog.text


def test_all_clients_are_providers_and_what_derives_from_the_provider_has_none_by_default():
    async def story(world: World, service: ServiceClient):
        client = await start_client(service)
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        telemetry = telemetry_of(service)
        for number, provider in enumerate((service, client, sampler, Lent(telemetry), telemetry)):
            with pytest.raises(Planted), capture_exceptions(provider):
                raise Planted(str(number))
        await telemetry.flush()
        return [event.fields["error_message"] for event in reported(world, service)[1:]]

    assert Own().get_telemetry() is None
    assert report(story).value == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"provider": "text"}, "provider"),
        ({"provider": object()}, "provider"),
        ({"provider": None, "fatal": 1}, "fatal"),
        ({"provider": None, "severity": "loud"}, "severity"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(given: dict[str, Any], field: str):
    with pytest.raises(InvalidInput, match=field):
        capture_exceptions(**given)


def test_a_generator_is_not_decorated():
    async def stream():
        yield 1

    def numbers():
        yield 1

    for function in (stream, numbers):
        with pytest.raises(InvalidInput, match="generator"):
            capture_exceptions(None)(function)
