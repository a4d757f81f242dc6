"""What one owner may have at a time. A refusal names the limit, what there is, and what to do.

What is used up for good is refused with 403: clients wait for the end of a 429, and for an hour of a 402 (WIRE 7.5,
15). Work that is accepted is never refused later; it queues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import final

from tinker_actors.errors import InvalidInput
from tinker_actors.local.model import Model
from tinker_actors.local.owners import Owner
from tinker_actors.local.refusals import Refusal
from tinker_actors.local.session import Session, SessionTable
from tinker_actors.local.settings import ServerSettings
from tinker_actors.types import ForwardBackwardRequest

__all__ = ["Limits"]


@final
class Limits:
    """The limits of one server's settings over what there is."""

    def __init__(self, settings: ServerSettings, sessions: SessionTable, models: Collection[Model]) -> None:
        self._settings = settings
        self._sessions = sessions
        self._models = models
        self._opening: Counter[Owner] = Counter()

    @contextmanager
    def session(self, owner: Owner) -> Generator[None]:
        """Room for a new session of the owner's while it is made. Refuses with 403 when there is none."""
        count = sum(session.owner == owner for session in self._sessions.alive()) + self._opening[owner]
        _require(self._settings.max_sessions_per_owner, "max_sessions_per_owner", count, _FINISH_SESSION)
        self._opening[owner] += 1
        try:
            yield
        finally:
            self._opening[owner] -= 1

    def check_model(self, session: Session) -> None:
        """Refuse (403) when the session, or its owner, may have no model more."""
        settings = self._settings
        count = sum(model.closed is None for model in session.models)
        _require(settings.max_models_per_session, "max_models_per_session", count, _UNLOAD)
        count = sum(model.closed is None for model in self._models if model.run.owner == session.owner)
        _require(settings.max_models_per_owner, "max_models_per_owner", count, _UNLOAD)

    def check_tokens(self, request: ForwardBackwardRequest) -> None:
        """Raise InvalidInput for a request of more tokens than the server computes at a time."""
        tokens = sum(datum.model_input.length for datum in request.data)
        most = self._settings.max_tokens_per_request
        if tokens > most:
            raise InvalidInput("data", f"holds {tokens} tokens in all", f"Give at most {most} in one request")


_FINISH_SESSION = "Finish one, or leave it silent for a while"
_UNLOAD = "Unload one, or finish its session"


def _require(most: int, limit: str, count: int, cure: str) -> None:
    if count >= most:
        raise Refusal(403, f"{limit}: there are {count}, and this server allows {most}. {cure}")
