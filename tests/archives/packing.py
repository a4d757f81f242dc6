"""Archives as honest and as evil as a test wants them."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable

__all__ = ["entry", "tar", "zip_of"]


def entry(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """One member of a tar."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    info.linkname = link
    return info, content


def tar(
    entries: Iterable[tuple[tarfile.TarInfo, bytes]], *, packed: bool = False, form: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar of ``entries``, in gzip where ``packed``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue()) if packed else out.getvalue()


def zip_of(entries: Iterable[tuple[str, bytes]], *, mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of ``entries``, each with the bits ``mode`` of a file's kind and permissions."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return out.getvalue()
