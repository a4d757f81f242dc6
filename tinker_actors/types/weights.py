"""Weights that leave their run: copied to another project, or saved for use elsewhere."""

from __future__ import annotations

import re

from tinker_actors.errors import InvalidInput
from tinker_actors.types.checked import Checked
from tinker_actors.types.paths import TinkerPath

__all__ = [
    "CopyWeightsRequest",
    "CopyWeightsResponse",
    "SaveWeightsExternalRequest",
    "SaveWeightsExternalResponse",
    "SetTtlRequest",
]

_MOST_RECIPIENTS = 10
_RECIPIENT = re.compile(r"age1|ssh-|ecdsa-|sk-")


class SaveWeightsExternalRequest(Checked, frozen=True, kw_only=True):
    """POST /save_weights_external; ``path`` is the checkpoint's name.

    ``age_encryption_recipients`` are at most 10 public keys, of age or SSH, that files are encrypted for.
    """

    model_id: str
    path: str
    seq_id: int | None = None
    ttl_seconds: int | None = None
    age_encryption_recipients: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        field = "SaveWeightsExternalRequest.age_encryption_recipients"
        recipients = self.age_encryption_recipients or ()
        if len(recipients) > _MOST_RECIPIENTS:
            raise InvalidInput(field, f"are {len(recipients)}", f"Give at most {_MOST_RECIPIENTS}")
        if not all(_RECIPIENT.match(recipient) for recipient in recipients):
            raise InvalidInput(field, "holds what is no public key", "Give age1... or SSH public keys")


class SaveWeightsExternalResponse(Checked, frozen=True, kw_only=True):
    """Where external weights were saved: tinker://<run>/external_weights/<name>."""

    path: str | None = None
    size_bytes: int | None = None


class CopyWeightsRequest(Checked, frozen=True, kw_only=True):
    """POST /copy_weights: to a project, or into a session as the model of ``model_seq_id``."""

    source_path: str
    destination_project_id: str | None = None
    session_id: str | None = None
    model_seq_id: int | None = None
    ttl_seconds: int | None = None
    weights_access_token: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        TinkerPath.parse(self.source_path, field="CopyWeightsRequest.source_path")
        into_session = self.session_id is not None and self.model_seq_id is not None
        partly = self.session_id is not None or self.model_seq_id is not None
        if into_session != partly or into_session == (self.destination_project_id is not None):
            raise InvalidInput(
                "CopyWeightsRequest",
                "does not say where to",
                "Give destination_project_id, or both session_id and model_seq_id",
            )

    def __repr__(self) -> str:
        return f"CopyWeightsRequest({self.source_path!r})"  # a token is nobody's to read


class CopyWeightsResponse(Checked, frozen=True, kw_only=True):
    """Where the copy is: in a run of its own, which can't be trained."""

    tinker_path: str


class SetTtlRequest(Checked, frozen=True, kw_only=True):
    """PUT .../ttl: seconds from now until the checkpoint goes; None, sent as null, keeps it for good."""

    ttl_seconds: int | None
