"""Whether an operation has failed because its model is gone or corrupted, which servers say in words of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeGuard

from tinker_actors.errors import APIError, APIStatusError, ModelLost, RequestFailedError
from tinker_actors.flow.patience import OutOfPatience, brief
from tinker_actors.flow.reaction import Reaction
from tinker_actors.ledger import Operation
from tinker_actors.sessions import Session
from tinker_actors.wire.endpoints.listings import get_training_run

__all__ = ["loss_behind"]


async def loss_behind(
    session: Session,
    model_id: str,
    operation: Operation,
    failures: Sequence[RequestFailedError | OutOfPatience],
    get_info: Callable[[], Awaitable[object]],
) -> ModelLost | None:
    """What has become of the model when ``operation`` has failed; None when it is there and sound.

    ``get_info`` asks the server for it. The lost result of a save that nobody has asked for is no lost model, unless
    that is gone, too. Raises OutOfPatience when nobody knows whether it went with its session.
    """
    failed = next((failure for failure in failures if isinstance(failure, RequestFailedError)), None)
    gone = [failure.error for failure in failures if operation.automatic and _is_loss(failure)]
    if (failed is None and not gone) or session.config.recovery is None:
        return None
    try:
        await get_info()
    except APIStatusError as error:
        if error.status not in (404, 410):
            return None
    except APIError:
        return None  # whatever is wrong there, others will meet it, too
    else:
        return None if failed is None else await _corrupted(session, model_id, failed)
    await session.confirm()
    why = failed.message if failed is not None else brief(gone[0])
    text = f"the server no longer holds it ({why})"
    return ModelLost(text, operation=operation.name, trigger="model_lost")


def _is_loss(failure: RequestFailedError | OutOfPatience) -> TypeGuard[OutOfPatience]:
    return isinstance(failure, OutOfPatience) and failure.reaction is Reaction.LOST


async def _corrupted(session: Session, model_id: str, failed: RequestFailedError) -> ModelLost | None:
    """Where nothing can be done with the model any more, that is no operation's fault."""
    policy = session.config.recovery
    if failed.category == "user" or policy is None or not policy.covers("run_corrupted"):
        return None
    try:
        run = await get_training_run(session.api, model_id)
    except APIError:
        return None  # some servers list no runs
    text = f"the server says that its run is corrupted ({failed.message})"
    return ModelLost(text, operation=failed.operation, trigger="run_corrupted") if run.corrupted else None
