"""The base model of weights that are known by their path alone: the server is asked."""

from __future__ import annotations

from tinker_actors.clients.sampler import Sampler
from tinker_actors.errors import APIResponseError, APIStatusError
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import while_calling
from tinker_actors.sessions import Session
from tinker_actors.wire.endpoints.listings import get_sampler
from tinker_actors.wire.endpoints.weights import weights_info

__all__ = ["find_base_model"]

_UNKNOWN_CALL = (404, 405, 501)


async def find_base_model(session: Session, sampler: Sampler) -> str:
    """What the server says of the sampling session (GET /samplers), or of the run that the path names (WIRE 2.4).

    Raises the server's refusal, and APIResponseError where it says nothing.
    """
    sampling_session_id = sampler.sampling_session_id
    assert sampling_session_id is not None
    with session.pending.track(sampling_session_id, "get_base_model", "sent") as entry:
        try:
            try:
                patience = session.poller().patience()
                described = await patience.persist(
                    lambda: get_sampler(session.api, sampling_session_id), while_calling, entry.explain
                )
            except OutOfPatience as gone:
                unknown = isinstance(gone.error, APIStatusError) and gone.error.status in _UNKNOWN_CALL
                if not unknown or sampler.model_path is None:
                    raise
                path, patience = sampler.model_path, session.poller().patience()
                described = await patience.persist(
                    lambda: weights_info(session.api, path), while_calling, entry.explain
                )
        except OutOfPatience as gone:
            raise gone.error from None
    if not described.base_model:
        raise APIResponseError(f"the server names no base model of {sampler.model_path or sampling_session_id}")
    return described.base_model
