"""Bad values through the blocking front: the same errors as in trio, where the call is made, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.blocking.programs import BASE_MODEL, PROMPT, SHORT, AdamParams, batch, start
from tests.blocking.served import Served, served
from tests.clients.bad_values import BAD_VALUES
from tinker_actors.blocking import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.errors import ClosedError, InvalidInput, LossTermError, LossTermTimeout

Handles = tuple[ServiceClient, TrainingClient, SamplingClient]


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as server:
        yield server


@pytest.fixture(scope="module")
def handles(server: Served) -> Generator[Handles]:
    with server.runtime() as runtime:
        service, client = start(runtime)
        yield service, client, client.save_weights_and_get_sampling_client("kept")


@pytest.mark.parametrize("what", BAD_VALUES)
def test_a_bad_value_is_named_and_costs_nothing(handles: Handles, what: str) -> None:
    call, said = BAD_VALUES[what]
    before = handles[1].accepted
    with pytest.raises(InvalidInput, match=said):
        call(*handles)
    assert handles[1].accepted == before


def test_what_was_accepted_before_a_bad_value_is_done(server: Served) -> None:
    with server.runtime() as runtime:
        _, client = start(runtime)
        earlier = client.optim_step(AdamParams())
        for data, loss_fn in (([], "ppo"), (batch(1), "grpo"), (batch(1), "ppo")):
            for call in (client.forward_backward, client.forward_backward_async):
                with pytest.raises(InvalidInput):
                    call(data, loss_fn)
        later = client.optim_step(AdamParams())
        for future in (earlier, later):
            future.result(60)
        digests = [digest for operation in client.accepted for digest in operation.digests]
        assert server.applied(client.model_id) == digests
        assert len(digests) == 2


def _gives(result: Any) -> Any:
    return lambda data, logprobs: result(logprobs)


WRONG: dict[str, tuple[Any, Any, str]] = {
    "no gradient": (_gives(lambda rows: 1.0), "own", "returned no loss with its gradients"),
    "a lost gradient": (
        _gives(lambda rows: float(sum(np.sum(getattr(row, "_value", row)) for row in rows))),
        "autograd",
        "gradient is lost",
    ),
    "NaN": (_gives(lambda rows: (float("nan"), list(rows))), "own", "its value is nan"),
    "a gradient of NaN": (_gives(lambda rows: (1.0, [row * np.nan for row in rows])), "own", "0 is not finite"),
    "another shape": (_gives(lambda rows: (1.0, [np.zeros(9) for _ in rows])), "own", r"shape \(9,\)"),
}


@pytest.mark.parametrize(("loss", "way", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_custom_loss_that_is_wrong_fails_alone(handles: Handles, loss: Any, way: Any, said: str) -> None:
    client = handles[1]
    wrong = client.forward_backward_custom(batch(1, 2), loss, differentiation=way)
    after = client.optim_step(AdamParams())
    with pytest.raises(LossTermError, match=said):
        wrong.result(60)
    after.result(60)


def test_a_custom_loss_that_never_returns_fails_after_its_time(handles: Handles) -> None:
    client, left = handles[1], threading.Event()
    wrong = client.forward_backward_custom(batch(1), lambda *_: left.wait(), differentiation="own", loss_timeout=0.1)
    after = client.optim_step(AdamParams())
    with pytest.raises(LossTermTimeout, match=r"0\.1 s"):
        wrong.result(60)
    after.result(60)
    left.set()


def test_what_is_closed_says_so(server: Served) -> None:
    with server.runtime() as runtime:
        service, client = start(runtime)
        sampler = service.create_sampling_client(base_model=BASE_MODEL)
        sampler.aclose()
        client.aclose()
        for call in (
            lambda: sampler.sample(PROMPT, 1, SHORT),
            lambda: sampler.sample_async(PROMPT, 1, SHORT).result(60),
            lambda: client.optim_step(AdamParams()),
            lambda: client.forward_backward_async(batch(1)),
            client.get_info,
        ):
            with pytest.raises(ClosedError):
                call()
        other = service.create_sampling_client(base_model=BASE_MODEL)
        other.sample(PROMPT, 1, SHORT)
        service.close()
        with pytest.raises(ClosedError):
            other.sample(PROMPT, 1, SHORT)


def test_a_folder_that_can_not_be_written_is_refused(handles: Handles, tmp_path: Path) -> None:
    service, client, _ = handles
    path = client.save_state("kept").result(60).path
    (tmp_path / "file").write_bytes(b"f")
    folder = service.download_checkpoint(path, tmp_path).destination
    for output, said in (
        (tmp_path / "file", "is no folder"),
        (tmp_path, "is there"),
        ("/proc/none", "can't be written"),
        ("a\0b", "is no path"),
    ):
        with pytest.raises(InvalidInput, match=said):
            service.download_checkpoint(path, output)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "file", folder])
