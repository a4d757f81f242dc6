"""Files of the Hugging Face hub, kept by its own library in its own cache, and trusted only where they are whole."""

from __future__ import annotations

import hashlib
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec

from tinker_actors.config import Secret
from tinker_actors.errors import InvalidInput

__all__ = ["Hub", "hub_file"]

# How the library names what it keeps: by the digest that the hub gives, for small files that of git.
_GIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Hub(msgspec.Struct, frozen=True, kw_only=True):
    """How the hub is asked: with which token, where (None: as HF_ENDPOINT says), and where its files are kept
    (None: as HF_HOME says).
    """

    token: Secret | None = None
    endpoint: str | None = None
    cache: Path | None = None


def hub_file(repo: str, file: str, hub: Hub, *, revision: str | None = None) -> Path:
    """The path of ``file`` of the repository ``repo``, downloaded where it is not kept already; blocking.

    The library writes beside the final name, compares the size and renames; here the contents are compared with the
    digest under which they are kept, each time. What does not agree is downloaded anew, once. Raises InvalidInput
    where the file can't be had whole, without ever showing the token.
    """
    path = _download(repo, file, hub, revision, force=False)
    if not _is_whole(path):
        path = _download(repo, file, hub, revision, force=True)
        if not _is_whole(path):
            path.resolve().unlink(missing_ok=True)
            problem = f"{file} of {repo!r} has not the digest that the hub gives"
            raise InvalidInput("tokenizer", problem, "Try again later, or give a folder with a tokenizer.json")
    return path


def _download(repo: str, file: str, hub: Hub, revision: str | None, *, force: bool) -> Path:
    library: Any = import_module("huggingface_hub")  # which takes a third of a second
    token = None if hub.token is None else hub.token.reveal()
    try:
        found = library.hf_hub_download(
            repo,
            file,
            revision=revision,
            token=token,
            endpoint=hub.endpoint,
            cache_dir=hub.cache,
            force_download=force,
        )
        return Path(found)
    except Exception as error:  # noqa: BLE001  # of the library, of its HTTP client, of the disk
        reason = f"{type(error).__name__}: {error}"
    # outside of the handler: that error may quote the token
    reason = reason if token is None else reason.replace(token, "[hidden]")
    problem = f"there is none for {repo!r} ({file}: {reason})"
    raise InvalidInput("tokenizer", problem, "Give a folder with a tokenizer.json")


def _is_whole(path: Path) -> bool:
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name):
        digest = hashlib.sha256()
    elif _GIT.fullmatch(blob.name):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:  # a cache without links keeps no digest
        return True
    with blob.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == blob.name
