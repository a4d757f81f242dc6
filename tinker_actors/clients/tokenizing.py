"""A client's tokenizer: from its runtime's cache, by a name on the hub, never from a file that others could name."""

from __future__ import annotations

from tinker_actors.sessions import Session
from tinker_actors.tokenizers import Hub, Tokenizer, hub_token, named_tokenizer

__all__ = ["load_tokenizer"]


async def load_tokenizer(session: Session, name: str) -> Tokenizer:
    """The tokenizer ``name``, loaded once for the whole runtime. Raises InvalidInput when there is none."""
    config = session.config
    return await session.tokenizers.get(name, lambda: named_tokenizer(name, hub=Hub(token=hub_token(config))))
