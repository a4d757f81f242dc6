"""The files that a checkpoint is downloaded as, one by one or as an archive. Everything here blocks."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from typing import Final

from tinker_actors.local.catalog import Catalog
from tinker_actors.local.engine import snapshot_from_safetensors
from tinker_actors.local.engine.peft import CONFIG_FILE, WEIGHTS_FILE, peft_config, peft_weights
from tinker_actors.local.storage import CheckpointRecord

__all__ = ["COMPLETE_FILE", "STATE_FILE", "archive", "checkpoint_files"]

STATE_FILE: Final = "checkpoint.safetensors"
"""In the archive of a training checkpoint: weights and optimizer as the server keeps them."""
COMPLETE_FILE: Final = "checkpoint_complete"
"""The last, empty file of an archive: without it the SDKs that ask for archives push none to the Hugging Face hub."""


def checkpoint_files(catalog: Catalog, record: CheckpointRecord) -> Mapping[str, bytes]:
    """The adapter as PEFT reads it and, of a training checkpoint, STATE_FILE.

    Raises DamagedCheckpoint and DecodeError.
    """
    data = catalog.read(record)
    config = {CONFIG_FILE: peft_config(record.base_model, record.lora)}
    if record.kind == "external_weights":
        return config | {WEIGHTS_FILE: data}
    files = config | {WEIGHTS_FILE: peft_weights(snapshot_from_safetensors(data))}
    return files | {STATE_FILE: data} if record.kind == "weights" else files


def archive(catalog: Catalog, record: CheckpointRecord) -> bytes:
    """The files as a .tar.gz; the same bytes each time. Raises DamagedCheckpoint, DecodeError."""
    created = record.created_at.timestamp()
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=packed, mtime=created) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in (*sorted(checkpoint_files(catalog, record).items()), (COMPLETE_FILE, b"")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = int(created)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
