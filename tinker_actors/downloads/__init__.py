"""Checkpoints as folders on this machine: fetched, continued where it broke off, checked, and then there at once."""

from tinker_actors.downloads.checkpoint import DownloadWay, check_way, download_checkpoint
from tinker_actors.downloads.exported import KEPT
from tinker_actors.downloads.fetch import DownloadProgress
from tinker_actors.downloads.job import DownloadedCheckpoint

__all__ = ["check_way", "download_checkpoint", "DownloadedCheckpoint", "DownloadProgress", "DownloadWay", "KEPT"]
