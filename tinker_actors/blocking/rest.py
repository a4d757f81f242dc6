"""The RestClient for threads and asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

from tinker_actors.blocking.delegate import Handle, at_once, blocking
from tinker_actors.clients import rest as clients
from tinker_actors.config import Config

__all__ = ["RestClient"]


@final
class RestClient(Handle[clients.RestClient]):
    """Training runs, checkpoints, sessions, samplers and usage of an account, for plain threads and asyncio.

    Get one from ``runtime.create_rest_client()``, or from a ServiceClient.
    """

    list_training_runs = blocking(clients.RestClient.list_training_runs)
    list_training_runs_async = at_once(clients.RestClient.list_training_runs_async)
    get_training_run = blocking(clients.RestClient.get_training_run)
    get_training_run_async = at_once(clients.RestClient.get_training_run_async)
    get_training_run_by_tinker_path = blocking(clients.RestClient.get_training_run_by_tinker_path)
    get_training_run_by_tinker_path_async = at_once(clients.RestClient.get_training_run_by_tinker_path_async)
    list_sessions = blocking(clients.RestClient.list_sessions)
    list_sessions_async = at_once(clients.RestClient.list_sessions_async)
    get_session = blocking(clients.RestClient.get_session)
    get_session_async = at_once(clients.RestClient.get_session_async)
    search_sessions = blocking(clients.RestClient.search_sessions)
    search_sessions_async = at_once(clients.RestClient.search_sessions_async)
    assign_session_project = blocking(clients.RestClient.assign_session_project)
    assign_session_project_async = at_once(clients.RestClient.assign_session_project_async)
    export_session_trace = blocking(clients.RestClient.export_session_trace)
    export_session_trace_async = at_once(clients.RestClient.export_session_trace_async)
    get_sampler = blocking(clients.RestClient.get_sampler)
    get_sampler_async = at_once(clients.RestClient.get_sampler_async)
    list_checkpoints = blocking(clients.RestClient.list_checkpoints)
    list_checkpoints_async = at_once(clients.RestClient.list_checkpoints_async)
    list_user_checkpoints = blocking(clients.RestClient.list_user_checkpoints)
    list_user_checkpoints_async = at_once(clients.RestClient.list_user_checkpoints_async)
    get_weights_info_by_tinker_path = blocking(clients.RestClient.get_weights_info_by_tinker_path)
    get_weights_info_by_tinker_path_async = at_once(clients.RestClient.get_weights_info_by_tinker_path_async)
    get_checkpoint_archive_url = blocking(clients.RestClient.get_checkpoint_archive_url)
    get_checkpoint_archive_url_async = at_once(clients.RestClient.get_checkpoint_archive_url_async)
    get_checkpoint_archive_url_by_tinker_path = blocking(clients.RestClient.get_checkpoint_archive_url_by_tinker_path)
    get_checkpoint_archive_url_by_tinker_path_async = at_once(
        clients.RestClient.get_checkpoint_archive_url_by_tinker_path_async
    )
    get_external_weights_urls = blocking(clients.RestClient.get_external_weights_urls)
    get_external_weights_urls_async = at_once(clients.RestClient.get_external_weights_urls_async)
    download_checkpoint = blocking(clients.RestClient.download_checkpoint)
    download_checkpoint_async = at_once(clients.RestClient.download_checkpoint_async)
    delete_checkpoint = blocking(clients.RestClient.delete_checkpoint)
    delete_checkpoint_async = at_once(clients.RestClient.delete_checkpoint_async)
    delete_checkpoint_from_tinker_path = blocking(clients.RestClient.delete_checkpoint_from_tinker_path)
    delete_checkpoint_from_tinker_path_async = at_once(clients.RestClient.delete_checkpoint_from_tinker_path_async)
    delete_checkpoint_by_tinker_path = blocking(clients.RestClient.delete_checkpoint_by_tinker_path)
    delete_checkpoint_by_tinker_path_async = at_once(clients.RestClient.delete_checkpoint_by_tinker_path_async)
    publish_checkpoint = blocking(clients.RestClient.publish_checkpoint)
    publish_checkpoint_async = at_once(clients.RestClient.publish_checkpoint_async)
    publish_checkpoint_from_tinker_path = blocking(clients.RestClient.publish_checkpoint_from_tinker_path)
    publish_checkpoint_from_tinker_path_async = at_once(clients.RestClient.publish_checkpoint_from_tinker_path_async)
    unpublish_checkpoint = blocking(clients.RestClient.unpublish_checkpoint)
    unpublish_checkpoint_async = at_once(clients.RestClient.unpublish_checkpoint_async)
    unpublish_checkpoint_from_tinker_path = blocking(clients.RestClient.unpublish_checkpoint_from_tinker_path)
    unpublish_checkpoint_from_tinker_path_async = at_once(
        clients.RestClient.unpublish_checkpoint_from_tinker_path_async
    )
    set_checkpoint_ttl_from_tinker_path = blocking(clients.RestClient.set_checkpoint_ttl_from_tinker_path)
    set_checkpoint_ttl_from_tinker_path_async = at_once(clients.RestClient.set_checkpoint_ttl_from_tinker_path_async)
    copy_weights = blocking(clients.RestClient.copy_weights)
    copy_weights_async = at_once(clients.RestClient.copy_weights_async)
    get_server_capabilities = blocking(clients.RestClient.get_server_capabilities)
    get_server_capabilities_async = at_once(clients.RestClient.get_server_capabilities_async)
    whoami = blocking(clients.RestClient.whoami)
    whoami_async = at_once(clients.RestClient.whoami_async)
    get_audit_log = blocking(clients.RestClient.get_audit_log)
    get_audit_log_async = at_once(clients.RestClient.get_audit_log_async)
    get_billing_usage = blocking(clients.RestClient.get_billing_usage)
    get_billing_usage_async = at_once(clients.RestClient.get_billing_usage_async)
    get_current_checkpoint_storage_usage = blocking(clients.RestClient.get_current_checkpoint_storage_usage)
    get_current_checkpoint_storage_usage_async = at_once(
        clients.RestClient.get_current_checkpoint_storage_usage_async
    )
    aclose = blocking(clients.RestClient.aclose)

    @property
    def session_id(self) -> str | None:
        """The session of the ServiceClient that it was got from; None for one of the runtime's."""
        return self._read("session_id", lambda inner: inner.session_id)

    @property
    def config(self) -> Config:
        """The configuration that it works by; printing it shows no secret."""
        return self._read("config", lambda inner: inner.config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.aclose()
