"""``tinker-actors serve``: the local server, until it is told to end."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from tinker_actors.cli.serve_options import ServeOptions
from tinker_actors.errors import InvalidInput
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import FaultPlan

if TYPE_CHECKING:
    from tinker_actors.local.server import Around

__all__ = ["run_serve", "settings"]

_STDIN: Final = 0
_ADDRESS: Final = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def run_serve(options: ServeOptions) -> int:
    """Serve until SIGINT or SIGTERM, or print what would be served; the exit code.

    Raises InvalidInput for settings that can't be served.
    """
    if options.openapi:
        from tinker_actors.local.openapi import openapi

        print(msgspec.json.format(msgspec.json.encode(openapi())).decode())
        return 0
    from tinker_actors.local.server import serve

    chosen = settings(options)
    if options.stop_with_stdin:
        threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    refused: OSError | None = None
    try:
        trio.run(serve, chosen, options.host, options.port, _around(options))
    except* OSError as group:
        refused = _first(group)
    if refused is None:
        return 0
    if options.directory is not None and refused.filename is not None:
        cure = "Give a folder that you may write to"
        raise InvalidInput("--directory", f"can't be used ({refused})", cure) from refused
    cure = ". Give another --host or --port; port 0 takes any free one" if refused.errno in _ADDRESS else ""
    print(f"tinker-actors serve: can't serve at {options.host}:{options.port} ({refused}){cure}", file=sys.stderr)
    return 1


def _around(options: ServeOptions) -> Around | None:
    if options.faults is None and options.fault_seed is None:
        return None
    from tinker_actors.testing.faulty_server import FaultyApplication, drawn_fault_plan, read_fault_plan

    plan = FaultPlan()
    if options.faults is not None:
        plan = read_fault_plan(options.faults)
    if options.fault_seed is not None:
        plan = FaultPlan((*plan.faults, *drawn_fault_plan(options.fault_seed).faults))
    return lambda app: FaultyApplication(app, plan)


def _first(group: BaseExceptionGroup[OSError]) -> OSError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def settings(options: ServeOptions) -> ServerSettings:
    """The server's settings; what was not asked for keeps its default."""
    chosen = ServerSettings(directory=options.directory)
    if options.base_models:
        first, *rest = options.base_models
        chosen = msgspec.structs.replace(chosen, base_model=first, base_models=tuple(rest))
    if options.max_rank is not None:
        chosen = msgspec.structs.replace(chosen, max_rank=options.max_rank)
    if options.aliases:
        chosen = msgspec.structs.replace(chosen, aliases=options.aliases)
    if options.limits:
        chosen = msgspec.structs.replace(chosen, **options.limits)
    if options.api_keys:
        chosen = msgspec.structs.replace(chosen, api_keys=tuple(key.reveal() for key in options.api_keys))
    if options.named_keys:
        owners: dict[str, tuple[str, ...]] = {}
        for name, key in options.named_keys:
            owners[name] = (*owners.get(name, ()), key.reveal())
        chosen = msgspec.structs.replace(chosen, owners=owners)
    return chosen


def _end_with_stdin() -> None:
    # The program that started the server holds the other end, and its death closes it, too. Not sys.stdin: a thread
    # that waits in its lock aborts the interpreter's shutdown.
    while os.read(_STDIN, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
