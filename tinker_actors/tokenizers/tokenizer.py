"""Where a model's tokenizer comes from: the package, a file or folder, or the Hugging Face hub."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, final

from tinker_actors.checks import text as checked_text
from tinker_actors.config import Secret
from tinker_actors.errors import InvalidInput
from tinker_actors.tokenizers.download import Hub, hub_file
from tinker_actors.tokenizers.kimi import CONFIG, RANKS, kimi_revision, load_kimi
from tinker_actors.tokenizers.names import KIMI, tokenizer_name

__all__ = ["Tokenizer", "named_tokenizer", "tokenizer_for"]

# The models that the package ships with share one tokenizer of bytes.
_PACKAGED = "tinker-actors/"
_FILE = "tokenizer.json"


class _Library(Protocol):
    @property
    def vocab_size(self) -> int: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str: ...
    def token_to_id(self, token: str) -> int | None: ...


@final
class Tokenizer:
    """Text to token ids and back. Can be pickled, and so be used in other processes."""

    def __init__(self, inner: _Library) -> None:
        self._inner = inner

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self._inner.vocab_size

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The ids of ``text``. Raises InvalidInput for anything but a string."""
        text = checked_text("text", text, "Give a string", empty=True)
        return self._inner.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, tokens: list[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``tokens``; ids beyond the vocabulary have none. Raises InvalidInput for what are no ids."""
        try:
            return self._inner.decode(tokens, skip_special_tokens=skip_special_tokens)
        except (TypeError, OverflowError):
            raise InvalidInput("tokens", "is not a flat list of ids", "Give those of a sampled sequence") from None

    def token_to_id(self, token: str) -> int | None:
        """The id of one token of the vocabulary, such as "<bos>"; None when there is none."""
        return self._inner.token_to_id(token)


def tokenizer_for(
    name: str, token: Secret | None = None, *, revision: str | None = None, hub: Hub | None = None
) -> Tokenizer:
    """The tokenizer of the model ``name``, or of a file or folder; blocking.

    A folder has a tokenizer.json, or a tiktoken.model with its tokenizer_config.json. A model's name may carry a
    revision of the model behind a colon, and three parts; Llama 3 and Kimi K2 have rules of their own
    (``tokenizer_name``). ``token`` is shown to the Hugging Face hub, and only where the tokenizer is neither packaged
    nor a file; ``revision`` is the hub's (the newest, if None). ``hub`` says how else it is asked. Raises
    InvalidInput when there is none to be had.
    """
    name = checked_text("tokenizer", name, "Give a folder with a tokenizer.json, or a name on the hub")
    asked = hub if hub is not None else Hub(token=token)
    if name.startswith(_PACKAGED):
        return _packaged()
    if (file := _file_of(name)) is not None:
        return _of_file(file)
    return _of_hub(tokenizer_name(name), asked, revision)


def named_tokenizer(name: str, token: Secret | None = None, *, hub: Hub | None = None) -> Tokenizer:
    """As ``tokenizer_for``, but never from this machine's files: for names that others have chosen."""
    if name.startswith(_PACKAGED):
        return _packaged()
    return _of_hub(name, hub if hub is not None else Hub(token=token), None)


def _packaged() -> Tokenizer:
    return _of_text(files("tinker_actors").joinpath("local", "base", _FILE).read_text("utf-8"), "the package")


def _file_of(name: str) -> Path | None:
    path = Path(name)
    if path.is_dir():
        found = (path / each for each in (_FILE, RANKS))
        return next((each for each in found if each.is_file()), None)
    return path if path.is_file() else None


def _of_hub(name: str, hub: Hub, revision: str | None) -> Tokenizer:
    if name.startswith(KIMI):
        at = revision if revision is not None else kimi_revision(name)
        ranks, config = (hub_file(name, file, hub, revision=at) for file in (RANKS, CONFIG))
        return Tokenizer(load_kimi(ranks, config))
    return _of_file(hub_file(name, _FILE, hub, revision=revision))


def _of_file(path: Path) -> Tokenizer:
    if path.name == RANKS:
        return Tokenizer(load_kimi(path, path.with_name(CONFIG)))
    try:
        return _of_text(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error
    raise InvalidInput("tokenizer", f"{path} can't be read ({reason})", "Give a folder with a tokenizer.json")


def _of_text(content: str, source: str) -> Tokenizer:
    import tokenizers

    try:
        inner = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # noqa: BLE001  # the library raises it bare for whatever went wrong
        problem = f"{source} holds none ({error})"
        raise InvalidInput("tokenizer", problem, "Give a folder with a tokenizer.json") from None
    return Tokenizer(_HuggingFace(inner))


@final
class _HuggingFace:
    """What Tokenizer asks of a library, answered by tokenizers."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def vocab_size(self) -> int:
        return int(self._inner.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self._inner.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        return str(self._inner.decode(tokens, skip_special_tokens=skip_special_tokens))

    def token_to_id(self, token: str) -> int | None:
        found: int | None = self._inner.token_to_id(token)
        return found
