"""A client's tokenizer: from its runtime's cache, by a name on the hub, never from a file that others could name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tinker_actors.errors import InvalidInput
from tinker_actors.sessions import Session
from tinker_actors.tokenizers import Hub, Tokenizer, hub_token, named_tokenizer, tokenizer_for

__all__ = ["load_tokenizer"]


async def load_tokenizer(session: Session, names: Iterable[str | None], on_hub: Callable[[], str]) -> Tokenizer:
    """The tokenizer of a model that is called one of ``names``, loaded once for the whole runtime.

    It is the user's own (``Config.tokenizers``), or that of the name which ``on_hub`` gives or raises for. Raises
    InvalidInput when there is none.
    """
    config = session.config
    own = next((name for name in names if name in config.tokenizers), None)
    if own is not None:
        path = config.tokenizers[own]
        return await session.tokenizers.get(f"file {path}", lambda: _own(own, path))
    hub_name = on_hub()
    return await session.tokenizers.get(hub_name, lambda: named_tokenizer(hub_name, hub=Hub(token=hub_token(config))))


def _own(name: str, path: str) -> Tokenizer:
    file = Path(path).expanduser()
    if not file.exists():
        cure = "Give the folder that its tokenizer.json is in"
        raise InvalidInput(f"tokenizers[{name!r}]", f"there is no {file}", cure)
    return tokenizer_for(str(file))
