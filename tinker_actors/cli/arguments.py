"""The options of each command, read and checked before anything starts."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeAlias, final

import msgspec

from tinker_actors import __version__
from tinker_actors.config import Config, Secret, require_key
from tinker_actors.config.secret import parse_api_key
from tinker_actors.errors import CredentialError, InvalidInput

__all__ = ["DEFAULT_STEPS", "DemoOptions", "Options", "ServeOptions", "parse"]

DEFAULT_STEPS: Final = 150
_LOOPBACK: Final = "127.0.0.1"
_LARGEST_SEED: Final = 2**31 - 1
_LARGEST_PORT: Final = 65535
_SERVER_KEYS: Final = "TINKER_ACTORS_SERVER_KEYS"
_KEY: Final = re.compile(r"(?:tml-|eyJ)[^\s'\"]+")


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``demo`` is asked for. Without ``base_url`` it starts a local server of its own."""

    seed: int = 0
    steps: int = DEFAULT_STEPS
    faults: bool = True
    run_dir: Path | None = None
    base_url: str | None = None
    api_key: Secret | None = None
    json: bool = False


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``serve`` is asked for. Without a ``directory`` everything is kept in memory.

    ``named_keys`` are keys with the names of their owners.
    """

    host: str = _LOOPBACK
    port: int = 8000
    directory: Path | None = None
    base_models: tuple[str, ...] = ()
    max_rank: int | None = None
    api_keys: tuple[Secret, ...] = ()
    named_keys: tuple[tuple[str, Secret], ...] = ()
    stop_with_stdin: bool = False


Options: TypeAlias = DemoOptions | ServeOptions


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; a wrong one is named in one line on standard error, and the exit code is 2."""
    parser = _Parser(
        prog="tinker-actors",
        description="Fine-tune language models through the Tinker API, supervised.",
        epilog="`tinker-actors COMMAND --help` lists the options of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tinker-actors {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        allow_abbrev=False,
        help="teach a small model Pig Latin, with faults on the way, and prove that nothing was lost",
        description=(
            "Teach a small language model Pig Latin through the supervised runtime. In the first third the demo "
            "crashes the training actor twice and loses a request and a reply; then it proves that every "
            "operation took effect exactly once, in order. Exit code 1 when a check fails."
        ),
    )
    _add_demo(demo)
    serve = commands.add_parser(
        "serve",
        allow_abbrev=False,
        help="run the local Tinker-compatible server",
        description="Run a Tinker-compatible server with a small real model on this machine, until Ctrl-C.",
    )
    _add_serve(serve)
    values, unknown = parser.parse_known_args(arguments)
    if unknown:
        (demo if values.command == "demo" else serve).error(f"unrecognized arguments: {' '.join(unknown)}")
    if values.command == "demo":
        try:
            return _read_demo(values)
        except InvalidInput as error:
            demo.error(str(error))
    try:
        return _read_serve(values, os.environ)
    except InvalidInput as error:
        serve.error(str(error))


@final
class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # a key behind a mistyped option is quoted as well
        self.exit(2, f"{self.prog}: {_KEY.sub('[hidden]', message)} (see {self.prog} --help)\n")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of every random choice (default 0)")
    parser.add_argument(
        "--steps",
        type=_positive,
        default=DEFAULT_STEPS,
        metavar="N",
        help=f"training steps of 32 words (default {DEFAULT_STEPS})",
    )
    parser.add_argument("--no-faults", dest="faults", action="store_false", help="let nothing go wrong")
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="FOLDER",
        help="where metrics, log and loss curve go (default runs/DATE-TIME)",
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="use this server instead of starting one; no faults, and what it can't tell is left out",
    )
    parser.add_argument("--api-key", metavar="KEY", help="for that server (default: TINKER_API_KEY)")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object on the last line")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default=_LOOPBACK, help=f"address to listen at (default {_LOOPBACK}); any other needs keys"
    )
    parser.add_argument("--port", type=_port, default=8000, metavar="N", help="default 8000; 0 takes any free one")
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="FOLDER",
        help="keep checkpoints there, and offer them again after a restart (default: in memory only)",
    )
    parser.add_argument(
        "--base-model",
        dest="base_models",
        action="append",
        default=[],
        metavar="NAME",
        help="a base model to offer; may be given several times (default tinker-actors/base-s)",
    )
    parser.add_argument("--max-rank", type=_positive, metavar="N", help="the largest LoRA rank (default 128)")
    parser.add_argument(
        "--api-key",
        dest="api_keys",
        action="append",
        default=[],
        metavar="[NAME=]KEY",
        help=(
            "accept only this key; may be given several times. Keys of one NAME are one owner, any other key is an "
            f"owner of its own, who sees nothing of others (default: {_SERVER_KEYS}, separated by commas and not "
            "seen in the list of processes; without either any that starts with tml-)"
        ),
    )
    parser.add_argument("--stop-with-stdin", action="store_true", help="end when standard input ends (for programs)")


def _read_demo(values: argparse.Namespace) -> DemoOptions:
    key: str | None = values.api_key
    base_url: str | None = values.base_url
    if base_url is not None or key is not None:
        checked = Config.load(base_url=base_url or f"http://{_LOOPBACK}", api_key=key)
        secret = require_key(checked)
    else:
        secret = None
    return DemoOptions(
        seed=values.seed,
        steps=values.steps,
        faults=values.faults,
        run_dir=values.run_dir,
        base_url=base_url,
        api_key=secret,
        json=values.json,
    )


def _read_serve(values: argparse.Namespace, environ: Mapping[str, str]) -> ServeOptions:
    given: list[str] = values.api_keys
    source = "--api-key"
    if not given:
        source = _SERVER_KEYS
        named = environ.get(_SERVER_KEYS, "")
        given = [key.strip() for key in named.split(",") if key.strip()]
        if named.strip() and not given:  # whoever set it did not mean that any key will do
            raise CredentialError(source, "holds no key", "Separate keys by commas, or leave it out to take any key")
    keys = [_server_key(key, source) for key in given]
    return ServeOptions(
        host=values.host,
        port=values.port,
        directory=values.directory,
        base_models=tuple(values.base_models),
        max_rank=values.max_rank,
        api_keys=tuple([key for name, key in keys if name is None]),
        named_keys=tuple([(name, key) for name, key in keys if name is not None]),
        stop_with_stdin=values.stop_with_stdin,
    )


def _server_key(given: str, source: str) -> tuple[str | None, Secret]:
    name, named, key = given.partition("=")
    if not named or _KEY.match(given):  # a key may hold a "=" itself
        name, key = None, given
    try:
        return name, parse_api_key(key, source)
    except CredentialError as error:
        problem = error.problem
    raise CredentialError(source, problem, "Clients send only keys that start with 'tml-'")


def _seed(text: str) -> int:
    return _integer(text, 0, _LARGEST_SEED)


def _positive(text: str) -> int:
    return _integer(text, 1, _LARGEST_SEED)


def _port(text: str) -> int:
    return _integer(text, 0, _LARGEST_PORT)


def _integer(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
    return value
