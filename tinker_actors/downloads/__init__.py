"""Checkpoints as folders on this machine: fetched, continued where it broke off, checked, and then there at once."""

from tinker_actors.downloads.checkpoint import DownloadedCheckpoint, download_checkpoint
from tinker_actors.downloads.fetch import DownloadProgress

__all__ = ["download_checkpoint", "DownloadedCheckpoint", "DownloadProgress"]
