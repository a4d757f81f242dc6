"""What the original could not do while something else was under way; docs/weaknesses.md names the other tests."""

from __future__ import annotations

import trio

from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.testing.faults import Status
from tinker_actors.testing.simulation import World


def test_get_info_answers_while_a_send_is_tried_again_and_again():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        future = await client.forward_backward(batch(1))
        await trio.sleep(30.0)
        assert not future.done()
        with trio.fail_after(1.0):
            info = await client.get_info()
        assert info.lora_rank == 2
        assert not future.done()
        await future

    train(story, Status(path="/forward_backward", status=503, times=10))
