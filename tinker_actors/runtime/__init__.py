"""The runtime: the tree, and the way in."""

from tinker_actors.runtime.runtime import Runtime, open_runtime

__all__ = ["Runtime", "open_runtime"]
