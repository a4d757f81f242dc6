"""Training runs, sessions and samplers, as a REST client asks for them."""

from __future__ import annotations

from tinker_actors.clients.rest import run_messages as messages
from tinker_actors.clients.rest.asking import Asking
from tinker_actors.ledger import Future
from tinker_actors.types import (
    GetSamplerResponse,
    GetSessionResponse,
    ListSessionsResponse,
    SessionSearchRequest,
    SessionSearchResponse,
    TinkerPath,
    TrainingRun,
    TrainingRunsResponse,
)
from tinker_actors.wire.endpoints.listings import AccessScope

__all__ = ["RunCalls"]


class RunCalls(Asking):
    """``access_scope`` is "owned" for what is the caller's, "accessible" for all that the caller may see."""

    async def list_training_runs(
        self, limit: int = 20, offset: int = 0, access_scope: AccessScope = "owned", project_id: str | None = None
    ) -> TrainingRunsResponse:
        """``limit`` training runs, newest first, from number ``offset`` on; ``cursor`` says how many there are."""
        return await self._ask(_runs(limit, offset, access_scope, project_id))

    def list_training_runs_async(
        self, limit: int = 20, offset: int = 0, access_scope: AccessScope = "owned", project_id: str | None = None
    ) -> Future[TrainingRunsResponse]:
        """``list_training_runs``, started at once."""
        return self._start(_runs(limit, offset, access_scope, project_id))

    async def get_training_run(self, training_run_id: str, access_scope: AccessScope = "owned") -> TrainingRun:
        """One training run; its id is the model's."""
        return await self._ask(messages.GetTrainingRun(run_id=training_run_id, access_scope=access_scope))

    def get_training_run_async(
        self, training_run_id: str, access_scope: AccessScope = "owned"
    ) -> Future[TrainingRun]:
        """``get_training_run``, started at once."""
        return self._start(messages.GetTrainingRun(run_id=training_run_id, access_scope=access_scope))

    async def get_training_run_by_tinker_path(
        self, tinker_path: str, access_scope: AccessScope = "owned"
    ) -> TrainingRun:
        """The training run that a checkpoint is of."""
        return await self._ask(_run_of(tinker_path, access_scope))

    def get_training_run_by_tinker_path_async(
        self, tinker_path: str, access_scope: AccessScope = "owned"
    ) -> Future[TrainingRun]:
        """``get_training_run_by_tinker_path``, started at once."""
        return self._start(_run_of(tinker_path, access_scope))

    async def list_sessions(
        self, limit: int = 20, offset: int = 0, access_scope: AccessScope = "owned"
    ) -> ListSessionsResponse:
        """The ids of ``limit`` sessions, newest first, from number ``offset`` on."""
        return await self._ask(messages.ListSessions(limit=limit, offset=offset, access_scope=access_scope))

    def list_sessions_async(
        self, limit: int = 20, offset: int = 0, access_scope: AccessScope = "owned"
    ) -> Future[ListSessionsResponse]:
        """``list_sessions``, started at once."""
        return self._start(messages.ListSessions(limit=limit, offset=offset, access_scope=access_scope))

    async def get_session(self, session_id: str, access_scope: AccessScope = "owned") -> GetSessionResponse:
        """The ids of a session's training runs and samplers."""
        return await self._ask(messages.GetSession(session_id=session_id, access_scope=access_scope))

    def get_session_async(self, session_id: str, access_scope: AccessScope = "owned") -> Future[GetSessionResponse]:
        """``get_session``, started at once."""
        return self._start(messages.GetSession(session_id=session_id, access_scope=access_scope))

    async def search_sessions(self, request: SessionSearchRequest) -> SessionSearchResponse:
        """A part of the sessions that fulfil every condition; ``next_cursor`` in the next request gives the next."""
        return await self._ask(messages.SearchSessions(request))

    def search_sessions_async(self, request: SessionSearchRequest) -> Future[SessionSearchResponse]:
        """``search_sessions``, started at once."""
        return self._start(messages.SearchSessions(request))

    async def assign_session_project(self, session_id: str, project_id: str) -> None:
        """Put a session, and its training runs, into a project."""
        await self._ask(self._assignment(session_id, project_id))

    def assign_session_project_async(self, session_id: str, project_id: str) -> Future[None]:
        """``assign_session_project``, started at once."""
        return self._start(self._assignment(session_id, project_id))

    async def export_session_trace(self, session_id: str) -> str:
        """A URL of the session's trace, for Perfetto, good for about an hour; the server may take minutes to make it.

        Raises RequestFailedError where the server can't.
        """
        return await self._ask(messages.ExportSessionTrace(session_id))

    def export_session_trace_async(self, session_id: str) -> Future[str]:
        """``export_session_trace``, started at once."""
        return self._start(messages.ExportSessionTrace(session_id))

    async def get_sampler(self, sampler_id: str) -> GetSamplerResponse:
        """What a sampling session samples from; its id is ``SamplingClient.sampling_session_id``."""
        return await self._ask(messages.GetSampler(sampler_id))

    def get_sampler_async(self, sampler_id: str) -> Future[GetSamplerResponse]:
        """``get_sampler``, started at once."""
        return self._start(messages.GetSampler(sampler_id))

    def _assignment(self, session_id: str, project_id: str) -> messages.AssignSessionProject:
        return messages.AssignSessionProject(
            session_id=session_id, project_id=project_id, key=self._account.new_key()
        )


def _runs(limit: int, offset: int, access_scope: AccessScope, project_id: str | None) -> messages.ListTrainingRuns:
    return messages.ListTrainingRuns(limit=limit, offset=offset, access_scope=access_scope, project_id=project_id)


def _run_of(tinker_path: str, access_scope: AccessScope) -> messages.GetTrainingRun:
    run_id = TinkerPath.parse(tinker_path, field="tinker_path").run
    return messages.GetTrainingRun(run_id=run_id, access_scope=access_scope)
