"""Settings of the wrong kind are refused when they are given, and numbers of numpy become Python's."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinker_actors import InvalidInput, ServerSettings


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("api_keys", "tml-secret", "api_keys: is of type str. Use a tuple of strings"),
        ("api_keys", (b"tml-secret",), r"api_keys\[0\]: is of type bytes. Use a string"),
        ("owners", {"ann": "tml-secret"}, r"owners\['ann'\]: is of type str. Use a tuple of strings"),
        ("owners", ["tml-secret"], "owners: is of type list. Use a dict"),
        ("base_model", 3, "base_model: 3 is not a string"),
        ("base_models", "tinker-actors/tiny", "base_models: is of type str"),
        ("aliases", {"Qwen/Qwen3-8B": "folder"}, r"aliases\['Qwen/Qwen3-8B'\]: is of type str. Use a pathlib.Path"),
        ("aliases", {3: Path()}, "aliases's names: 3 is not a string"),
        ("directory", "folder", "directory: is of type str. Use a pathlib.Path"),
        ("max_rank", "8", "max_rank: '8' is not an integer. Use a whole number"),
        ("max_rank", 2.5, "max_rank: 2.5 is not an integer"),
        ("max_rank", None, "max_rank: None is not an integer"),
        ("metadata_only_above", True, "metadata_only_above: True is not an integer"),
        ("poll_hold", "3", "poll_hold: '3' is not a number. Use a number"),
        ("tells_class", 0, "tells_class: 0 is neither True nor False"),
        ("server_class", "no", "server_class: 'no' is no class of servers. Use dedup, ordered or none"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name_and_no_key_is_shown(field: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as refused:
        ServerSettings(**{field: value})
    assert "secret" not in str(refused.value)


def test_what_stands_for_a_kind_is_taken_as_it() -> None:
    given: Any = {
        "max_rank": np.int64(4),
        "poll_hold": 3,
        "api_keys": ["tml-a"],
        "owners": OrderedDict(ann=["tml-b"]),
    }
    settings = ServerSettings(**given, directory=Path("kept"))
    assert settings == ServerSettings(
        max_rank=4, poll_hold=3.0, api_keys=("tml-a",), owners={"ann": ("tml-b",)}, directory=Path("kept")
    )
    assert type(settings.max_rank) is int
