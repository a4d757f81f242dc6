"""What a REST client's actor can be asked of checkpoints. Each message checks its own values."""

from __future__ import annotations

import math

from tinker_actors.checks import integer, number
from tinker_actors.clients.rest.call import RestCall, RestChange, known_id
from tinker_actors.errors import InvalidInput
from tinker_actors.types import (
    CheckpointArchiveUrlResponse,
    CheckpointsListResponse,
    CopyWeightsRequest,
    ExternalWeightsUrlsResponse,
    TinkerPath,
    WeightsInfoResponse,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints import checkpoints, weights

__all__ = [
    "CopyWeights",
    "DeleteCheckpoint",
    "GetCheckpointArchiveUrl",
    "GetExternalWeightsUrls",
    "GetWeightsInfo",
    "ListCheckpoints",
    "ListUserCheckpoints",
    "PublishCheckpoint",
    "SetCheckpointTtl",
    "UnpublishCheckpoint",
    "ttl",
]

_LONGEST_TTL = 100 * 365 * 24 * 3600  # seconds: what servers can add to a date
_PART = "Give a whole number from 0"


class GetWeightsInfo(RestCall[WeightsInfoResponse], frozen=True):
    """How the model behind a checkpoint was made."""

    path: str
    method = "get_weights_info_by_tinker_path"

    async def ask(self, api: Api) -> WeightsInfoResponse:
        return await weights.weights_info(api, self.path)


class ListCheckpoints(RestCall[CheckpointsListResponse], frozen=True):
    """The checkpoints of a run."""

    run_id: str
    method = "list_checkpoints"

    def __post_init__(self) -> None:
        known_id("training_run_id", self.run_id)

    async def ask(self, api: Api) -> CheckpointsListResponse:
        return await checkpoints.list_checkpoints(api, self.run_id)


class ListUserCheckpoints(RestCall[CheckpointsListResponse], frozen=True, kw_only=True):
    """A part of the caller's checkpoints."""

    limit: int
    offset: int
    method = "list_user_checkpoints"

    def __post_init__(self) -> None:
        integer("limit", self.limit, _PART, low=0)
        integer("offset", self.offset, _PART, low=0)

    async def ask(self, api: Api) -> CheckpointsListResponse:
        return await checkpoints.list_user_checkpoints(api, limit=self.limit, offset=self.offset)


class GetCheckpointArchiveUrl(RestCall[CheckpointArchiveUrlResponse], frozen=True, kw_only=True):
    """Where a checkpoint's archive is. A server that is making it (503) is asked again."""

    path: TinkerPath
    max_tries: int
    retry_delay: float
    method = "get_checkpoint_archive_url"

    def __post_init__(self) -> None:
        integer("max_tries", self.max_tries, "Ask at least once", low=1)
        cure = "Give a finite number of seconds from 0"
        if not 0 <= number("retry_delay", self.retry_delay, cure) < math.inf:
            raise InvalidInput("retry_delay", f"{self.retry_delay} is no time to wait", cure)

    async def ask(self, api: Api) -> CheckpointArchiveUrlResponse:
        return await checkpoints.checkpoint_archive_url(api, self.path.run, self.path.checkpoint_id)


class GetExternalWeightsUrls(RestCall[ExternalWeightsUrlsResponse], frozen=True):
    """Where the files of external weights are."""

    path: TinkerPath
    method = "get_external_weights_urls"

    async def ask(self, api: Api) -> ExternalWeightsUrlsResponse:
        return await checkpoints.external_weights_urls(api, self.path.run, self.path.checkpoint_id)


class DeleteCheckpoint(RestChange[None], frozen=True, kw_only=True):
    """Delete a checkpoint."""

    path: TinkerPath
    method = "delete_checkpoint"
    done_by = 404

    async def ask(self, api: Api) -> None:
        await checkpoints.delete_checkpoint(api, self.path.run, self.path.checkpoint_id, key=self.key)


class PublishCheckpoint(RestChange[None], frozen=True, kw_only=True):
    """Let everybody read a checkpoint."""

    path: TinkerPath
    method = "publish_checkpoint"
    done_by = 409

    async def ask(self, api: Api) -> None:
        await checkpoints.publish_checkpoint(api, self.path.run, self.path.checkpoint_id, key=self.key)


class UnpublishCheckpoint(RestChange[None], frozen=True, kw_only=True):
    """Let nobody but its owner read a checkpoint."""

    path: TinkerPath
    method = "unpublish_checkpoint"
    done_by = 409

    async def ask(self, api: Api) -> None:
        await checkpoints.unpublish_checkpoint(api, self.path.run, self.path.checkpoint_id, key=self.key)


class SetCheckpointTtl(RestChange[None], frozen=True, kw_only=True):
    """Keep a checkpoint for a time, or for good."""

    path: TinkerPath
    ttl_seconds: int | None
    method = "set_checkpoint_ttl_from_tinker_path"

    def __post_init__(self) -> None:
        ttl(self.ttl_seconds)

    async def ask(self, api: Api) -> None:
        path = self.path
        await checkpoints.set_checkpoint_ttl(api, path.run, path.checkpoint_id, self.ttl_seconds, key=self.key)


class CopyWeights(RestChange[str], frozen=True, kw_only=True):
    """Copy a checkpoint into a run of its own."""

    request: CopyWeightsRequest
    method = "copy_weights"

    async def ask(self, api: Api) -> str:
        return await weights.copy_weights(api, self.request, key=self.key)


def ttl(seconds: int | None) -> int | None:
    """``seconds`` if a checkpoint can be kept for so long, else InvalidInput."""
    if seconds is None:
        return None
    cure = "Give whole seconds, or None to keep it for good"
    return integer("ttl_seconds", seconds, cure, low=1, high=_LONGEST_TTL)
