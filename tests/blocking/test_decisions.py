"""What can't be known is decided by a plain program, too."""

from __future__ import annotations

import pytest

from tests.blocking.programs import BASE_MODEL, batch, runtime_at, start
from tests.blocking.served import served
from tinker_actors import ServerSettings
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import InvalidInput, LaneStopped, UnknownVerdict
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults import DropAfter, FaultPlan, FaultyTransport
from tinker_actors.types import AdamParams
from tinker_actors.wire.transport import HttpTransport

STEP = AdamParams(learning_rate=0.1)


def test_a_plain_program_decides_what_can_not_be_known() -> None:
    lost = [DropAfter(path="/optim_step", nth=nth) for nth in (1, 3, 4)]
    with (
        served(ServerSettings(base_model=BASE_MODEL, server_class=ServerClass.NONE)) as server,
        runtime_at(
            server.url,
            server.key,
            FaultyTransport(HttpTransport(), FaultPlan(tuple(lost))),
            config=Config.load(
                base_url=server.url, api_key=server.key, environ={}, recovery=RecoveryPolicy(unknown_outcome="ask")
            ),
        ) as runtime,
    ):
        service, client = start(runtime)
        assert service.server_class is ServerClass.NONE
        for decide, left in ((client.restore, 1), (lambda: client.assume_applied_async().result(), 0)):
            with pytest.raises(InvalidInput, match="there is nothing to decide"):
                client.abandon()
            update = client.optim_step(STEP)
            with pytest.raises(UnknownVerdict) as verdict:
                update.result(timeout=60)
            assert client.verdict is verdict.value
            with pytest.raises(LaneStopped, match="waits for a decision"):
                client.optim_step_async(STEP)
            again = decide()
            assert client.verdict is None
            assert len([future.result(timeout=60) for future in again]) == left
            assert client.forward(batch(1)).result(timeout=60).metrics["loss:sum"] > 0
        with pytest.raises(UnknownVerdict):
            client.optim_step(STEP).result(timeout=60)
        assert client.abandon_async().result() is None
        with pytest.raises(LaneStopped, match="was given up"):
            client.optim_step(STEP)
