"""The options of ``serve``, read and checked before anything starts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, get_type_hints

import msgspec

from tinker_actors.cli.numbers import port, positive, seed
from tinker_actors.config import Secret
from tinker_actors.config.secret import parse_api_key
from tinker_actors.errors import CredentialError, InvalidInput
from tinker_actors.local import ServerSettings

__all__ = ["KEY", "LIMITS", "ServeOptions", "add_serve_options", "read_serve_options"]

_LOOPBACK: Final = "127.0.0.1"
_SERVER_KEYS: Final = "TINKER_ACTORS_SERVER_KEYS"
_NUMBERS: Final = (int, float, int | None, float | None)

KEY: Final = re.compile(r"(?:tml-|eyJ)[^\s'\"]+")
"""What looks like a key, in whatever it is quoted."""
LIMITS: Final[tuple[str, ...]] = tuple(
    name for name, kind in get_type_hints(ServerSettings).items() if kind in _NUMBERS
)
"""The fields of ServerSettings that ``--limit`` sets: all that are numbers."""


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``serve`` is asked for. Without a ``directory`` everything is kept in memory.

    ``aliases`` are models of any name with the folders of their tokenizers; ``limits`` are fields of ServerSettings;
    ``named_keys`` are keys with the names of their owners. ``faults`` is a file with a plan of faults, and
    ``fault_seed`` draws one; with both, both happen. ``openapi`` prints what the server offers instead of serving it.
    """

    host: str = _LOOPBACK
    port: int = 8000
    directory: Path | None = None
    base_models: tuple[str, ...] = ()
    aliases: Mapping[str, Path] = {}
    max_rank: int | None = None
    limits: Mapping[str, float] = {}
    api_keys: tuple[Secret, ...] = ()
    named_keys: tuple[tuple[str, Secret], ...] = ()
    faults: Path | None = None
    fault_seed: int | None = None
    stop_with_stdin: bool = False
    openapi: bool = False


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Add them to ``parser``."""
    parser.add_argument(
        "--host", default=_LOOPBACK, help=f"address to listen at (default {_LOOPBACK}); any other needs keys"
    )
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="default 8000; 0 takes any free one")
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
    parser.add_argument(
        "--model",
        dest="aliases",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help=(
            "offer a fresh tiny model under any name, such as Qwen/Qwen3-8B, with the vocabulary of the "
            "tokenizer.json in FOLDER, for programs that are written for it; may be given several times"
        ),
    )
    parser.add_argument("--max-rank", type=positive, metavar="N", help="the largest LoRA rank (default 128)")
    parser.add_argument(
        "--limit",
        dest="limits",
        action="append",
        default=[],
        metavar="NAME=N",
        help=f"any other limit, in seconds, bytes or numbers; may be given several times: {', '.join(_shown())}",
    )
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
    parser.add_argument(
        "--faults",
        type=Path,
        metavar="FILE",
        help="lose, repeat, delay and refuse requests as the plan in FILE says (docs/faults.md); each is logged",
    )
    parser.add_argument(
        "--fault-seed",
        type=seed,
        metavar="N",
        help="draw twenty faults with this seed; the same seed, the same faults",
    )
    parser.add_argument(
        "--openapi", action="store_true", help="print the OpenAPI document of all endpoints, and serve nothing"
    )
    parser.add_argument("--stop-with-stdin", action="store_true", help="end when standard input ends (for programs)")


def read_serve_options(values: argparse.Namespace, environ: Mapping[str, str]) -> ServeOptions:
    """What was asked for. Raises InvalidInput, naming the option."""
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
        aliases={name: Path(folder) for name, folder in _pairs("--model", values.aliases, "NAME=FOLDER")},
        max_rank=values.max_rank,
        limits={name: _limit(name, text) for name, text in _pairs("--limit", values.limits, "NAME=N")},
        api_keys=tuple([key for name, key in keys if name is None]),
        named_keys=tuple([(name, key) for name, key in keys if name is not None]),
        faults=values.faults,
        fault_seed=values.fault_seed,
        stop_with_stdin=values.stop_with_stdin,
        openapi=values.openapi,
    )


def _pairs(option: str, given: Iterable[str], form: str) -> list[tuple[str, str]]:
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InvalidInput(option, f"{text!r} is not of the form {form}", f"Write {option} {form}")
        if name in pairs:
            raise InvalidInput(option, f"names {name!r} twice", "Give each once")
        pairs[name] = value
    return list(pairs.items())


def _limit(name: str, text: str) -> float:
    if name not in LIMITS:
        raise InvalidInput("--limit", f"{name!r} is no limit", f"Use one of {', '.join(LIMITS)}")
    whole = float not in _parts(name)
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise InvalidInput("--limit", f"{name}: {text!r} is not {kind}", f"Write --limit {name}=N") from None
    return value


def _parts(name: str) -> tuple[type, ...]:
    kind = get_type_hints(ServerSettings)[name]
    return getattr(kind, "__args__", (kind,))


def _shown() -> list[str]:
    defaults = ServerSettings()
    return [f"{name} (default {getattr(defaults, name)})" for name in LIMITS]


def _server_key(given: str, source: str) -> tuple[str | None, Secret]:
    name, named, key = given.partition("=")
    if not named or KEY.match(given):  # a key may hold a "=" itself
        name, key = None, given
    try:
        return name, parse_api_key(key, source)
    except CredentialError as error:
        problem = error.problem
    raise CredentialError(source, problem, "Clients send only keys that start with 'tml-'")
