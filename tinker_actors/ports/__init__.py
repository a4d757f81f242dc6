"""The seams between the runtime and the world, so that one code runs in production and in simulation.

A port is a protocol; the small adapters that need nothing but trio and files stand beside theirs. Time is trio's
clock and randomness an injected ``random.Random``, so neither needs a port.
"""

from tinker_actors.ports.credentials import Credential, Credentials, FixedCredentials
from tinker_actors.ports.disk import Disk
from tinker_actors.ports.file_disk import FileDisk
from tinker_actors.ports.offload import InlineOffload, Offload, ThreadOffload
from tinker_actors.ports.points import NoPoints, Points
from tinker_actors.ports.server import Server
from tinker_actors.ports.transport import Purpose, Request, Response, StreamedBody, Transport

__all__ = [
    "Credential",
    "Credentials",
    "Disk",
    "FileDisk",
    "FixedCredentials",
    "InlineOffload",
    "NoPoints",
    "Offload",
    "Points",
    "Purpose",
    "Request",
    "Response",
    "Server",
    "StreamedBody",
    "ThreadOffload",
    "Transport",
]
