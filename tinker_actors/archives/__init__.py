"""Archives of others, unpacked without trust: checkpoints as tar, tar.gz or zip."""

from tinker_actors.archives.bounds import ArchiveBounds
from tinker_actors.archives.extract import Extracted, extract_archive
from tinker_actors.archives.names import safe_name

__all__ = ["ArchiveBounds", "extract_archive", "Extracted", "safe_name"]
