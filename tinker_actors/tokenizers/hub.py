"""The token that the Hugging Face hub is asked with, for models that not everybody may read."""

from __future__ import annotations

from pathlib import Path

from tinker_actors.config import Config, Secret
from tinker_actors.config.secret import parse_secret
from tinker_actors.errors import CredentialError

__all__ = ["hub_token"]

_LARGEST = 4096  # bytes of the file


def hub_token(config: Config) -> Secret | None:
    """``hf_token``, or the content of the file ``hf_token_path``, by default "token" below ``hf_home``; blocking.

    None where there is none. Raises CredentialError for a file that holds something else.
    """
    if config.hf_token is not None:
        return config.hf_token
    if config.hf_token_path is not None:
        path = Path(config.hf_token_path).expanduser()
    elif config.hf_home is not None:
        path = Path(config.hf_home).expanduser() / "token"
    else:
        return None
    try:
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problem = f"{path} can't be read: {error.strerror}"
        raise CredentialError("hf_token", problem, "Mend the file or set HF_TOKEN") from None
    text = raw.decode(errors="replace").strip()
    if not text:
        return None
    if len(raw) > _LARGEST:
        raise CredentialError("hf_token", f"{path} holds more than a token", "Mend the file or set HF_TOKEN")
    try:
        return parse_secret("hf_token", text)
    except CredentialError as error:
        problem = f"{path} holds no token: it {error.problem}"
    raise CredentialError("hf_token", problem, "Mend the file or set HF_TOKEN")
