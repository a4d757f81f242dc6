"""Training runs: listed, and looked at one by one."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.endpoints.listings import listed_checkpoint
from tinker_actors.local.endpoints.query import Scope, ScopedPage, part
from tinker_actors.local.owners import Owner
from tinker_actors.local.refusals import not_found
from tinker_actors.local.service import LocalService
from tinker_actors.local.storage import CheckpointRecord, RunRecord
from tinker_actors.types import CheckpointKind, TrainingRun, TrainingRunsResponse

__all__ = ["RunsPage", "get_training_run", "list_training_runs", "project_of"]


class RunsPage(ScopedPage, frozen=True, kw_only=True):
    """GET /training_runs."""

    project_id: str | None = None


async def list_training_runs(service: LocalService, call: Incoming[RunsPage]) -> TrainingRunsResponse:
    """A part of the caller's training runs, newest first; with ``project_id``, of those in that project.

    "accessible" are also those that others have published a checkpoint of.
    """
    await trio.lowlevel.checkpoint()
    project = call.body.project_id
    everybody = call.body.access_scope == "accessible"
    visible = service.catalog.accessible_runs(call.owner) if everybody else service.catalog.runs(call.owner)
    runs = [run for run in visible if project in (None, project_of(service, run))]
    found, cursor = part(runs[::-1], call.body)
    return TrainingRunsResponse(
        training_runs=tuple(_listed(service, call.owner, run) for run in found), cursor=cursor
    )


async def get_training_run(service: LocalService, call: Incoming[Scope]) -> TrainingRun:
    """One training run."""
    await trio.lowlevel.checkpoint()
    run_id = call.path["run_id"]
    run = service.catalog.run(call.owner, run_id)
    if run is None and call.body.access_scope == "accessible":
        run = next((run for run in service.catalog.accessible_runs(call.owner) if run.run_id == run_id), None)
    if run is None:
        raise not_found(f"training run {run_id!r}: there is no such run")
    return _listed(service, call.owner, run)


def project_of(service: LocalService, run: RunRecord) -> str | None:
    """The project that the run belongs to: its own, else its session's."""
    session = service.catalog.session(run.owner, run.session_id)
    return run.project_id if run.project_id is not None or session is None else session.project_id


def _listed(service: LocalService, owner: Owner, run: RunRecord) -> TrainingRun:
    model = service.models.get(run.run_id)
    checkpoints = service.catalog.accessible_checkpoints(owner, run.run_id)
    saved, sampler = _newest(checkpoints, "weights"), _newest(checkpoints, "sampler_weights")
    # of an earlier process only what it left is known
    known = [run.created_at, *(record.created_at for record in checkpoints)]
    return TrainingRun(
        training_run_id=run.run_id,
        base_model=run.base_model,
        model_owner=run.owner,
        is_lora=True,
        last_request_time=max(known) if model is None else model.last_request_at,
        corrupted=model is not None and model.corrupted is not None,
        lora_rank=run.lora.rank,
        last_checkpoint=None if saved is None else listed_checkpoint(saved),
        last_sampler_checkpoint=None if sampler is None else listed_checkpoint(sampler),
        user_metadata=run.user_metadata,
    )


def _newest(records: Sequence[CheckpointRecord], kind: CheckpointKind) -> CheckpointRecord | None:
    of_kind = [record for record in records if record.kind == kind]
    return max(of_kind, key=lambda record: record.created_at, default=None)
