"""Saving and loading: bits are kept, and what does not fit is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.local.engine.scenes import tiny_data, trained
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.local.engine import (
    BASE_S,
    TINY,
    CreateModel,
    Engine,
    ForwardBackward,
    LoadState,
    OptimStep,
    SaveSampler,
    SaveState,
    Snapshot,
    UnloadModel,
    snapshot_from_safetensors,
    snapshot_to_safetensors,
)
from tinker_actors.types import AdamParams, LoraConfig

LORA = LoraConfig(rank=4, seed=1)


def step(engine: Engine, model_id: str = "m") -> None:
    engine.apply(ForwardBackward(model_id, tiny_data(range(5)), "cross_entropy"))
    engine.apply(OptimStep(model_id, AdamParams(learning_rate=1e-2, weight_decay=0.1)))


def test_a_loaded_state_goes_on_as_if_never_saved() -> None:
    engine = Engine()
    digest = trained(engine)
    data = snapshot_to_safetensors(engine.apply(SaveState("m")))
    step(engine)
    expected = engine.digest("m")
    other = Engine()
    other.apply(CreateModel("n", TINY, LoraConfig(rank=4, seed=99)))
    other.apply(LoadState("n", snapshot_from_safetensors(data), optimizer=True))
    assert other.digest("n") == digest
    step(other, "n")
    assert other.digest("n") == expected


def test_loading_without_the_optimizer_starts_it_anew() -> None:
    engine = Engine()
    digest = trained(engine)
    snapshot = engine.apply(SaveState("m"))
    engine.apply(LoadState("m", snapshot, optimizer=False))
    assert engine.digest("m") != digest
    saved = engine.apply(SaveState("m"))
    assert saved.optimizer is not None
    assert saved.optimizer.step == 0
    assert not any(array.any() for array in (*saved.optimizer.first.values(), *saved.optimizer.second.values()))
    for name, array in snapshot.weights.items():
        assert array.tobytes() == saved.weights[name].tobytes()


@pytest.mark.parametrize("optimizer", [True, False])
def test_loading_drops_pending_gradients(optimizer: bool) -> None:
    engine = Engine()
    trained(engine)
    snapshot = engine.apply(SaveState("m"))
    engine.apply(ForwardBackward("m", tiny_data(range(5)), "cross_entropy"))
    engine.apply(LoadState("m", snapshot, optimizer=optimizer))
    metrics = engine.apply(OptimStep("m", AdamParams())).metrics
    assert metrics is not None
    assert metrics["grad_norm:mean"] == 0.0


def test_loading_is_seen_by_the_next_forward() -> None:
    engine = Engine()
    trained(engine)
    snapshot = engine.apply(SaveState("m"))
    data = tiny_data(range(5))
    before = engine.apply(ForwardBackward("m", data, "cross_entropy", {}, forward_only=True))
    step(engine)
    assert engine.apply(ForwardBackward("m", data, "cross_entropy", {}, forward_only=True)) != before
    engine.apply(LoadState("m", snapshot, optimizer=True))
    assert engine.apply(ForwardBackward("m", data, "cross_entropy", {}, forward_only=True)) == before


def test_saving_changes_nothing_and_a_snapshot_stays_as_it_is() -> None:
    engine = Engine()
    digest = trained(engine)
    snapshot = engine.apply(SaveState("m"))
    data = snapshot_to_safetensors(snapshot)
    assert engine.digest("m") == digest
    step(engine)
    assert snapshot_to_safetensors(snapshot) == data
    name = next(iter(snapshot.weights))
    with pytest.raises(ValueError, match="read-only"):
        snapshot.weights[name][0, 0] = 1.0


def test_files_are_plain_safetensors_of_peft_like_names() -> None:
    engine = Engine()
    trained(engine)
    sampler = engine.apply(SaveSampler("m"))
    assert sampler.optimizer is None
    tensors = safetensors.numpy.load(snapshot_to_safetensors(sampler))
    assert tensors["layers.0.q_proj.lora_A"].shape == (4, 8)
    assert tensors["layers.0.down_proj.lora_B"].shape == (8, 4)
    assert tensors["lm_head.lora_B"].shape == (32, 4)
    assert len(tensors) == 16
    full = snapshot_to_safetensors(engine.apply(SaveState("m")))
    assert len(safetensors.numpy.load(full)) == 48
    assert snapshot_to_safetensors(snapshot_from_safetensors(full)) == full


@pytest.mark.parametrize("parts", [("train_attn",), ("train_mlp",), ("train_unembed",), ("train_attn", "train_mlp")])
def test_only_what_is_trained_is_there(parts: tuple[str, ...]) -> None:
    lora = LoraConfig(2, 1, **{part: part in parts for part in ("train_unembed", "train_mlp", "train_attn")})
    engine = Engine()
    engine.apply(CreateModel("m", TINY, lora))
    before = engine.apply(SaveSampler("m")).weights
    step(engine)
    after = engine.apply(SaveSampler("m")).weights
    belongs = {"train_attn": "qkvo", "train_mlp": ("gate", "up", "down"), "train_unembed": ("lm_head",)}
    starts = tuple(start for part in parts for start in belongs[part])
    assert len(after) == 2 * len(starts)
    for name, array in after.items():
        assert name.removeprefix("layers.0.").startswith(starts)
        if name.endswith("lora_B"):
            assert array.tobytes() != before[name].tobytes(), name


def snapshot_of(base: str, lora: LoraConfig) -> Snapshot:
    engine = Engine()
    engine.apply(CreateModel("x", base, lora))
    return engine.apply(SaveState("x"))


@pytest.mark.parametrize(
    ("snapshot", "problem"),
    [
        (snapshot_of(BASE_S, LORA), "was trained on"),
        (snapshot_of(TINY, LoraConfig(rank=5, seed=1)), "has rank 5, the model 4"),
        (snapshot_of(TINY, LoraConfig(rank=4, seed=1, train_mlp=False)), "is missing"),
    ],
    ids=["base", "rank", "parts"],
)
def test_what_does_not_fit_is_refused(snapshot: Snapshot, problem: str) -> None:
    engine = Engine()
    digest = trained(engine)
    with pytest.raises(InvalidInput, match=problem):
        engine.check(LoadState("m", snapshot, optimizer=False))
    with pytest.raises(InvalidInput, match=problem):
        engine.apply(LoadState("m", snapshot, optimizer=False))
    assert engine.digest("m") == digest


def test_a_sampler_has_no_optimizer_to_load() -> None:
    engine = Engine()
    trained(engine)
    with pytest.raises(InvalidInput, match="holds none"):
        engine.apply(LoadState("m", engine.apply(SaveSampler("m")), optimizer=True))


def test_sampling_needs_the_base_that_the_adapter_was_made_for() -> None:
    engine = Engine()
    from tests.local.engine.test_sampling import request

    with pytest.raises(InvalidInput, match="base_model"):
        engine.sample(BASE_S, snapshot_of(TINY, LORA), request([1]))


@settings(max_examples=200)
@given(st.data())
def test_damaged_files_are_refused_and_never_crash(data: st.DataObject) -> None:
    good = bytearray(snapshot_to_safetensors(snapshot_of(TINY, LoraConfig(rank=1, seed=1))))
    kind = data.draw(st.sampled_from(["cut", "change", "noise"]))
    if kind == "cut":
        bad = bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    elif kind == "change":
        at = data.draw(st.integers(0, int.from_bytes(good[:8], "little") + 7))
        good[at] ^= data.draw(st.integers(1, 255))
        bad = bytes(good)
    else:
        bad = data.draw(st.binary(max_size=200))
    try:
        snapshot = snapshot_from_safetensors(bad)
    except DecodeError:
        return
    assert kind == "change"  # a change in a name or a number may leave a well-formed file
    engine = Engine()
    engine.apply(CreateModel("m", TINY, LoraConfig(rank=1, seed=1)))
    try:
        engine.apply(LoadState("m", snapshot, optimizer=True))
    except InvalidInput:
        return


def test_foreign_safetensors_are_refused() -> None:
    with pytest.raises(DecodeError):
        snapshot_from_safetensors(safetensors.numpy.save({"a": np.ones(2, np.float32)}))
    with pytest.raises(DecodeError):
        snapshot_from_safetensors(safetensors.numpy.save({"a": np.ones(2, np.float32)}, {"tinker_actors": "{}"}))
    meta = json.dumps({"base_model": TINY, "lora": {"rank": 1}, "step": None})
    with pytest.raises(DecodeError, match="float32"):
        snapshot_from_safetensors(safetensors.numpy.save({"a": np.ones(2)}, {"tinker_actors": meta}))


def test_an_unloaded_model_is_gone() -> None:
    engine = Engine()
    trained(engine)
    assert engine.models() == ("m",)
    engine.apply(UnloadModel("m"))
    assert engine.models() == ()
    with pytest.raises(InvalidInput, match="there is no model 'm'"):
        engine.digest("m")
    engine.apply(CreateModel("m", TINY, LORA))
