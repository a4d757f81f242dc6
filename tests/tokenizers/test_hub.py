"""The token that the Hugging Face hub is asked with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tinker_actors import Config, InvalidInput
from tinker_actors.config import Secret
from tinker_actors.errors import CredentialError
from tinker_actors.tokenizers import hub_token, tokenizer_for

SECRET = "hf_planted0123456789"


def config(environ: dict[str, str] | None = None, **options: Any) -> Config:
    return Config.load(api_key="tml-test", environ=environ or {}, **options)


def shown(found: Secret | None) -> str | None:
    return None if found is None else found.reveal()


def test_the_option_comes_before_the_variables_and_those_before_the_file(tmp_path: Path):
    (tmp_path / "token").write_text("of-the-home\n")
    (tmp_path / "other").write_text("of-the-path")
    environ = {"HF_HOME": str(tmp_path)}
    assert shown(hub_token(config(environ))) == "of-the-home"
    environ["HF_TOKEN_PATH"] = str(tmp_path / "other")
    assert shown(hub_token(config(environ))) == "of-the-path"
    environ["HUGGING_FACE_HUB_TOKEN"] = "second"
    assert shown(hub_token(config(environ))) == "second"
    environ["HF_TOKEN"] = "first"
    assert shown(hub_token(config(environ))) == "first"
    assert shown(hub_token(config(environ, hf_token="option"))) == "option"


def test_the_cache_of_the_desktop_is_a_home_as_well(tmp_path: Path):
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_text("t")
    assert shown(hub_token(config({"XDG_CACHE_HOME": str(tmp_path)}))) == "t"


def test_there_may_be_none(tmp_path: Path):
    assert hub_token(config()) is None
    assert hub_token(config(hf_home=str(tmp_path))) is None
    (tmp_path / "token").write_text("  \n")
    assert hub_token(config(hf_home=str(tmp_path))) is None


@pytest.mark.parametrize("content", [f"{SECRET} and more", f"{SECRET}\nx: y", SECRET + "a" * 5000, f"{SECRET}\x00"])
def test_a_file_that_holds_no_token_is_an_error_that_does_not_show_it(content: str, tmp_path: Path):
    (tmp_path / "token").write_text(content)
    with pytest.raises(CredentialError, match="hf_token") as caught:
        hub_token(config(hf_home=str(tmp_path)))
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None or SECRET not in str(caught.value.__context__)


def test_a_folder_in_place_of_the_file_can_not_be_read(tmp_path: Path):
    with pytest.raises(CredentialError, match="can't be read"):
        hub_token(config(hf_token_path=str(tmp_path)))


def test_the_hub_sees_the_token_and_its_errors_hide_it(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, str | None]] = []

    def refuse(name: str, file: str, *, token: str | None, **options: Any) -> str:
        asked.append((name, token))
        raise Exception(f"401 for {token}")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(InvalidInput, match=r"401 for \[hidden\]") as caught:
        tokenizer_for("some/model", Secret(SECRET))
    assert caught.value.__context__ is None
    with pytest.raises(InvalidInput, match="401 for None"):
        tokenizer_for("some/model")
    assert asked == [("some/model", SECRET), ("some/model", None)]


def test_what_is_no_text_and_what_are_no_ids():
    tokenizer = tokenizer_for("tinker-actors/tiny")
    for text in (5, None, b"ab", ["ab"]):
        with pytest.raises(InvalidInput, match="text"):
            tokenizer.encode(text)  # pyright: ignore[reportArgumentType]
    for ids in ("ab", 5, None, [1.5], ["a"], [[1]], [-1]):
        with pytest.raises(InvalidInput, match="tokens"):
            tokenizer.decode(ids)  # pyright: ignore[reportArgumentType]


def test_a_folder_needs_no_hub(tmp_path: Path):
    packaged = Path(__file__).parents[2] / "tinker_actors" / "local" / "base" / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_text(packaged.read_text())
    assert tokenizer_for(str(tmp_path), Secret(SECRET)).decode(tokenizer_for(str(tmp_path)).encode("ab")) == "ab"
