"""Checkpoints, as a REST client asks for them and changes them."""

from __future__ import annotations

from tinker_actors.checks import text
from tinker_actors.clients.rest import checkpoint_messages as messages
from tinker_actors.clients.rest.asking import Asking
from tinker_actors.errors import InvalidInput
from tinker_actors.ledger import Future
from tinker_actors.types import (
    CheckpointArchiveUrlResponse,
    CheckpointsListResponse,
    CopyWeightsRequest,
    ExternalWeightsUrlsResponse,
    TinkerPath,
    WeightsInfoResponse,
)

__all__ = ["CheckpointCalls"]


class CheckpointCalls(Asking):
    """A checkpoint is named by its tinker path, or by its training run's id and its own, such as "weights/name".

    Where a change meets that it was made before (a public checkpoint is to be published), it raises ConflictError;
    where a lost answer left open whether it was, it does not.
    """

    async def list_checkpoints(self, training_run_id: str) -> CheckpointsListResponse:
        """The checkpoints of a training run."""
        return await self._ask(messages.ListCheckpoints(training_run_id))

    def list_checkpoints_async(self, training_run_id: str) -> Future[CheckpointsListResponse]:
        """``list_checkpoints``, started at once."""
        return self._start(messages.ListCheckpoints(training_run_id))

    async def list_user_checkpoints(self, limit: int = 100, offset: int = 0) -> CheckpointsListResponse:
        """``limit`` of the caller's checkpoints, newest first, from number ``offset`` on."""
        return await self._ask(messages.ListUserCheckpoints(limit=limit, offset=offset))

    def list_user_checkpoints_async(self, limit: int = 100, offset: int = 0) -> Future[CheckpointsListResponse]:
        """``list_user_checkpoints``, started at once."""
        return self._start(messages.ListUserCheckpoints(limit=limit, offset=offset))

    async def get_weights_info_by_tinker_path(self, tinker_path: str) -> WeightsInfoResponse:
        """The base model and the LoRA shape of a checkpoint's model."""
        return await self._ask(_weights_info(tinker_path))

    def get_weights_info_by_tinker_path_async(self, tinker_path: str) -> Future[WeightsInfoResponse]:
        """``get_weights_info_by_tinker_path``, started at once."""
        return self._start(_weights_info(tinker_path))

    async def get_checkpoint_archive_url(
        self, training_run_id: str, checkpoint_id: str | None = None, *, max_tries: int = 6, retry_delay: float = 30.0
    ) -> CheckpointArchiveUrlResponse:
        """Where a checkpoint's archive can be downloaded, at servers that make some (up to SDK 0.25).

        Give a training run's id and a checkpoint's, or a tinker path alone. A server that is making it (503) is asked
        ``max_tries`` times, ``retry_delay`` seconds apart.
        """
        return await self._ask(
            messages.GetCheckpointArchiveUrl(
                path=_place(training_run_id, checkpoint_id), max_tries=max_tries, retry_delay=retry_delay
            )
        )

    def get_checkpoint_archive_url_async(
        self, training_run_id: str, checkpoint_id: str | None = None, *, max_tries: int = 6, retry_delay: float = 30.0
    ) -> Future[CheckpointArchiveUrlResponse]:
        """``get_checkpoint_archive_url``, started at once."""
        return self._start(
            messages.GetCheckpointArchiveUrl(
                path=_place(training_run_id, checkpoint_id), max_tries=max_tries, retry_delay=retry_delay
            )
        )

    async def get_checkpoint_archive_url_by_tinker_path(
        self, tinker_path: str, *, max_tries: int = 6, retry_delay: float = 30.0
    ) -> CheckpointArchiveUrlResponse:
        """``get_checkpoint_archive_url`` of a tinker path."""
        return await self._ask(
            messages.GetCheckpointArchiveUrl(path=_path(tinker_path), max_tries=max_tries, retry_delay=retry_delay)
        )

    def get_checkpoint_archive_url_by_tinker_path_async(
        self, tinker_path: str, *, max_tries: int = 6, retry_delay: float = 30.0
    ) -> Future[CheckpointArchiveUrlResponse]:
        """``get_checkpoint_archive_url_by_tinker_path``, started at once."""
        return self._start(
            messages.GetCheckpointArchiveUrl(path=_path(tinker_path), max_tries=max_tries, retry_delay=retry_delay)
        )

    async def get_external_weights_urls(self, tinker_path: str) -> ExternalWeightsUrlsResponse:
        """Where the files of external weights (``TrainingClient.save_weights_external``) can be downloaded."""
        return await self._ask(messages.GetExternalWeightsUrls(_external(tinker_path)))

    def get_external_weights_urls_async(self, tinker_path: str) -> Future[ExternalWeightsUrlsResponse]:
        """``get_external_weights_urls``, started at once."""
        return self._start(messages.GetExternalWeightsUrls(_external(tinker_path)))

    async def delete_checkpoint(self, training_run_id: str, checkpoint_id: str | None = None) -> None:
        """Delete a checkpoint. Give a training run's id and a checkpoint's, or a tinker path alone."""
        await self._ask(self._delete(_place(training_run_id, checkpoint_id)))

    def delete_checkpoint_async(self, training_run_id: str, checkpoint_id: str | None = None) -> Future[None]:
        """``delete_checkpoint``, started at once."""
        return self._start(self._delete(_place(training_run_id, checkpoint_id)))

    async def delete_checkpoint_from_tinker_path(self, tinker_path: str) -> None:
        """Delete the checkpoint of a tinker path."""
        await self._ask(self._delete(_path(tinker_path)))

    def delete_checkpoint_from_tinker_path_async(self, tinker_path: str) -> Future[None]:
        """``delete_checkpoint_from_tinker_path``, started at once."""
        return self._start(self._delete(_path(tinker_path)))

    async def delete_checkpoint_by_tinker_path(self, tinker_path: str) -> None:
        """Delete the checkpoint of a tinker path."""
        await self._ask(self._delete(_path(tinker_path)))

    def delete_checkpoint_by_tinker_path_async(self, tinker_path: str) -> Future[None]:
        """``delete_checkpoint_by_tinker_path``, started at once."""
        return self._start(self._delete(_path(tinker_path)))

    async def publish_checkpoint(self, tinker_path: str) -> None:
        """Let everybody read a checkpoint."""
        await self._ask(self._publish(tinker_path))

    def publish_checkpoint_async(self, tinker_path: str) -> Future[None]:
        """``publish_checkpoint``, started at once."""
        return self._start(self._publish(tinker_path))

    async def publish_checkpoint_from_tinker_path(self, tinker_path: str) -> None:
        """``publish_checkpoint``, under the official SDK's name."""
        await self._ask(self._publish(tinker_path))

    def publish_checkpoint_from_tinker_path_async(self, tinker_path: str) -> Future[None]:
        """``publish_checkpoint_from_tinker_path``, started at once."""
        return self._start(self._publish(tinker_path))

    async def unpublish_checkpoint(self, tinker_path: str) -> None:
        """Let nobody but its owner read a checkpoint."""
        await self._ask(self._unpublish(tinker_path))

    def unpublish_checkpoint_async(self, tinker_path: str) -> Future[None]:
        """``unpublish_checkpoint``, started at once."""
        return self._start(self._unpublish(tinker_path))

    async def unpublish_checkpoint_from_tinker_path(self, tinker_path: str) -> None:
        """``unpublish_checkpoint``, under the official SDK's name."""
        await self._ask(self._unpublish(tinker_path))

    def unpublish_checkpoint_from_tinker_path_async(self, tinker_path: str) -> Future[None]:
        """``unpublish_checkpoint_from_tinker_path``, started at once."""
        return self._start(self._unpublish(tinker_path))

    async def set_checkpoint_ttl_from_tinker_path(self, tinker_path: str, ttl_seconds: int | None) -> None:
        """Keep a checkpoint for so many seconds from now, or for good (None)."""
        await self._ask(self._keep_for(tinker_path, ttl_seconds))

    def set_checkpoint_ttl_from_tinker_path_async(self, tinker_path: str, ttl_seconds: int | None) -> Future[None]:
        """``set_checkpoint_ttl_from_tinker_path``, started at once."""
        return self._start(self._keep_for(tinker_path, ttl_seconds))

    async def copy_weights(
        self,
        path: str,
        destination_project_id: str,
        *,
        ttl_seconds: int | None = None,
        weights_access_token: str | None = None,
    ) -> str:
        """Copy a checkpoint into a run of its own, which can't be trained, in a project; returns the copy's path.

        ``weights_access_token`` is its owner's leave to read it, where it is another's.
        """
        return await self._ask(self._copy(path, destination_project_id, ttl_seconds, weights_access_token))

    def copy_weights_async(
        self,
        path: str,
        destination_project_id: str,
        *,
        ttl_seconds: int | None = None,
        weights_access_token: str | None = None,
    ) -> Future[str]:
        """``copy_weights``, started at once."""
        return self._start(self._copy(path, destination_project_id, ttl_seconds, weights_access_token))

    def _delete(self, path: TinkerPath) -> messages.DeleteCheckpoint:
        return messages.DeleteCheckpoint(path=path, key=self._account.new_key())

    def _publish(self, tinker_path: str) -> messages.PublishCheckpoint:
        return messages.PublishCheckpoint(path=_path(tinker_path), key=self._account.new_key())

    def _unpublish(self, tinker_path: str) -> messages.UnpublishCheckpoint:
        return messages.UnpublishCheckpoint(path=_path(tinker_path), key=self._account.new_key())

    def _keep_for(self, tinker_path: str, ttl_seconds: int | None) -> messages.SetCheckpointTtl:
        return messages.SetCheckpointTtl(
            path=_path(tinker_path), ttl_seconds=ttl_seconds, key=self._account.new_key()
        )

    def _copy(
        self, path: str, project_id: str, ttl_seconds: int | None, weights_access_token: str | None
    ) -> messages.CopyWeights:
        request = CopyWeightsRequest(
            source_path=path,
            destination_project_id=text("destination_project_id", project_id, "Give the id of a project"),
            ttl_seconds=messages.ttl(ttl_seconds),
            weights_access_token=weights_access_token,
        )
        return messages.CopyWeights(request=request, key=self._account.new_key())


def _path(tinker_path: str) -> TinkerPath:
    return TinkerPath.parse(tinker_path, field="tinker_path")


def _external(tinker_path: str) -> TinkerPath:
    return TinkerPath.parse(tinker_path, kind="external_weights", field="tinker_path")


def _weights_info(tinker_path: str) -> messages.GetWeightsInfo:
    return messages.GetWeightsInfo(str(_path(tinker_path)))


def _place(training_run_id: str, checkpoint_id: str | None) -> TinkerPath:
    if checkpoint_id is None:
        return TinkerPath.parse(training_run_id, field="training_run_id")
    cure = "Give the ids as list_checkpoints() gives them, such as weights/name"
    run, checkpoint = text("training_run_id", training_run_id, cure), text("checkpoint_id", checkpoint_id, cure)
    if "/" in run:
        raise InvalidInput("training_run_id", f"{run!r} is no id of a run", cure)
    return TinkerPath.parse(f"tinker://{run}/{checkpoint}", field="checkpoint_id")
