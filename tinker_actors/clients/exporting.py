"""External weights made of a training checkpoint by a model that is there for nothing else."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from tinker_actors.clients.training import TrainingClient
from tinker_actors.errors import APIResponseError, TinkerError

__all__ = ["EXPORTER", "export_weights"]

EXPORTER: Final = {"created_by": "tinker-actors checkpoint download"}
"""Metadata of such a model, as the official SDK's name says what it is for (WIRE 10.2)."""
_NAME: Final = "download"
_FREED_WITHIN: Final = 10.0  # seconds

_log = logging.getLogger("tinker_actors.downloads")


async def export_weights(create: Callable[[], Awaitable[TrainingClient]], ttl_seconds: int) -> str:
    """The path of external weights of the model that ``create`` makes; the model is freed."""
    client = await create()
    try:
        saved = await (await client.save_weights_external(_NAME, ttl_seconds))
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
