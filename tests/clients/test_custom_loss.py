"""Custom losses: a function of the user's decides what is learnt, in its place among the other operations."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
import trio

from tests.clients.scenario import batch, train
from tests.local.engine.torch_model import torch_logprobs
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import GradientUnavailable, InvalidInput, LossTermError, LossTermTimeout, OperationCancelled
from tinker_actors.local import ServerSettings
from tinker_actors.local.engine import Engine, SaveState
from tinker_actors.local.engine.adapter import ALPHA
from tinker_actors.ports import ThreadOffload
from tinker_actors.testing.faults import CrashAt, DropAfter, Fault, Status
from tinker_actors.testing.operations import BASE_MODEL, RANK
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import AdamParams, Datum, ModelInput, TensorData

STEP = AdamParams(learning_rate=1e-2)
OWN_STEP = AdamParams(learning_rate=1e-2, beta1=0.9, beta2=0.95, eps=1e-8)
CHUNKED = ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2)


def likelihood(data: Any, logprobs: Any) -> Any:
    """cross_entropy as a custom loss."""
    return -sum(anp.sum(datum.tensor("weights").data * row) for datum, row in zip(data, logprobs, strict=True))


def squares(data: Any, logprobs: Any) -> Any:
    return sum(anp.sum(row**2) for row in logprobs), {"rows:sum": len(logprobs)}


def own_squares(data: Any, logprobs: Any) -> Any:
    return sum(float((row.astype(float) ** 2).sum()) for row in logprobs), [2.0 * row for row in logprobs]


def run(loss: Any, *faults: Fault, data: Any = None, **options: Any) -> Outcome[Any]:
    """Two steps with ``loss``; the losses and metrics of each."""
    given = {key: options.pop(key) for key in ("differentiation", "loss_timeout") if key in options}

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[dict[str, float]]:
        metrics: list[dict[str, float]] = []
        for _ in range(2):
            result = await client.forward_backward_custom(data or batch(1, 2, 3), loss, **given)
            update = await client.optim_step(STEP)
            metrics.append(dict((await result).metrics))
            await update
        return metrics

    return train(story, *faults, settings=options.pop("settings", CHUNKED), **options)


def test_the_servers_own_loss_written_anew_teaches_the_same():
    async def built_in(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses: list[float] = []
        for _ in range(2):
            result = await client.forward_backward(batch(1, 2, 3))
            await (await client.optim_step(STEP))
            losses.append((await result).metrics["loss:sum"])
        return losses

    own, theirs = run(likelihood, differentiation="autograd"), train(built_in, settings=CHUNKED)
    assert [metrics["loss:sum"] for metrics in own.value] == pytest.approx(theirs.value, rel=1e-6)
    assert own.models[0].digest == theirs.models[0].digest


@pytest.mark.parametrize(("loss", "way"), [(squares, "autograd"), (own_squares, "own")])
def test_each_way_to_a_gradient_gives_the_same(loss: Any, way: str):
    reference, outcome = run(squares, differentiation="autograd"), run(loss, differentiation=way)
    assert outcome.models[0].digest == reference.models[0].digest
    first, second = outcome.value
    assert second["loss:sum"] < first["loss:sum"]
    assert "surrogate_loss:sum" in first
    assert first.get("rows:sum", 3.0) == 3.0


def test_a_torch_function_gives_the_same():
    torch = pytest.importorskip("torch")

    def loss(data: Any, logprobs: Any) -> Any:
        return torch.stack([(row**2).sum() for row in logprobs]).sum(), {}

    outcome = run(loss, differentiation="torch")
    assert [one["loss:sum"] for one in outcome.value] == pytest.approx(
        [one["loss:sum"] for one in run(squares, differentiation="autograd").value], rel=1e-5
    )


def test_the_weights_after_steps_are_torchs_on_the_same_model():
    torch = pytest.importorskip("torch")

    def loss(data: Any, logprobs: Any) -> Any:
        rows = [(row - row.mean()).pow(2).sum() + row.exp().sum() for row in logprobs]
        return torch.stack(rows).sum(), {}

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        engine = world.service.engine
        before = dict(engine.apply(SaveState(client.model_id)).weights)
        for seeds in ((1, 2, 3), (4, 5)):
            await client.forward_backward_custom(batch(*seeds), loss, differentiation="torch")
            await (await client.optim_step(OWN_STEP))
        return before, dict(engine.apply(SaveState(client.model_id)).weights)

    before, after = train(story, settings=CHUNKED).value
    leaves, logprobs = torch_logprobs(torch, Engine().base(BASE_MODEL), before, ALPHA / RANK)
    optimizer = torch.optim.AdamW(list(leaves.values()), lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    for seeds in ((1, 2, 3), (4, 5)):
        optimizer.zero_grad()
        data = batch(*seeds)
        loss(data, [logprobs(datum) for datum in data])[0].backward()
        optimizer.step()
    moved = 0.0
    for name, leaf in leaves.items():
        np.testing.assert_allclose(after[name], leaf.detach().numpy(), atol=2e-5, err_msg=name)
        moved = max(moved, float(np.abs(after[name] - before[name]).max()))
    assert moved > 1e-2, "both have learnt"


def test_what_the_loss_alone_needs_does_not_leave():
    def loss(data: Any, logprobs: Any) -> Any:
        assert [list(datum.loss_fn_inputs) for datum in data] == [["target_distribution", "target_tokens"]]
        return sum(
            -anp.sum(datum.tensor("target_distribution").data * row)
            for datum, row in zip(data, logprobs, strict=True)
        )

    inputs = {"target_tokens": [2, 3], "target_distribution": TensorData([0.25, 0.75])}
    outcome = run(loss, data=[Datum(ModelInput.from_ints([1, 2]), inputs)], differentiation="autograd")
    assert outcome.value[0]["loss:sum"] > 0


def test_targets_may_be_a_list_an_array_or_a_tensor():
    targets = ([2, 3], np.asarray([2, 3]), TensorData([2, 3]), TensorData.from_numpy(np.asarray([2, 3])))
    digests = {
        run(squares, data=[Datum(ModelInput.from_ints([1, 2]), {"target_tokens": given})], differentiation="autograd")
        .models[0]
        .digest
        for given in targets
    }
    assert len(digests) == 1


def test_metrics_become_numbers_under_names():
    def loss(data: Any, logprobs: Any) -> Any:
        value = sum(anp.sum(row**2) for row in logprobs)
        return value, {"one:sum": np.float32(1.5), "two:sum": np.asarray(2), 3: True, "of:sum": value}

    first, _ = run(loss, differentiation="autograd").value
    assert (first["one:sum"], first["two:sum"], first["3"]) == (1.5, 2.0, 1.0)
    assert first["of:sum"] == first["loss:sum"]
    assert {type(value) for value in first.values()} == {float}


def test_an_async_function_is_awaited():
    async def loss(data: Any, logprobs: Any) -> Any:
        await trio.sleep(1.0)
        return squares(data, logprobs)

    assert (
        run(loss, differentiation="autograd").models[0].digest
        == run(squares, differentiation="autograd").models[0].digest
    )


def test_later_operations_keep_their_place_behind_it():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        async def slow(data: Any, logprobs: Any) -> Any:
            await trio.sleep(30.0)
            return squares(data, logprobs)

        custom = await client.forward_backward_custom(batch(1, 2, 3), slow, differentiation="autograd")
        others = [await client.optim_step(STEP), await client.forward_backward(batch(4))]
        await trio.sleep(10.0)
        rows = [str(row) for row in world.runtime.pending()]
        assert any("its loss is being computed here" in row for row in rows), rows
        assert any("behind #1" in row for row in rows), rows
        assert (await client.get_info()).lora_rank == 2  # the control plane is free
        for future in (custom, *others):
            await future
        return [operation.kind for operation in world.service.applied(client.model_id)]

    assert train(story, settings=CHUNKED).value == [
        *("forward", "forward"),
        *("forward_backward", "forward_backward"),
        "optim_step",
        "forward_backward",
    ]


def broken(kind: str) -> Any:
    def loss(data: Any, logprobs: Any) -> Any:
        match kind:
            case "raises":
                raise ZeroDivisionError("too much")
            case "nothing":
                return None
            case "nan":
                return sum(anp.sum(row) for row in logprobs) * math.nan
            case "no gradient":
                return float(sum(np.sum(np.asarray(getattr(row, "_value", row))) for row in logprobs))
            case "shape":
                return 1.0, [np.zeros(99) for _ in logprobs]
            case "count":
                return 1.0, []
            case "nan gradient":
                return 1.0, [row * math.nan for row in logprobs]
            case "text":
                return 1.0, ["x" for _ in logprobs]
            case other:
                raise AssertionError(other)

    return loss


@pytest.mark.parametrize(
    ("kind", "way", "said"),
    [
        ("raises", "autograd", "ZeroDivisionError: too much"),
        ("raises", "own", "ZeroDivisionError: too much"),
        ("nothing", "autograd", "what is no number"),
        ("nothing", "own", "no loss with its gradients"),
        ("nan", "autograd", "value is nan"),
        ("no gradient", "autograd", "gradient is lost"),
        ("shape", "own", r"gradient 0 has the shape \(99,\)"),
        ("count", "own", "0 gradients for 3 datums"),
        ("nan gradient", "own", "gradient 0 is not finite"),
        ("text", "own", "no array of numbers"),
    ],
)
def test_a_function_that_fails_fails_its_operation_alone(kind: str, way: Any, said: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        wrong = await client.forward_backward_custom(batch(1, 2, 3), broken(kind), differentiation=way)
        after = await client.forward_backward(batch(4))
        update = await client.optim_step(STEP)
        with pytest.raises(LossTermError, match=said):
            await wrong
        await after
        await update
        return [operation.kind for operation in world.service.applied(client.model_id)]

    assert train(story, settings=CHUNKED).value == ["forward", "forward", "forward_backward", "optim_step"]
    assert issubclass(GradientUnavailable, LossTermError)


def test_an_async_function_that_never_returns_is_left_after_its_time():
    async def never(data: Any, logprobs: Any) -> Any:
        await trio.sleep_forever()

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        wrong = await client.forward_backward_custom(batch(1), never, loss_timeout=20.0)
        after = await client.optim_step(STEP)
        began = trio.current_time()
        with pytest.raises(LossTermTimeout, match="20 s"):
            await wrong
        await after
        assert trio.current_time() - began < 25.0

    train(story)


async def test_a_thread_that_never_returns_takes_nobody_elses_room():
    from tinker_actors.clients.training.custom_loss import CustomLoss

    offload, left, through = ThreadOffload(1), threading.Event(), threading.Event()

    def never(data: Any, logprobs: Any) -> Any:
        left.wait(20.0)  # without end for a test, and an end for a test that fails
        through.set()
        return 0.0

    try:
        with pytest.raises(LossTermTimeout):
            await CustomLoss(never, batch(1), "autograd", 0.05).evaluate([np.zeros(2, np.float32)], offload)
        with trio.fail_after(30.0):
            loss = CustomLoss(squares, batch(1), "autograd", 60.0)
            evaluated = await loss.evaluate([np.ones(2, np.float32)], offload)
        assert evaluated.value == 2.0
        assert offload.running == 0
    finally:
        left.set()
    assert through.wait(30.0)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"loss_fn": 5}, "loss_fn"),
        ({"differentiation": "jax"}, "differentiation"),
        ({"loss_timeout": 0.0}, "loss_timeout"),
        ({"loss_timeout": math.nan}, "loss_timeout"),
        ({"data": []}, "data"),
        ({"data": [5]}, r"data\[0\]"),
        ({"data": [Datum(ModelInput.from_ints([1]), {"weights": [1.0]})]}, "target_tokens"),
        ({"data": [Datum(ModelInput.from_ints([1]), {"target_tokens": TensorData([1.5])})]}, "target_tokens"),
    ],
)
def test_what_can_not_be_a_custom_loss_is_refused_before_anything_is_sent(given: dict[str, Any], field: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        options: dict[str, Any] = {"data": batch(1), "loss_fn": squares, "differentiation": "autograd"} | given
        with pytest.raises(InvalidInput, match=field):
            await client.forward_backward_custom(options.pop("data"), options.pop("loss_fn"), **options)
        assert client.accepted == ()

    train(story)


def test_the_twin_accepts_at_the_call_and_can_be_cancelled_before_it_is_sent():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        first = client.forward_backward_async(batch(1))
        custom = client.forward_backward_custom_async(batch(2), squares, differentiation="autograd")
        assert custom.cancel()
        with pytest.raises(OperationCancelled):
            await custom
        await first
        await (await client.forward_backward_custom(batch(3), squares, differentiation="autograd"))
        assert client._model.losses == {}

    train(story)


@pytest.mark.parametrize(
    "fault",
    [
        CrashAt(point="training.differentiated"),
        *(CrashAt(point="training.sent", nth=nth) for nth in (1, 2, 3, 4)),
        *(CrashAt(point="training.polling", nth=nth) for nth in (1, 3, 5)),
        *(DropAfter(path="/forward_backward", nth=nth) for nth in (1, 3, 4)),
        *(Status(path="/retrieve_future", nth=nth, status=410) for nth in (2, 3, 4, 5, 6, 8)),
        *(Status(path="/forward_backward", nth=nth, status=410) for nth in (1, 2, 3, 4, 5, 7)),
    ],
    ids=repr,
)
def test_whatever_crashes_or_is_lost_the_weights_are_those_of_the_undisturbed_run(fault: Fault):
    calm = run(squares, differentiation="autograd")
    broken_run = run(squares, fault, differentiation="autograd", recovery=RecoveryPolicy())
    assert broken_run.models[0].digest == calm.models[0].digest
    assert broken_run.value == calm.value


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_client_that_crashes_before_a_loss_is_computed_has_it_computed_once(nth: int):
    calls: list[float] = []

    async def loss(data: Any, logprobs: Any) -> Any:
        calls.append(trio.current_time())
        await trio.sleep(1.0)
        return squares(data, logprobs)

    outcome = run(loss, CrashAt(point="training.polling", nth=nth), differentiation="autograd")
    assert outcome.models[0].digest == run(squares, differentiation="autograd").models[0].digest
    assert len(calls) == 2


def test_a_loss_that_has_been_computed_is_never_called_again():
    calls: list[float] = []

    def loss(data: Any, logprobs: Any) -> Any:
        calls.append(time.monotonic())
        return squares(data, logprobs)

    gone = Status(path="/retrieve_future", nth=9, status=410)
    outcome = run(loss, gone, differentiation="autograd", recovery=RecoveryPolicy())
    assert outcome.counters["models_lost"] == 1
    assert len(calls) == 2
