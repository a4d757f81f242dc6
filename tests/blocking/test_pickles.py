"""A sampling client travels to other processes: without the key, and to the same weights."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Generator

import pytest

from tests.blocking.programs import PROMPT, SHORT, engines, runtime_at, start
from tests.blocking.running import end_of, program
from tests.blocking.served import Served, served
from tinker_actors.blocking import SamplingClient
from tinker_actors.errors import CredentialError, ModelLost


@pytest.fixture
def server() -> Generator[Served]:
    with served() as server:
        yield server


POOL = """
import multiprocessing, pickle
from concurrent.futures import ProcessPoolExecutor
def pooled(method, **more):
    with opened() as runtime:
        service, client = start(runtime)
        sampler = client.save_weights_and_get_sampling_client()
        mine = sampler.sample(PROMPT, 1, SHORT).sequences[0]
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context, **more) as pool:
            found = list(pool.map(sample_here, [sampler] * 8))
        assert {tuple(tokens) for _, tokens, _, _ in found} == {tuple(mine.tokens.tolist())}, found
        names = {name for _, _, name, _ in found} | {mine.sequence_id}
        assert len(names) == 9, names
        assert {runtimes for *_, runtimes in found} == {1}, found
        assert os.getpid() not in {process for process, *_ in found}
        assert sampler.sample(PROMPT, 1, SHORT).sequences[0].tokens.tolist() == mine.tokens.tolist()
        say("sampled")
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "method",
    ["spawn", pytest.param("forkserver", marks=pytest.mark.ci), pytest.param("fork", marks=pytest.mark.ci)],
)
def test_a_pool_samples_with_the_key_of_its_environment(server: Served, method: str) -> None:
    code = f"""
    os.environ.update(TINKER_API_KEY="tml-local")
    pooled({method!r})
    """
    with program(server, POOL + textwrap.dedent(code)) as process:
        status, text = end_of(process)
        assert (status, text) == (0, "sampled\n")
    assert len(server.ends()) == 1
    assert "(success)" in str(server.ends()[0])


@pytest.mark.process
@pytest.mark.ci
def test_a_pool_samples_in_the_runtime_that_its_workers_have_opened(server: Served) -> None:
    code = """
    pooled("spawn", initializer=open_here, initargs=(os.environ["URL"],))
    """
    with program(server, POOL + textwrap.dedent(code)) as process:
        assert end_of(process) == (0, "sampled\n")


def test_no_key_is_in_the_pickle_and_its_first_use_finds_the_runtime(server: Served) -> None:
    with server.runtime() as runtime:
        service, _ = start(runtime)
        sampler = service.create_sampling_client(base_model="tinker-actors/tiny")
        written = pickle.dumps(sampler)
        assert server.key.encode() not in written
        copy = pickle.loads(written)
        assert isinstance(copy, SamplingClient)
        assert server.key not in repr(copy)
        assert copy == pickle.loads(pickle.dumps(copy)) != sampler
        assert len(engines()) == 1
        one = copy.sample(PROMPT, 1, SHORT)
        assert copy.within(60).sample_async(PROMPT, 1, SHORT).result().sequences[0].tokens.tolist() == (
            one.sequences[0].tokens.tolist()
        )
        assert copy.sampling_session_id == sampler.sampling_session_id
        assert len(engines()) == 1
        copy.aclose()
        assert not sampler.closed
        sampler.sample(PROMPT, 1, SHORT)


def test_without_a_runtime_and_a_key_the_first_use_says_so(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TINKER_API_KEY", "TINKER_CREDENTIAL_CMD"):
        monkeypatch.delenv(name, raising=False)
    with server.runtime() as runtime:
        service, _ = start(runtime)
        written = pickle.dumps(service.create_sampling_client(base_model="tinker-actors/tiny"))
    copy = pickle.loads(written)
    with pytest.raises(CredentialError, match="TINKER_API_KEY"):
        copy.sample(PROMPT)
    assert engines() == []
    with runtime_at(server.url, server.key), pytest.raises(ModelLost, match="was finished by its client"):
        copy.sample(PROMPT)
    assert engines() == []


def test_a_handle_that_cannot_travel_says_so(server: Served) -> None:
    with server.runtime() as runtime:
        for handle in start(runtime):
            with pytest.raises(
                TypeError, match=f"a {type(handle).__name__} can't be pickled.*pickle a sampling client"
            ):
                pickle.dumps(handle)
