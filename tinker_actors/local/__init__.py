"""A Tinker-compatible server in this process or on loopback, around a small real transformer.

Light: importing this package pulls in neither numpy nor Starlette. ``open_service`` is in ``local.service``,
``serve`` in ``local.server``.
"""

from tinker_actors.local.applied import AppliedOperation
from tinker_actors.local.settings import ServerSettings

__all__ = ["AppliedOperation", "ServerSettings"]
