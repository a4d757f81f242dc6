"""Whether `import supervision` finds our package: a well-known computer-vision distribution installs another one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

__all__ = ["require_own_supervision"]

_PACKAGE: Final = "supervision"
_MARK: Final = "Actor"  # stands in our package's source and not in the other one's


def require_own_supervision() -> None:
    """Return when the importable `supervision` is ours; else raise ImportError with the cure. Imports nothing."""
    spec = find_spec(_PACKAGE)
    if spec is None:
        raise ImportError(
            "tinker_actors can't find its package 'supervision', which the distribution tinker-actors installs too: "
            "install tinker-actors again.",
            name=_PACKAGE,
        )
    get_source = getattr(spec.loader, "get_source", None)
    source: str | None = get_source(_PACKAGE) if get_source is not None else ""
    # None: only compiled files are there, and nothing can be told before the import itself
    if source is not None and _MARK not in source:
        raise ImportError(
            "tinker_actors needs its own package 'supervision', but Python finds another one at "
            f"{spec.origin or 'a folder without __init__.py'} (a computer-vision distribution installs one of the "
            "same name): install tinker-actors in an environment without that distribution.",
            name=_PACKAGE,
            path=spec.origin,
        )
