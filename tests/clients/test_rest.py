"""The REST client against the local server: what the caller has there, asked for and changed."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from supervision import ActorDown
from tests.clients.odd_server import ask
from tests.clients.scenario import train
from tests.runtime.test_crash_table import crash
from tinker_actors import gather
from tinker_actors.clients import RestClient, ServiceClient, TrainingClient
from tinker_actors.errors import (
    ClosedError,
    ConflictError,
    InvalidInput,
    NotFoundError,
    OperationCancelled,
    RequestFailedError,
    ServiceUnavailableError,
)
from tinker_actors.runtime import Runtime
from tinker_actors.testing.faults import DropAfter, DropBefore, Status
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import (
    Checkpoint,
    GetSessionResponse,
    SessionActive,
    SessionSearchRequest,
    TinkerPath,
    TrainingRun,
)

T = TypeVar("T")
GONE = "tinker://nobody:train:0/weights/none"


def rest(story: Callable[[World, RestClient, TrainingClient], Awaitable[T]], *faults: Any) -> Outcome[T]:
    """Run ``story`` with a REST client, and a model beside it, under ``faults``."""

    async def scenario(world: World, service: ServiceClient, client: TrainingClient) -> T:
        return await story(world, await world.runtime.create_rest_client(), client)

    return train(scenario, *faults)


async def saved(client: TrainingClient, name: str = "kept") -> str:
    return (await (await client.save_state(name))).path


def test_training_runs_are_listed_part_by_part():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        service = await world.runtime.create_service_client(project_id="other")
        second = await service.create_lora_training_client(BASE_MODEL, rank=3, user_metadata={"k": "v"})
        runs = await mine.list_training_runs()
        assert [run.training_run_id for run in runs.training_runs] == [second.model_id, client.model_id]
        assert (runs.cursor.total_count, runs.cursor.next_offset) == (2, None)
        part = await mine.list_training_runs(limit=1, offset=1)
        assert [run.training_run_id for run in part.training_runs] == [client.model_id]
        (there,) = (await mine.list_training_runs(project_id="other")).training_runs
        assert isinstance(there, TrainingRun)
        assert (there.training_run_id, there.lora_rank, there.user_metadata) == (second.model_id, 3, {"k": "v"})
        assert await mine.get_training_run(second.model_id) == there
        path = await saved(client)
        found = await mine.get_training_run_by_tinker_path(path)
        assert (found.training_run_id, found.last_checkpoint and found.last_checkpoint.tinker_path) == (
            client.model_id,
            path,
        )

    rest(story)


def test_sessions_are_listed_looked_at_searched_and_put_into_projects():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        service = await world.runtime.create_service_client(user_metadata={"who": "me"})
        assert (await mine.list_sessions()).sessions[0] == service.session_id
        assert len((await mine.list_sessions(limit=1)).sessions) == 1
        assert await mine.get_session(service.session_id) == GetSessionResponse(
            training_run_ids=(), sampler_ids=(), user_metadata={"who": "me"}
        )
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        model = await service.create_lora_training_client(BASE_MODEL, rank=2)
        now = await mine.get_session(service.session_id)
        assert (now.training_run_ids, now.sampler_ids) == ((model.model_id,), (sampler.sampling_session_id,))
        await mine.assign_session_project(service.session_id, "mine")
        found = await mine.search_sessions(SessionSearchRequest(project_ids=("mine",)))
        (summary,) = found.sessions
        assert (summary.session_id, summary.project_id) == (service.session_id, "mine")
        assert isinstance(summary.status, SessionActive)
        what = await mine.get_sampler(sampler.sampling_session_id)
        assert (what.sampler_id, what.base_model, what.model_path) == (
            sampler.sampling_session_id,
            BASE_MODEL,
            None,
        )

    rest(story)


def test_checkpoints_are_listed_described_and_found_as_files():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        assert (await mine.list_checkpoints(client.model_id)).checkpoints == ()
        path = await saved(client)
        other = await (await client.save_weights_for_sampler("sampled"))
        (first, second) = (await mine.list_checkpoints(client.model_id)).checkpoints
        assert isinstance(first, Checkpoint)
        assert {first.tinker_path, second.tinker_path} == {path, other.path}
        everything = await mine.list_user_checkpoints()
        assert len(everything.checkpoints) == 2
        assert everything.cursor is not None
        assert (everything.cursor.limit, everything.cursor.offset) == (100, 0)
        assert len((await mine.list_user_checkpoints(limit=1, offset=1)).checkpoints) == 1
        info = await mine.get_weights_info_by_tinker_path(path)
        assert (info.base_model, info.is_lora, info.lora_rank) == (BASE_MODEL, True, 2)
        by_path = await mine.get_checkpoint_archive_url(path)
        by_ids = await mine.get_checkpoint_archive_url(client.model_id, "weights/kept")
        alias = await mine.get_checkpoint_archive_url_by_tinker_path(path)
        for found in (by_path, by_ids, alias):
            assert "weights/kept" in found.url
            assert found.expires is not None

    rest(story)


def test_checkpoints_are_published_kept_for_a_time_and_deleted():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        paths = [await saved(client, name) for name in "abcd"]

        async def listed() -> dict[str, Checkpoint]:
            return {one.tinker_path: one for one in (await mine.list_checkpoints(client.model_id)).checkpoints}

        for publish, unpublish in (
            (mine.publish_checkpoint, mine.unpublish_checkpoint),
            (mine.publish_checkpoint_from_tinker_path, mine.unpublish_checkpoint_from_tinker_path),
        ):
            await publish(paths[0])
            assert (await listed())[paths[0]].public
            began = trio.current_time()
            with pytest.raises(ConflictError, match="public already"):
                await publish(paths[0])
            assert trio.current_time() - began < 1.0  # told at once
            await unpublish(paths[0])
            assert not (await listed())[paths[0]].public
        await mine.set_checkpoint_ttl_from_tinker_path(paths[0], 60)
        assert (await listed())[paths[0]].expires_at is not None
        await mine.set_checkpoint_ttl_from_tinker_path(paths[0], None)
        assert (await listed())[paths[0]].expires_at is None
        await mine.delete_checkpoint(client.model_id, "weights/a")
        await mine.delete_checkpoint(paths[1])
        await mine.delete_checkpoint_from_tinker_path(paths[2])
        await mine.delete_checkpoint_by_tinker_path(paths[3])
        assert await listed() == {}
        with pytest.raises(NotFoundError):
            await mine.delete_checkpoint(paths[0])

    rest(story)


def test_weights_are_copied_to_a_project_once_whatever_is_lost():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        path = await saved(client)
        copy = await mine.copy_weights(path, "elsewhere")
        (run,) = (await mine.list_training_runs(project_id="elsewhere")).training_runs
        assert TinkerPath.parse(copy).run == run.training_run_id
        assert (await mine.get_weights_info_by_tinker_path(copy)).lora_rank == 2

    outcome = rest(story, DropAfter(path="/copy_weights"))
    assert len(outcome.fired) == 1


@pytest.mark.parametrize("action", ["delete_checkpoint", "publish_checkpoint"])
def test_a_change_whose_answer_was_lost_counts_as_done(action: str):
    async def story(world: World, mine: RestClient, client: TrainingClient) -> int:
        path = await saved(client)
        await getattr(mine, action)(path)
        checkpoints = (await mine.list_checkpoints(client.model_id)).checkpoints
        return sum(not one.public for one in checkpoints)

    end = "/weights/kept" if action == "delete_checkpoint" else "/publish"
    outcome = rest(story, DropAfter(path=end))
    assert (outcome.value, len(outcome.fired)) == (0, 1)


def test_what_may_pass_is_asked_again_and_what_may_not_is_told():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        assert len((await mine.list_training_runs()).training_runs) == 1
        for call in (
            lambda: mine.get_training_run("nobody:train:0"),
            lambda: mine.get_session("nobody"),
            lambda: mine.get_sampler("nobody:sample:0"),
            lambda: mine.get_weights_info_by_tinker_path(GONE),
            lambda: mine.list_checkpoints("nobody:train:0"),
            lambda: mine.get_checkpoint_archive_url(GONE),
            lambda: mine.publish_checkpoint(GONE),
            lambda: mine.set_checkpoint_ttl_from_tinker_path(GONE, 60),
        ):
            with pytest.raises(NotFoundError):
                await call()

    faults = [Status(path="/training_runs", nth=n, status=status) for n, status in ((1, 503), (2, 429), (3, 408))]
    assert len(rest(story, *faults, DropBefore(path="/training_runs", nth=4)).fired) == 4


def test_an_archive_that_is_being_made_is_asked_for_again():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        path, began = await saved(client), trio.current_time()
        await mine.get_checkpoint_archive_url(path, retry_delay=50.0)
        assert 50.0 <= trio.current_time() - began < 55.0
        with pytest.raises(ServiceUnavailableError):
            await mine.get_checkpoint_archive_url(path, max_tries=2)
        assert 80.0 <= trio.current_time() - began < 90.0

    outcome = rest(story, Status(path="/archive", status=503), Status(path="/archive", nth=3, times=9, status=503))
    assert len(outcome.fired) == 3


def test_a_trace_is_waited_for_and_one_that_can_not_be_made_is_an_error():
    looks: list[dict[str, str]] = [{"status": "pending"}] * 3 + [{"status": "ready", "url": "https://x/trace"}]
    looks += [{"status": "failed", "error": "no trace of it"}]

    async def story(runtime: Runtime) -> None:
        mine = await runtime.create_rest_client()
        began = trio.current_time()
        assert await mine.export_session_trace("session") == "https://x/trace"
        assert 15.0 <= trio.current_time() - began < 16.0
        with pytest.raises(RequestFailedError, match="no trace of it"):
            await mine.export_session_trace("session")

    ask(story, _Answers({"sessions/session/trace_export": looks}))


def test_administrators_see_usage_storage_and_the_log():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        await saved(client)
        entries = (await mine.get_audit_log("checkpoints")).entries
        assert len(entries) == 1
        storage = await mine.get_current_checkpoint_storage_usage()
        assert sum(row.checkpoint_count for row in storage.data) == 1
        hour = entries[0].timestamp.replace(minute=0, second=0, microsecond=0)
        until = hour + datetime.timedelta(hours=1)
        usage = await mine.get_billing_usage(hour, until)
        assert usage.data
        again = await mine.get_billing_usage(hour.isoformat(), until.isoformat())
        assert [event.bucket_start for event in again.data] == [event.bucket_start for event in usage.data]
        assert (await mine.get_server_capabilities()).model_names
        assert (await mine.whoami()).key_id >= 0

    rest(story)


def test_every_call_has_a_twin_that_takes_the_same_and_gives_a_future_of_the_same():
    names = [name for name in dir(RestClient) if not name.startswith("_") and name not in ("aclose", "config")]
    calls = {name for name in names if inspect.iscoroutinefunction(getattr(RestClient, name))}
    assert len(calls) == 30
    for name in calls:
        plain, twin = getattr(RestClient, name), getattr(RestClient, f"{name}_async")
        assert not inspect.iscoroutinefunction(twin)
        given, wanted = inspect.signature(twin), inspect.signature(plain)
        assert given.parameters == wanted.parameters, name
        assert given.return_annotation == f"Future[{wanted.return_annotation}]", name


def test_every_twin_gives_what_its_call_gives():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        path, other = await saved(client), await saved(client, "other")
        session = client.model_id.partition(":")[0]
        hour = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        questions: dict[str, tuple[Any, ...]] = {
            "list_training_runs": (),
            "get_training_run": (client.model_id,),
            "get_training_run_by_tinker_path": (path,),
            "list_sessions": (),
            "get_session": (session,),
            "search_sessions": (SessionSearchRequest(),),
            "list_checkpoints": (client.model_id,),
            "list_user_checkpoints": (),
            "get_weights_info_by_tinker_path": (path,),
            "get_server_capabilities": (),
            "whoami": (),
            "get_audit_log": (),
            "get_current_checkpoint_storage_usage": (),
            "get_billing_usage": (hour, hour + datetime.timedelta(hours=1)),
        }
        futures = {name: getattr(mine, f"{name}_async")(*given) for name, given in questions.items()}
        assert not any(future.done() for future in futures.values())
        await gather(futures.values())  # all at a time
        for name, given in questions.items():
            assert await futures[name] == await getattr(mine, name)(*given), name
        for name in ("get_checkpoint_archive_url", "get_checkpoint_archive_url_by_tinker_path"):
            assert "/kept/" in (await getattr(mine, f"{name}_async")(path)).url
        assert await mine.assign_session_project_async(session, "p") is None
        for publish in (mine.publish_checkpoint_async, mine.publish_checkpoint_from_tinker_path_async):
            await publish(path)
            with pytest.raises(ConflictError):
                await publish(path)
            hide = publish.__name__.replace("publish", "unpublish")
            assert await getattr(mine, hide)(path) is None
        assert await mine.set_checkpoint_ttl_from_tinker_path_async(path, 60) is None
        assert (await mine.copy_weights_async(path, "p")).startswith("tinker://")
        assert await mine.delete_checkpoint_async(path) is None
        assert await mine.delete_checkpoint_by_tinker_path_async(other) is None
        for twin in (mine.delete_checkpoint_from_tinker_path_async, mine.delete_checkpoint_async):
            with pytest.raises(NotFoundError):
                await twin(path)
        assert (
            await (await world.runtime.create_rest_client_async()).list_sessions() == await futures["list_sessions"]
        )

    rest(story)


def test_external_weights_have_urls():
    path = "tinker://r/external_weights/e"
    urls = {"urls": {"a/b.safetensors": "https://x/b"}, "expires": "2026-01-31T15:00:00Z"}

    async def story(runtime: Runtime) -> None:
        mine = await runtime.create_rest_client()
        for found in (await mine.get_external_weights_urls(path), await mine.get_external_weights_urls_async(path)):
            assert found.urls == urls["urls"]
        with pytest.raises(InvalidInput, match="external weights are due"):
            await mine.get_external_weights_urls("tinker://r/weights/e")

    ask(story, {"training_runs/r/checkpoints/external_weights/e/external_weights_urls": urls})


def test_an_empty_account_is_no_error():
    async def story(runtime: Runtime) -> None:
        mine = await runtime.create_rest_client()
        assert (await mine.list_sessions()).sessions == ()
        assert (await mine.list_checkpoints("r")).checkpoints == ()
        assert (await mine.list_user_checkpoints()).checkpoints == ()

    ask(
        story,
        {
            "sessions": {"sessions": []},
            "training_runs/r/checkpoints": {"checkpoints": [], "cursor": None},
            "checkpoints": {"checkpoints": []},
        },
    )


BAD: dict[str, Callable[[RestClient], Any]] = {
    "limit": lambda mine: mine.list_training_runs_async(limit=-1),
    "limit of the wrong type": lambda mine: mine.list_sessions_async(limit=1.5),  # type: ignore[arg-type]
    "offset": lambda mine: mine.list_user_checkpoints_async(offset=True),
    "access_scope": lambda mine: mine.get_session_async("s", "mine"),  # type: ignore[arg-type]
    "access_scope of a run": lambda mine: mine.get_training_run_async("r", None),  # type: ignore[arg-type]
    "training_run_id": lambda mine: mine.get_training_run_async(""),
    "training_run_id that leads upwards": lambda mine: mine.list_checkpoints_async(".."),
    "training_run_id with a slash": lambda mine: mine.delete_checkpoint_async("a/b", "weights/c"),
    "session_id": lambda mine: mine.export_session_trace_async(3),  # type: ignore[arg-type]
    "sampler_id": lambda mine: mine.get_sampler_async(b"id"),  # type: ignore[arg-type]
    "project_id": lambda mine: mine.assign_session_project_async("s", ""),
    "project_id of a listing": lambda mine: mine.get_current_checkpoint_storage_usage_async(""),
    "request": lambda mine: mine.search_sessions_async({}),  # type: ignore[arg-type]
    "tinker_path": lambda mine: mine.publish_checkpoint_async("weights/a"),
    "tinker_path of a run": lambda mine: mine.get_training_run_by_tinker_path_async("tinker://"),
    "tinker_path of two parts": lambda mine: mine.get_weights_info_by_tinker_path_async("tinker://r/a"),
    "training_run_id without a checkpoint_id": lambda mine: mine.get_checkpoint_archive_url_async("run"),
    "checkpoint_id": lambda mine: mine.get_checkpoint_archive_url_async("run", "other/a"),
    "checkpoint_id that leads upwards": lambda mine: mine.delete_checkpoint_async("run", "../a"),
    "max_tries": lambda mine: mine.get_checkpoint_archive_url_async(GONE, max_tries=0),
    "retry_delay": lambda mine: mine.get_checkpoint_archive_url_async(GONE, retry_delay=float("nan")),
    "ttl_seconds": lambda mine: mine.set_checkpoint_ttl_from_tinker_path_async(GONE, 0),
    "ttl_seconds of the wrong type": lambda mine: mine.set_checkpoint_ttl_from_tinker_path_async(GONE, "1 h"),  # type: ignore[arg-type]
    "destination_project_id": lambda mine: mine.copy_weights_async(GONE, None),  # type: ignore[arg-type]
    "source_path": lambda mine: mine.copy_weights_async("/etc/passwd", "p"),
    "event_type": lambda mine: mine.get_audit_log_async("none"),  # type: ignore[arg-type]
    "day": lambda mine: mine.get_audit_log_async("all", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
    "starting_on": lambda mine: mine.get_billing_usage_async("soon", "later"),
    "ending_before": lambda mine: mine.get_billing_usage_async("2026-01-02", "2026-01-01"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_value_is_refused_at_the_call_and_nothing_is_sent(what: str):
    asked: list[tuple[str, bytes]] = []

    async def story(runtime: Runtime) -> None:
        mine = await runtime.create_rest_client()
        with pytest.raises(InvalidInput, match=what.split(maxsplit=1)[0]):
            BAD[what](mine)
        await mine.list_sessions()

    ask(story, {"sessions": {"sessions": []}}, asked=asked)
    assert [name for name, _ in asked] == ["client/config", "sessions"]


def test_a_closed_one_says_so_and_others_go_on():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        other = await world.runtime.create_rest_client()
        async with mine:
            slow = mine.list_sessions_async()
            assert slow.cancel()
            with pytest.raises(OperationCancelled):
                await slow
        await mine.aclose()
        for call in (mine.list_sessions, lambda: mine.get_sampler_async("s")):
            with pytest.raises(ClosedError):
                await call()
        assert await other.list_sessions()
        node = world.runtime.tree().find("runtime/rest")
        assert node is not None
        assert [child.path for child in node.children] == ["runtime/rest/rest-1"]

    rest(story)


def test_one_of_a_service_client_knows_its_session_and_outlives_it():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        first, second = await service.create_rest_client(), await service.create_rest_client_async()
        assert {first.session_id, second.session_id} == {service.session_id}
        assert first.config is service.config
        assert (await world.runtime.create_rest_client()).session_id is None
        await service.close()
        (summary,) = (await first.search_sessions(SessionSearchRequest())).sessions
        assert summary.session_id == service.session_id

    train(story)


def test_a_restart_of_its_actor_is_not_felt_by_who_asks_afterwards():
    async def story(world: World, mine: RestClient, client: TrainingClient) -> None:
        before = await mine.list_sessions()
        failed = mine.get_session_async(before.sessions[0])
        await trio.testing.wait_all_tasks_blocked()
        crash(world, "runtime/rest/rest-0")
        with pytest.raises(ActorDown):
            await failed
        assert await mine.list_sessions() == before

    rest(story)


class _Answers(dict[str, Any]):
    """Gives each endpoint's answers one after another."""

    def get(self, key: str, default: Any = None) -> Any:
        left = super().get(key)
        return default if left is None else left.pop(0)
