"""The training loop of the demo: the next step is on its way before the last one's results are awaited."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from tinker_actors.cli.task import Task, learning_rate
from tinker_actors.clients import TrainingClient
from tinker_actors.ledger import Future
from tinker_actors.types import AdamParams, ForwardBackwardOutput, OptimStepResponse

__all__ = ["StepDone", "train"]

_AHEAD: Final = 2  # steps accepted beyond the one whose results are awaited

StepDone = Callable[[int, float, float, int], None]
"""Called with the step's number, its loss, its learning rate and how many tokens it trained on."""


async def train(
    client: TrainingClient,
    task: Task,
    batches: Sequence[Sequence[str]],
    *,
    first: int,
    last: int,
    done: StepDone | None = None,
) -> None:
    """Run steps ``first`` to ``last`` of ``len(batches)``, counted from 1.

    On return every result is there and nothing is pending. Raises the first operation's error.
    """
    steps = len(batches)
    under_way = deque[tuple[int, float, int, Future[ForwardBackwardOutput], Future[OptimStepResponse]]]()

    async def settle() -> None:
        step, rate, tokens, forward_backward, optim_step = under_way.popleft()
        loss = (await forward_backward).metrics["loss:sum"]
        await optim_step
        if done is not None:
            done(step, loss, rate, tokens)

    for step in range(first, last + 1):
        batch = task.batch(batches[step - 1])
        rate = learning_rate(step, steps)
        forward_backward = await client.forward_backward(batch, "cross_entropy")
        optim_step = await client.optim_step(AdamParams(learning_rate=rate, eps=1e-8))
        tokens = sum(datum.model_input.length for datum in batch)
        under_way.append((step, rate, tokens, forward_backward, optim_step))
        if len(under_way) > _AHEAD:
            await settle()
    while under_way:
        await settle()
