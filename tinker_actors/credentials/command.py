"""The credential command: a process that prints a credential, within bounds and without a shell."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import PurePath

import trio

from tinker_actors.config import Secret, parse_api_key
from tinker_actors.errors import CredentialError, CredentialUnavailable

__all__ = ["run_command"]

_LIMIT = 64 << 10  # bytes of each of its outputs
_LONGEST_SHOWN = 300
_SHORTEST_HIDDEN = 4
_LOOKS_SECRET = re.compile(r"(?:tml-|eyJ|hf_)[\w.\-]+")


async def run_command(command: Secret, *, timeout: float = 30.0) -> Secret:
    """What ``command`` prints. It is split into words as a shell would and never given to one.

    Raises CredentialUnavailable when it can't be started, fails, takes more than ``timeout`` seconds, writes more
    than 64 KiB or prints no credential. The error has what it wrote to stderr, without anything that looks secret.
    """
    try:
        words = shlex.split(command.reveal())
    except ValueError as error:
        raise CredentialUnavailable(f"the credential command can't be split into words ({error})") from None
    name = PurePath(words[0]).name if words else ""
    if not name:
        raise CredentialUnavailable("the credential command is empty")
    try:
        process = await trio.lowlevel.open_process(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that what it starts ends with it
        )
    except OSError as error:
        raise CredentialUnavailable(f"the credential command {name} can't be started ({error.strerror})") from None
    out, err = bytearray(), bytearray()
    try:
        with trio.move_on_after(timeout) as bound:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read, process.stdout, out, nursery.cancel_scope)
                nursery.start_soon(_read, process.stderr, err, nursery.cancel_scope)
            if max(len(out), len(err)) <= _LIMIT:
                await process.wait()
    finally:
        await _end(process)
    problem = ""
    if bound.cancelled_caught:
        problem = f"took more than {timeout:g} s"
    elif max(len(out), len(err)) > _LIMIT:
        problem = f"wrote more than {_LIMIT} bytes"
    elif process.returncode != 0:
        problem = f"ended with status {process.returncode}"
    if not problem:
        try:
            return parse_api_key(out.decode(errors="replace").strip())
        except CredentialError as error:
            problem = f"printed no credential: it {error.problem}"
    said = _harmless(err.decode(errors="replace").strip(), [*words[1:], *out.decode(errors="replace").split()])
    raise CredentialUnavailable(f"the credential command {name} {problem}" + (f"; it said: {said}" if said else ""))


async def _read(stream: trio.abc.ReceiveStream | None, into: bytearray, scope: trio.CancelScope) -> None:
    assert stream is not None
    while piece := await stream.receive_some():
        into += piece
        if len(into) > _LIMIT:
            scope.cancel(reason="too long")


async def _end(process: trio.Process) -> None:
    if process.returncode is None:
        try:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        except ProcessLookupError:
            pass  # it has just ended by itself
        with trio.CancelScope(shield=True):
            await process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            with trio.CancelScope(shield=True):
                await stream.aclose()


def _harmless(text: str, secrets: list[str]) -> str:
    text = _LOOKS_SECRET.sub("[hidden]", text)
    parts = {part for secret in secrets for part in (secret, *secret.split("="))}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_HIDDEN:
            text = text.replace(part, "[hidden]")
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
