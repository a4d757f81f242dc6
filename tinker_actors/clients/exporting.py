"""External weights made of a training checkpoint by a model that is there for nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from tinker_actors.errors import APIResponseError, TinkerError
from tinker_actors.types import TinkerPath

if TYPE_CHECKING:
    from tinker_actors.clients.service import ServiceClient

__all__ = ["export_weights"]

_EXPORTER: Final = {"created_by": "tinker-actors checkpoint download"}
"""Metadata of such a model, as the official SDK's name says what it is for (WIRE 10.2)."""
_NAME: Final = "download"
_FREED_WITHIN: Final = 10.0  # seconds

_log = logging.getLogger("tinker_actors.downloads")


async def export_weights(service: ServiceClient, path: TinkerPath) -> str:
    """The path of external weights of the training checkpoint ``path``, kept for an hour; the model is freed."""
    from tinker_actors.downloads import KEPT

    client = await service.create_training_client_from_state(str(path), user_metadata=_EXPORTER)
    try:
        saved = await (await client.save_weights_external(_NAME, KEPT))
    finally:
        with trio.move_on_after(_FREED_WITHIN, shield=True):
            try:
                await client.unload_model()
            except TinkerError as error:  # it goes with its session
                _log.warning("%r of a download could not be freed: %s", client, error)
        with trio.CancelScope(shield=True):
            await client.aclose()
    if saved.path is None:
        raise APIResponseError("save_weights_external: the server gives no path")
    return saved.path
