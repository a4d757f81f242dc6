"""A job's client: new, or from the newest of its points whose checkpoint is still at the server."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import (
    APIError,
    GoneError,
    InvalidInput,
    JobError,
    NotFoundError,
    RequestFailedError,
    UnprocessableEntityError,
)
from tinker_actors.recovery.jobs.record import ResumePoint, ResumeRecord

__all__ = ["client_of"]

_log = logging.getLogger("tinker_actors.jobs")

_REFUSED = (NotFoundError, GoneError, UnprocessableEntityError, RequestFailedError)


async def client_of(
    service: ServiceClient, record: ResumeRecord, policy: CheckpointPolicy, folder: Path
) -> tuple[TrainingClient, ResumeRecord]:
    """The client, and the record that it goes on from: with an earlier point where the newest's checkpoint is gone.

    Only what the server itself says to be gone is passed over, and only for one that it can load. Raises JobError,
    saying what is gone, where there is none such, and where one that is there can't be loaded.
    """
    if record.point is None:
        config = record.config
        client = await service.create_lora_training_client(
            config.base_model,
            config.rank,
            config.seed,
            train_mlp=config.train_mlp,
            train_attn=config.train_attn,
            train_unembed=config.train_unembed,
            checkpoints=policy,
        )
        return client, record
    points = [*record.earlier, record.point]
    gone: list[ResumePoint] = []
    while points:
        point = points.pop()
        try:
            client = await service.create_training_client_from_state_with_optimizer(
                point.checkpoint, record.config.base_model, checkpoints=policy
            )
        except _REFUSED as error:
            if not await _is_gone(service, point.checkpoint, error):
                raise JobError(
                    f"the job {record.name} can't go on after step {point.step}: its checkpoint {point.checkpoint} "
                    f"can't be loaded ({error}), and the server does not say that it is gone. Ask its operator, and "
                    f"run the program again; or remove {folder} to begin the job anew"
                ) from error
            gone.append(point)
            continue
        return client, _back_to(record, point, tuple(points), gone) if gone else record
    told = ", ".join(f"{point.checkpoint} (step {point.step})" for point in gone)
    raise JobError(
        f"the job {record.name} can't go on after step {record.step}: of its checkpoints none is at the server any "
        f"more, neither the newest nor what was kept before it: {told}. They have expired, were deleted, or are at "
        f"another server than {record.base_url}. Give that server's address, or remove {folder} to begin the job anew"
    )


async def _is_gone(service: ServiceClient, path: str, error: Exception) -> bool:
    rest = await service.create_rest_client()
    try:
        await rest.get_weights_info_by_tinker_path(path)
    except (NotFoundError, GoneError):
        return True
    except InvalidInput:  # a server with forms of its own, which has said it already
        return isinstance(error, NotFoundError | GoneError)
    except APIError:
        return False  # nobody knows: then nothing is given up
    finally:
        await rest.aclose()
    return False


def _back_to(
    record: ResumeRecord, point: ResumePoint, earlier: tuple[ResumePoint, ...], gone: list[ResumePoint]
) -> ResumeRecord:
    lost = {one.checkpoint for one in gone}
    _log.warning(
        "the job %s goes back to step %d, of %d that were safe, since the server has no more: %s. What came after it "
        "is done again, from %s",
        *(record.name, point.step, record.step, ", ".join(sorted(lost)), point.checkpoint),
    )
    return msgspec.structs.replace(
        record,
        point=point,
        earlier=earlier,
        checkpoints=tuple(saved for saved in record.checkpoints if saved.path not in lost),
        status="running",
        reason="",
    )
