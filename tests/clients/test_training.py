"""The training client through the whole simulated stack: what each event does to an accepted operation."""

from __future__ import annotations

import numpy as np
import pytest
import trio

from supervision import ActorDegraded, ActorRestarted
from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import (
    AuthenticationError,
    BadRequestError,
    BillingError,
    ClosedError,
    ConflictError,
    InvalidInput,
    LaneStopped,
    ModelLost,
    OperationCancelled,
    OutageError,
    PermissionDeniedError,
    WaitTimeout,
)
from tinker_actors.flow.bytes_semaphore import BytesSemaphore
from tinker_actors.ledger import Future
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import CrashAt, Delay, DropAfter, DropBefore, Status
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, Datum, ForwardBackwardOutput, ModelInput, TensorData

FOREVER = 10_000


async def two_steps(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
    losses: list[float] = []
    for _ in range(2):
        step = await client.forward_backward(batch(1, 2))
        update = await client.optim_step(AdamParams(learning_rate=0.01))
        losses.append((await step).metrics["loss:sum"])
        await update
    return losses


def digests(outcome) -> tuple[list[str], list[str]]:
    (model,) = outcome.models
    return [d for o in model.accepted for d in o.digests], [o.digest for o in model.applied]


def test_a_step_changes_the_loss():
    outcome = train(two_steps)

    assert outcome.value[1] < outcome.value[0]
    accepted, applied = digests(outcome)
    assert len(applied) == 4
    assert applied == accepted


@pytest.mark.parametrize("point", ["training.before_send", "training.sent", "training.polling", "training.decoded"])
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_crash_at_any_point_is_mended(point: str, nth: int):
    undisturbed = train(two_steps)
    outcome = train(two_steps, CrashAt(point=point, nth=nth))

    assert len(outcome.fired) == 1
    assert sum(isinstance(event, ActorRestarted) for event in outcome.events) == 1
    assert outcome.value == undisturbed.value
    assert outcome.models[0].digest == undisturbed.models[0].digest
    accepted, applied = digests(outcome)
    assert applied == accepted


def test_many_crashes_end_this_client_with_a_verdict_and_no_other():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        other = await service.create_lora_training_client(BASE_MODEL, rank=2)
        future = await client.optim_step(AdamParams())
        with pytest.raises(LaneStopped, match="crashed too often") as gone:
            await future
        assert "injected at training.before_send" in str(gone.value)
        with pytest.raises(LaneStopped, match="not accepted"):
            await client.optim_step(AdamParams())
        assert service.state == "active"
        await other.save_state("alive")  # accepted

    crashes = [CrashAt(point="training.before_send", nth=n) for n in range(1, 12)]
    outcome = train(story, *crashes)
    assert sum(isinstance(event, ActorDegraded) for event in outcome.events) == 1


def test_operations_cancelled_before_the_send_are_never_sent():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        first = await client.forward_backward(batch(1))
        second = client.optim_step_async(AdamParams())
        assert second.cancel()
        with pytest.raises(OperationCancelled):
            await second
        await first

    outcome = train(story)
    accepted, applied = digests(outcome)
    assert applied == accepted[:1]


def test_a_refused_operation_fails_alone_and_its_numbers_are_filled():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        refused = await client.optim_step(AdamParams())
        behind = await client.save_state("after")
        with pytest.raises(BadRequestError, match="HTTP 400"):
            await refused
        assert (await behind).path.endswith("/weights/after")

    outcome = train(story, Status(path="/optim_step", status=400))
    kinds = [operation.kind for operation in outcome.models[0].applied]
    assert kinds == ["forward", "save_state"]


def test_a_bad_gateway_in_front_of_the_poll_is_asked_again():
    undisturbed = train(two_steps)
    for status in (400, 408, 429, 500, 503):
        outcome = train(two_steps, Status(path="/retrieve_future", nth=2, status=status, times=2))
        assert outcome.models[0].digest == undisturbed.models[0].digest


@pytest.mark.parametrize(("status", "error"), [(403, PermissionDeniedError), (404, ModelLost), (410, ModelLost)])
def test_what_cannot_be_mended_stops_the_lane_with_one_error(status: int, error: type[Exception]):
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        first = await client.forward_backward(batch(1))
        second = await client.optim_step(AdamParams())
        with pytest.raises(error) as one:
            await first
        with pytest.raises(error) as other:
            await second
        assert one.value is other.value
        with pytest.raises(LaneStopped, match="not accepted"):
            await client.optim_step(AdamParams())

    train(story, Status(path="/forward_backward", status=status))


def test_a_refused_key_halts_the_lane_until_it_is_mended():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        future = await client.forward_backward(batch(1))
        with pytest.raises(WaitTimeout, match=r"halted.*401"):
            await future.result(timeout=60)
        assert ["halted" in str(row) for row in world.runtime.pending()] == [True]
        with pytest.raises(LaneStopped, match="is halted"):
            await client.optim_step(AdamParams())
        world.runtime.renew_api_key("tml-another")
        await future
        await (await client.optim_step(AdamParams()))

    outcome = train(story, Status(path="/forward_backward", status=401, times=2))
    accepted, applied = digests(outcome)
    assert applied == accepted
    assert len(applied) == 2


def test_a_refused_key_while_polling_keeps_the_promise():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        future = await client.forward_backward(batch(1))
        with pytest.raises(WaitTimeout, match=r"halted.*401"):
            await future.result(timeout=60)
        world.runtime.renew_api_key("tml-another")
        await future

    outcome = train(story, Status(path="/retrieve_future", nth=2, status=401, times=2))
    assert len(outcome.models[0].applied) == 1


def test_a_renewed_key_must_be_a_key():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        with pytest.raises(InvalidInput, match="tml-"):
            world.runtime.renew_api_key("secret")

    train(story)


def test_billing_pauses_for_as_long_as_the_server_says():
    undisturbed = train(two_steps)
    outcome = train(two_steps, Status(path="/optim_step", status=402, times=20))
    assert outcome.models[0].digest == undisturbed.models[0].digest

    async def story(world: World, service: ServiceClient, client: TrainingClient):
        started = trio.current_time()
        with pytest.raises(BillingError):
            await (await client.optim_step(AdamParams()))
        assert 3600 <= trio.current_time() - started < 3700

    train(story, Status(path="/optim_step", status=402, times=FOREVER))


def test_an_outage_ends_in_one_error_with_the_list_of_what_waits():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        futures = [await client.forward_backward(batch(1)), await client.optim_step(AdamParams())]
        world.network.partition()
        errors = []
        for future in futures:
            with pytest.raises(OutageError) as gone:
                await future
            errors.append(gone.value)
        assert errors[0] is errors[1]
        assert any("#1 forward_backward" in line for line in errors[0].pending)
        assert any("#2 optim_step" in line for line in errors[0].pending)
        world.network.heal()

    outcome = train(story, outage_bound=120.0)
    assert 100 < outcome.seconds < 400


def test_a_short_outage_is_only_a_delay():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        step = await client.forward_backward(batch(1, 2))
        update = await client.optim_step(AdamParams(learning_rate=0.01))
        world.network.partition()
        await trio.sleep(100)
        world.network.heal()
        await step
        await update

    accepted, applied = digests(train(story))
    assert applied == accepted


def test_closing_ends_what_is_unfinished(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        world.network.partition()
        future, *_ = [await client.optim_step(AdamParams()) for _ in range(4)]
        await client.aclose()
        with pytest.raises(ClosedError):
            await future
        with pytest.raises(ClosedError):
            await client.optim_step(AdamParams())
        await client.aclose()
        world.network.heal()

    train(story)
    # for a program that forgot to await them
    (said,) = [record.getMessage() for record in caplog.records if "was closed before" in record.getMessage()]
    assert said == (
        "session-0/training-0 was closed before these had a result: optim_step #1, optim_step #2, optim_step #3 and "
        "1 more. Await their Futures first"
    )


def test_a_client_that_waits_for_its_restart_can_be_closed():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        future = await client.optim_step(AdamParams())
        while not world.points.fired:  # noqa: ASYNC110  # points have no event
            await trio.sleep(0.001)
        await client.aclose()
        with pytest.raises(ClosedError):
            await future

    train(story, CrashAt(point="training.before_send", nth=1))


def test_chunks_travel_together_and_come_back_in_order():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        data = batch(*range(7))
        output = await (await client.forward_backward(data))
        assert [len(record["logprobs"].to_numpy()) for record in output.loss_fn_outputs] == [
            datum.model_input.length for datum in data
        ]
        alone = [await (await client.forward([datum])) for datum in data]
        assert output.metrics["loss:sum"] == pytest.approx(sum(one.metrics["loss:sum"] for one in alone), rel=1e-5)

    for parallel in (True, False):
        settings = ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2, parallel_fwdbwd_chunks=parallel)
        outcome = train(story, settings=settings)
        assert [operation.seq_id for operation in outcome.models[0].applied][:4] == [1, 2, 3, 4]


def test_so_many_bytes_of_a_batch_are_sent_at_once():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        budget = service._session.limits.training = BytesSemaphore(0)  # one at a time, whatever its size
        async with trio.open_nursery() as nursery:

            async def step() -> None:
                await (await client.forward_backward(batch(*range(8))))

            nursery.start_soon(step)
            await trio.sleep(1.0)
            now = budget.statistics()
            assert now.held > 0
            assert now.waiting == 2  # of four chunks the first is sent last
        assert budget.statistics().held == 0

    settings = ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2)
    train(story, Delay(path="/forward_backward", seconds=5.0), settings=settings)


def test_a_state_can_be_saved_and_loaded():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        saved = await (await client.save_state("start"))
        before = (await (await client.forward(batch(1)))).metrics["loss:sum"]
        await two_steps(world, service, client)
        assert (await (await client.forward(batch(1)))).metrics["loss:sum"] != before
        await (await client.load_state_with_optimizer(saved.path))
        assert (await (await client.forward(batch(1)))).metrics["loss:sum"] == before

    train(story)


@pytest.mark.parametrize("kind", ["save_weights", "save_weights_for_sampler"])
def test_a_save_that_is_there_already_is_done_if_it_was_ours(kind: str):
    async def save(client: TrainingClient, name: str):
        if kind == "save_weights":
            return await client.save_state(name)
        return await client.save_weights_for_sampler(name)

    async def story(world: World, service: ServiceClient, client: TrainingClient):
        saved = await (await save(client, "mine"))
        assert saved.path is not None
        assert saved.path.endswith("/mine")
        await (await client.optim_step(AdamParams()))

    async def conflict(world: World, service: ServiceClient, client: TrainingClient):
        with pytest.raises(ConflictError):
            await (await save(client, "theirs"))
        await (await client.optim_step(AdamParams()))

    again = Status(path=f"/{kind}", nth=2, status=409)
    train(story, DropAfter(path=f"/{kind}"), again)
    train(story, Status(path=f"/{kind}", status=502, after=True), again)
    train(story, CrashAt(point="training.sent"), again)
    train(conflict, Status(path=f"/{kind}", status=409))
    # what has certainly not arrived has not saved anything
    train(conflict, DropBefore(path=f"/{kind}", known=True), again)
    train(conflict, Status(path=f"/{kind}", status=429), again)


def test_a_killed_server_is_one_error_with_what_was_pending():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        step = await client.forward_backward(batch(1))
        update = await client.optim_step(AdamParams())
        world.network.kill()
        started = trio.current_time()
        with pytest.raises(OutageError, match="no usable answer for 120 s") as gone:
            await update
        assert trio.current_time() - started == pytest.approx(120, abs=15)
        assert await step.exception() is gone.value
        assert len(gone.value.pending) == 2

    train(story, outage_bound=120.0)


def test_slow_and_lost_replies_do_not_repeat_anything():
    undisturbed = train(two_steps)
    outcome = train(
        two_steps,
        Delay(path="/forward_backward", seconds=90),
        DropAfter(path="/optim_step"),
        DropBefore(path="/save_weights"),
        Delay(path="/retrieve_future", nth=2, seconds=50, reply=True),
    )
    assert outcome.models[0].digest == undisturbed.models[0].digest


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ([], "data"),
        (batch(1)[0:0], "data"),
        (
            [Datum(ModelInput.from_ints([1]), {"target_tokens": [99], "weights": [1.0]})],
            r"data\[0\].loss_fn_inputs\['target_tokens'\]",
        ),
        ([Datum(ModelInput.from_ints([32]), {"target_tokens": [1], "weights": [1.0]})], r"data\[0\].model_input"),
        ([Datum(ModelInput.from_ints([1]), {"weights": [1.0]})], r"data\[0\].loss_fn_inputs"),
    ],
)
def test_bad_data_is_named_and_nothing_is_accepted(data: list[Datum], field: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        with pytest.raises(InvalidInput, match=field):
            await client.forward_backward(data)
        assert client.accepted == ()
        await (await client.optim_step(AdamParams()))

    train(story)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: AdamParams(learning_rate=float("nan")), "learning_rate"),
        (lambda: Datum(ModelInput.from_ints([1, 2]), {"target_tokens": [1]}), "target_tokens"),
    ],
)
def test_bad_values_are_refused_where_they_are_made(call, field: str):
    with pytest.raises(InvalidInput, match=field):
        call()


def test_bad_arguments_of_other_calls():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        with pytest.raises(InvalidInput, match="rank"):
            await service.create_lora_training_client(BASE_MODEL, rank=0)
        with pytest.raises(BadRequestError, match="rank"):
            await service.create_lora_training_client(BASE_MODEL, rank=10_000)
        with pytest.raises(BadRequestError, match=BASE_MODEL):  # says what there is
            await service.create_lora_training_client("no/such-model", rank=2)
        with pytest.raises(InvalidInput, match="sampler weights where weights are due"):
            await client.load_state("tinker://a/sampler_weights/b")
        with pytest.raises(InvalidInput, match="weights where sampler weights are due"):
            await service.create_sampling_client(model_path="tinker://a/weights/b")
        with pytest.raises(InvalidInput, match="loss_fn"):
            await client.forward_backward(batch(1), "no_such_loss")
        assert client.accepted == ()
        await (await client.optim_step(AdamParams()))

    train(story)


def test_a_full_ledger_makes_callers_wait_and_plain_calls_fail():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        world.network.partition()
        for _ in range(20):
            client.optim_step_async(AdamParams())
        with pytest.raises(InvalidInput, match="20 operations wait"):
            client.optim_step_async(AdamParams())
        with trio.move_on_after(1) as scope:
            await client.optim_step(AdamParams())
        assert scope.cancelled_caught
        assert len(client.accepted) == 20
        world.network.heal()

    outcome = train(story, max_pending=20)
    accepted, applied = digests(outcome)
    assert applied == accepted


def test_a_wrong_server_key_is_one_clear_error():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        pytest.fail("the session was created")

    with pytest.raises(AuthenticationError, match="API key"):
        train(story, settings=ServerSettings(base_model=BASE_MODEL, api_keys=("tml-other",)))


@pytest.mark.parametrize("lost", [False, True])
def test_arrays_may_be_used_again_once_their_operation_is_accepted(lost: bool):
    """What was accepted is what is sent and sent again, whatever the program writes into its arrays meanwhile."""
    tokens, targets, weights = np.zeros(3, np.int32), np.zeros((2, 3), np.int64), np.zeros(3, np.float32)

    async def story(_: World, __: ServiceClient, client: TrainingClient):
        futures: list[Future[ForwardBackwardOutput]] = []
        for step in range(3):
            tokens[:], targets[:], weights[:] = step + 1, step + 2, step
            inputs = {"target_tokens": targets[1], "weights": TensorData(weights, shape=[3])}
            futures.append(await client.forward_backward([Datum(ModelInput.from_ints(tokens), inputs)]))
        tokens[:] = 7
        for future in futures:
            await future

    faults = [DropAfter(path="/forward_backward", times=2)] if lost else []
    (model,) = train(story, *faults).models
    digests = [operation.digest for operation in model.applied]
    assert digests == [digest for operation in model.accepted for digest in operation.digests]
    assert len(set(digests)) == 3
