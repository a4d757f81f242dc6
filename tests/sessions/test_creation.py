"""What the server is told when a session is created, and what it isn't."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tests.clients.odd_server import ask
from tinker_actors import InvalidInput
from tinker_actors.runtime import Runtime


def created(asked: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(body) for name, body in asked if name == "create_session"]


def test_the_project_is_the_configurations_or_the_sessions_own():
    async def story(runtime: Runtime) -> None:
        await runtime.create_service_client()
        await runtime.create_service_client(project_id="other")

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked, project_id="proj-1")
    assert [body["project_id"] for body in created(asked)] == ["proj-1", "other"]


def test_without_a_project_none_is_named():
    async def story(runtime: Runtime) -> None:
        with pytest.raises(InvalidInput, match="project_id"):
            await runtime.create_service_client(project_id="  ")
        await runtime.create_service_client()

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    (body,) = created(asked)
    assert "project_id" not in body


def test_tags_and_metadata_go_with_it():
    async def story(runtime: Runtime) -> None:
        await runtime.create_service_client(user_metadata={"b": "2"})
        await runtime.create_service_client(tags=("mine",))

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked, tags=("ours",), user_metadata={"a": "1", "b": "1"})
    first, second = created(asked)
    assert (first["tags"], first["user_metadata"]) == (["ours"], {"a": "1", "b": "2"})
    assert (second["tags"], second["user_metadata"]) == (["mine"], {"a": "1", "b": "1"})
    assert first["sdk_version"] == "0.38.0"


@pytest.mark.parametrize("enabled", [True, False])
def test_telemetry_is_sent_where_it_is_enabled(enabled: bool):
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        await trio.sleep(60)
        await service.aclose()

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked, telemetry_enabled=enabled)
    names = [name for name, _ in asked]
    assert "session_heartbeat" in names
    assert ("telemetry" in names) is enabled


@pytest.mark.parametrize("field", ["info_message", "warning_message", "error_message"])
def test_what_the_server_says_of_a_session_is_logged(field: str, caplog: pytest.LogCaptureFixture):
    async def story(runtime: Runtime) -> None:
        await runtime.create_service_client()

    caplog.set_level("INFO", "tinker_actors")
    ask(story, {"create_session": {"session_id": "s", field: "read the news"}})
    levels = [record.levelname for record in caplog.records if "read the news" in record.getMessage()]
    assert levels == [field.partition("_")[0].upper()]
