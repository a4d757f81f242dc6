"""Values refuse what can't be used, naming the field; credentials never show."""

import copy
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from tinker_actors.config import Config, Secret
from tinker_actors.errors import CredentialError, InvalidInput
from tinker_actors.types import (
    AdamParams,
    Datum,
    EncodedTextChunk,
    LoraConfig,
    ModelInput,
    SamplingParams,
    TensorData,
    TinkerPath,
    checkpoint_name,
)

KEY = "tml-very-secret-key"


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("learning_rate", lambda: AdamParams(learning_rate=math.nan)),
        ("beta2", lambda: AdamParams(beta2=1.0)),
        ("eps", lambda: AdamParams(eps="small")),
        ("learning_rate", lambda: AdamParams(learning_rate=True)),
        ("learning_rate", lambda: AdamParams(learning_rate=10**400)),
        ("rank", lambda: LoraConfig(rank=2.0)),
        ("rank", lambda: LoraConfig(rank=True)),
        ("seed", lambda: LoraConfig(seed=2**63)),
        ("train_mlp", lambda: LoraConfig(train_mlp="no")),
        ("seed", lambda: SamplingParams(seed=0.5)),
        ("stop", lambda: SamplingParams(stop=5)),
        ("stop[0]", lambda: SamplingParams(stop=[True])),
        ("chunks", lambda: ModelInput(chunks=[1, 2])),
        ("tokens", lambda: EncodedTextChunk([[1], [1, 2]])),
        ("model_input", lambda: Datum([1, 2], {})),
        ("loss_fn_inputs", lambda: Datum(ModelInput.from_ints([1]), [1])),
        ("loss_fn_inputs's keys", lambda: Datum(ModelInput.from_ints([1]), {1: [1]})),
        ("TensorData.data", lambda: TensorData([[1], [1, 2]])),
        ("TensorData.shape", lambda: TensorData([1.0], shape=[0.5])),
        ("rank", lambda: LoraConfig(rank=0)),
        ("train_*", lambda: LoraConfig(train_mlp=False, train_attn=False, train_unembed=False)),
        ("max_tokens", lambda: SamplingParams(max_tokens=0)),
        ("temperature", lambda: SamplingParams(temperature=math.nan)),
        ("top_p", lambda: SamplingParams(top_p=0.0)),
        ("top_k", lambda: SamplingParams(top_k=0)),
        ("stop", lambda: SamplingParams(stop=["a", 1])),
        ("tokens", lambda: EncodedTextChunk([-1])),
        ("tokens", lambda: EncodedTextChunk([2**31])),
        ("tokens", lambda: EncodedTextChunk([0.5])),
        ("TensorData.shape", lambda: TensorData([1.0, 2.0], shape=[3])),
        ("TensorData.data", lambda: TensorData(["a"])),
        ("TensorData.data", lambda: TensorData([0.5], "int64")),
        ("TensorData.data", lambda: TensorData([1e300])),
        ("TensorData.data", lambda: TensorData([math.inf, -1e39], "float32")),
        ("TensorData.data", lambda: TensorData([2.0**63], "int64")),
        ("TensorData.data", lambda: TensorData([-math.inf], "int64")),
        ("TensorData.data", lambda: TensorData(np.array([2**63], np.uint64))),
        ("model_input", lambda: Datum(ModelInput.empty(), {})),
        ("loss_fn_inputs['target_tokens']", lambda: Datum(ModelInput.from_ints([1, 2]), {"target_tokens": [1]})),
        ("loss_fn_inputs['other']", lambda: Datum(ModelInput.from_ints([1]), {"other": [1]})),
        ("path", lambda: TinkerPath.parse(5)),
        ("path", lambda: TinkerPath.parse("https://x/weights/a")),
        ("path", lambda: TinkerPath.parse("tinker://run/weights/a/b")),
        ("path", lambda: TinkerPath.parse("tinker://run/sampler_weights/a", kind="weights")),
        ("name", lambda: checkpoint_name("../a")),
        ("base_url", lambda: Config.load(base_url="localhost:80", api_key=KEY)),
        ("base_url", lambda: Config.load(base_url="http://u:p@h", api_key=KEY)),
        ("base_url", lambda: Config.load(base_url="http://[", api_key=KEY)),
        ("base_url", lambda: Config.load(base_url="http://h:99999", api_key=KEY)),
        ("base_url", lambda: Config.load(base_url="http://h/a b", api_key=KEY)),
        ("api_key", lambda: Config.load(api_key=5)),
        ("tags", lambda: Config.load(api_key=KEY, tags=(1,))),
        ("poll_timeout", lambda: Config(base_url="http://h", api_key=Secret(KEY), poll_timeout=0)),
        ("outage_bound", lambda: Config.load(api_key=KEY, outage_bound=math.nan)),
        ("api_key", lambda: Config.load(environ={})),
        ("api_key", lambda: Config.load(api_key="sk-other")),
        ("api_key", lambda: Config.load(api_key="tml-a\nb")),
    ],
)
def test_a_bad_value_names_its_field(field: str, make: Callable[[], object]):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field == field
    assert caught.value.cure


def test_a_credential_never_shows():
    config = Config.load(api_key=KEY, environ={})
    for text in (repr(config), str(config.api_key), f"{config.api_key}"):
        assert KEY not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(config)
    with pytest.raises(CredentialError) as caught:
        Config.load(api_key="sk-" + KEY)
    assert KEY not in str(caught.value)


def test_a_key_given_as_text_never_shows_either():
    config = Config(base_url="http://h", api_key=KEY)
    assert KEY not in repr(config)
    assert config.api_key == Secret(KEY)


def test_option_before_environment_before_default():
    environ = {"TINKER_BASE_URL": "http://env/base/", "TINKER_API_KEY": KEY, "TINKER_TAGS": "a,b"}
    config = Config.load(environ=environ)
    assert (config.base_url, config.api_key, config.tags) == ("http://env/base", Secret(KEY), ("a", "b"))
    assert Config.load(base_url="http://option", environ=environ).base_url == "http://option"
    assert Config.load(environ={"TINKER_API_KEY": KEY, "TINKER_BASE_URL": ""}).base_url.startswith("https://")


def test_arrays_are_kept_without_a_copy_and_read_only():
    tokens = np.arange(4, dtype=np.int32)
    chunk = EncodedTextChunk(tokens)
    assert np.shares_memory(chunk.array, tokens)
    with pytest.raises(ValueError, match="read-only"):
        chunk.array[0] = 9
    tokens[0] = 7  # the caller's own array stays writable
    assert copy.copy(chunk) == chunk


def test_a_path_may_hold_colons_in_its_run():
    path = TinkerPath.parse("tinker://s:train:0/weights/step-1")
    assert (path.run, path.kind, path.name) == ("s:train:0", "weights", "step-1")
    assert str(path) == "tinker://s:train:0/weights/step-1"
    assert TinkerPath.parse("tinker://a+b=~@1/weights/x").run == "a+b=~@1"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("tinker://x:train:0/…", "has '…' in the place of a part"),
        ("tinker://x:train:0/weights/...", "has '...' in the place of a part"),
        ("tinker://x:train:0/../a", "has '..' in the place of a part"),
        ("tinker://<run>/weights/<name>", "holds '<', which no such path does"),
        ("tinker://x/weights/a b", "holds ' ', which no such path does"),
        ("tinker://x/weights/a\n", r"holds '\n', which no such path does"),
        ("tinker://x//a", "lacks a part"),
        ("tinker://", "lacks a part"),
        ("tinker:/x/weights/a", "is not a tinker path"),
        ("tinker://x/weights/a/b", "is not a checkpoint's path"),
        ("tinker://x/other/a", "is not a checkpoint's path"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_with_what_is_wrong(path: str, words: str):
    with pytest.raises(InvalidInput) as caught:
        TinkerPath.parse(path)
    assert words in str(caught.value)
    assert "Give a whole one, of the form tinker://<run>/<kind>/<name>" in str(caught.value)


def test_a_tensor_keeps_what_its_type_can_hold():
    assert TensorData([math.inf, -math.inf, 3.4e38], "float32").to_numpy().tolist()[:2] == [math.inf, -math.inf]
    assert math.isnan(TensorData([math.nan]).to_numpy()[0])
    assert TensorData([2**63 - 1, -(2**63)], "int64").tolist() == [2**63 - 1, -(2**63)]
    assert TensorData(np.array([2**63 - 1], np.uint64)).tolist() == [2**63 - 1]
