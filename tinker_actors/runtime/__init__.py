"""The runtime: the tree, and the way in."""

from tinker_actors.runtime.opening import open_runtime
from tinker_actors.runtime.runtime import Runtime

__all__ = ["Runtime", "open_runtime"]
