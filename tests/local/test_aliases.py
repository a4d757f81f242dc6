"""Models of any name, with a tokenizer of the user's."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supervision.testing import run_seeded
from tests.local.harness import create_body, open_stage, sample_body
from tests.local.tokenizer_folders import make_folder
from tinker_actors import (
    AdamParams,
    Datum,
    InvalidInput,
    LoraConfig,
    ModelInput,
    SamplingParams,
    ServerSettings,
    local_server,
    open_runtime,
)
from tinker_actors.local.aliases import LARGEST_VOCABULARY, read_aliases
from tinker_actors.local.engine import CreateModel, Engine, ForwardBackward
from tinker_actors.tokenizers import tokenizer_for

QWEN = "Qwen/Qwen3-8B"
QWENS_SIZE = 151_669
EOS = {"eos_token": "<eos>", "bos_token": {"content": "<bos>"}, "pad_token": None}


def datum(tokens: list[int]) -> Datum:
    weights = np.ones(len(tokens) - 1, np.float32)
    return Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": weights})


async def test_a_program_for_a_named_model_runs_unchanged(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, QWENS_SIZE, **EOS)
    settings = ServerSettings(base_model="tinker-actors/tiny", aliases={QWEN: folder})
    async with local_server(settings) as server, open_runtime(server=server, seed=3) as runtime:
        service = await runtime.create_service_client()
        supported = (await service.get_server_capabilities()).supported_models
        assert [model.model_name for model in supported] == ["tinker-actors/tiny", QWEN]
        assert [model.max_context_length for model in supported] == [64, 2048]
        client = await service.create_lora_training_client(QWEN, rank=4)
        info = await client.get_info()
        assert (info.model_name, info.tokenizer_id, info.model_data.vocab_size) == (QWEN, QWEN, QWENS_SIZE)
        assert (info.model_data.model_name, info.model_data.tokenizer_id) == (QWEN, QWEN)
        tokenizer = tokenizer_for(str(folder))
        tokens = [*tokenizer.encode("The answer is 42"), QWENS_SIZE - 1]
        losses: list[float] = []
        for _ in range(16):
            result = await (await client.forward_backward([datum(tokens)], "cross_entropy"))
            losses.append(result.metrics["loss:sum"])
            await client.optim_step(AdamParams(learning_rate=0.05))
        assert losses[-1] < losses[0] / 2
        sampler = await client.save_weights_and_get_sampling_client()
        greedy = SamplingParams(max_tokens=8, temperature=0.0, stop=[])
        answer = await sampler.sample(ModelInput.from_ints(tokens[:1]), 1, greedy)
        assert set(answer.sequences[0].tokens.tolist()) <= set(tokens)  # of 150,000 it has heard of these
        scores = await sampler.compute_logprobs(ModelInput.from_ints(tokens))
        assert scores[0] is None
        assert len(scores) == len(tokens)


def test_a_token_beyond_the_vocabulary_is_refused_by_its_place(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 300)

    async def run() -> None:
        async with open_stage(ServerSettings(aliases={QWEN: folder})) as stage:
            caller = stage.caller
            session_id = await caller.session()
            promise = (await caller.post("/create_model", create_body(session_id, base=QWEN))).ok["request_id"]
            model_id = (await caller.result(promise))["model_id"]
            beyond = "token 300 is outside the vocabulary of 300"
            for tokens, place in (([300, 5], "model_input"), ([5, 300], "target_tokens")):
                answer = await caller.forward_backward(model_id, 1, (datum(tokens),))
                assert answer.status == 400
                assert answer.detail.startswith("data[0]")
                assert place in answer.detail
                assert "300" in answer.detail
            sampler = await caller.sampler(session_id, base_model=QWEN)
            body = sample_body(sampler) | {"prompt": {"chunks": [{"tokens": [1, 300], "type": "encoded_text"}]}}
            answer = await caller.post("/asample", body)
            assert (answer.status, answer.detail[: len(f"prompt: {beyond}")]) == (400, f"prompt: {beyond}")
            assert (await caller.forward_backward(model_id, 1, (datum([299, 5, 299]),))).status == 200

    run_seeded(run, seed=0)


def test_the_vocabulary_reaches_to_the_largest_id_and_200_000_is_the_most(tmp_path: Path) -> None:
    (base,) = read_aliases({QWEN: make_folder(tmp_path / "gaps", 300, shift=700)})
    assert base.config.vocab_size == 1000
    assert base.weights.head.shape[0] == 1000
    most = LARGEST_VOCABULARY - 300
    (base,) = read_aliases({QWEN: make_folder(tmp_path / "most", 300, shift=most)})
    assert base.config.vocab_size == 200_000
    with pytest.raises(InvalidInput, match=r"aliases: 'a': the tokenizer in .*over has 200001 ids. .* 1 to 200000"):
        read_aliases({"a": make_folder(tmp_path / "over", 300, shift=most + 1)})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "there is no file"),
        ({"tokenizer.json": "no tokenizer"}, "is no tokenizer"),
        ({"tokenizer_config.json": "{"}, "tokenizer_config.json is no JSON"),
        ({"tokenizer_config.json": '{"eos_token": "</s>"}'}, "calls '</s>' its eos_token, which its tokenizer"),
        ({"special_tokens_map.json": '{"pad_token": {"content": "<x>"}}'}, "calls '<x>' its pad_token"),
    ],
)
def test_a_folder_that_holds_no_such_thing_is_named(tmp_path: Path, files: Mapping[str, str], words: str) -> None:
    if files:
        make_folder(tmp_path, 300)
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    async def run() -> None:
        with pytest.raises(InvalidInput, match=words) as caught:
            async with open_stage(ServerSettings(aliases={QWEN: tmp_path})):
                pass
        assert str(tmp_path) in str(caught.value)
        assert QWEN in str(caught.value)

    run_seeded(run, seed=0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tinker-actors/base-s", "is a model of its own"),
        ("tinker-actors/new", "is a model of its own"),
        ("other", "is a model of its own"),
        ("", "can't be a model's name"),
        ("a b", "can't be a model's name"),
        ("a\nb", "can't be a model's name"),
        ("x" * 97, "can't be a model's name"),
    ],
)
def test_a_name_that_no_alias_can_have_is_refused(name: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        ServerSettings(base_models=("other",), aliases={name: Path()})


def sampled(engine: Engine, stop: list[str | int] | str | None, *, count: int = 64) -> list[tuple[list[int], str]]:
    from tinker_actors.types import SampleRequest

    params = SamplingParams(max_tokens=40, seed=1, stop=stop)
    request = SampleRequest(prompt=ModelInput.from_ints([1]), num_samples=count, sampling_params=params)
    answer = engine.sample(QWEN, None, request)
    return [(sequence.tokens.tolist(), sequence.stop_reason) for sequence in answer.sequences]


def test_the_end_of_text_is_the_one_that_the_folder_names(tmp_path: Path) -> None:
    engine = Engine(read_aliases({QWEN: make_folder(tmp_path / "named", 12, **EOS)}))
    ended = [tokens for tokens, reason in sampled(engine, None) if reason == "stop"]
    assert ended
    assert all(tokens.index(2) == len(tokens) - 1 for tokens in ended)
    endless = Engine(read_aliases({QWEN: make_folder(tmp_path / "plain", 12)}))
    assert {reason for _, reason in sampled(endless, None)} == {"length"}


def test_stop_strings_are_read_by_the_models_own_tokenizer(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 40, **EOS)
    tokenizer = tokenizer_for(str(folder))
    engine = Engine(read_aliases({QWEN: folder}))
    free = sampled(engine, [])
    texts = [[tokenizer.decode(tokens[: end + 1], skip_special_tokens=False) for end in range(len(tokens))]
             for tokens, _ in free]  # fmt: skip
    stop = texts[0][20][10:13]
    assert len(stop) == 3
    stopped = 0
    for (tokens, reason), (whole, _), grown in zip(sampled(engine, stop), free, texts, strict=True):
        ends = next((end for end, text in enumerate(grown) if stop in text), None)
        assert tokens == (whole if ends is None else whole[: ends + 1])
        assert reason == ("length" if ends is None else "stop")
        stopped += ends is not None
    assert stopped >= 1


def test_checkpoints_are_of_that_name_and_vocabulary(tmp_path: Path) -> None:
    folder, other = make_folder(tmp_path / "a", 300), make_folder(tmp_path / "b", 301)

    async def run() -> None:
        stored = tmp_path / "state"
        async with open_stage(ServerSettings(directory=stored, aliases={QWEN: folder})) as stage:
            caller = stage.caller
            created = await caller.post("/create_model", create_body(await caller.session(), base=QWEN))
            model_id = (await caller.result(created.ok["request_id"]))["model_id"]
            path = (await caller.save(model_id, 1, "kept"))["path"]
            digest = await caller.digest(model_id)
        for aliases, expected in (({QWEN: folder}, digest), ({QWEN: other}, None)):
            async with open_stage(ServerSettings(directory=stored, aliases=aliases)) as stage:
                caller = stage.caller
                body = {"session_id": await caller.session(), "model_seq_id": 0, "path": path, "optimizer": True}
                answer: Any = await caller.result((await caller.post("/load_weights", body)).ok["request_id"])
                if expected is None:
                    assert answer["category"] == "user"
                    assert "lm_head.lora_B has shape (300, 2), not (301, 2)" in answer["error"]
                else:
                    assert await caller.digest(answer["model_id"]) == expected
        async with open_stage(ServerSettings(directory=stored)) as stage:
            body |= {"session_id": await stage.caller.session()}
            answer = await stage.caller.post("/load_weights", body)
            assert answer.status == 400
            assert f"'{QWEN}' is not offered" in answer.detail

    run_seeded(run, seed=0)


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that ``work`` takes at most, numpy's arrays included."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_sequence_over_the_largest_vocabulary_keeps_within_memory(tmp_path: Path) -> None:
    """All logits of 512 positions at one time would be 410 MB, and as many again for their slopes."""
    (base,) = read_aliases({QWEN: make_folder(tmp_path, 300, shift=LARGEST_VOCABULARY - 300)})
    engine = Engine([base])
    engine.apply(CreateModel("m", QWEN, LoraConfig(rank=4, seed=0)))
    draw = random.Random(0)
    data = (datum([draw.randrange(LARGEST_VOCABULARY) for _ in range(513)]),)
    assert 30e6 < peak_of(lambda: engine.apply(ForwardBackward("m", data, "cross_entropy"))) < 250e6


def test_many_data_over_the_largest_vocabulary_keep_within_memory(tmp_path: Path) -> None:
    """The gradients of 24 data at one time would be 620 MB."""
    (base,) = read_aliases({QWEN: make_folder(tmp_path, 300, shift=LARGEST_VOCABULARY - 300)})
    engine = Engine([base])
    engine.apply(CreateModel("m", QWEN, LoraConfig(rank=32, seed=0)))
    data = tuple(datum([number, 5, 7]) for number in range(24))
    assert peak_of(lambda: engine.apply(ForwardBackward("m", data, "cross_entropy"))) < 450e6


def test_an_alias_is_the_same_model_after_a_restart(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 300)
    first, second = read_aliases({QWEN: folder, "other": folder})
    (again,) = read_aliases({QWEN: folder})
    assert np.array_equal(again.weights.embed, first.weights.embed)
    assert not np.array_equal(second.weights.embed, first.weights.embed)
