"""The package's public face: complete, sorted, light, and never mistaken about whose `supervision` it uses."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tinker_actors

ROOT = Path(tinker_actors.__file__).parent.parent


def _run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    setup = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n"
    return subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_public_names_are_sorted_without_regard_to_case() -> None:
    assert tinker_actors.__all__ == sorted(tinker_actors.__all__, key=str.lower)
    assert len(set(tinker_actors.__all__)) == len(tinker_actors.__all__)


@pytest.mark.parametrize("name", tinker_actors.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(tinker_actors, name)
    assert name == "__version__" or value.__name__ == name
    assert name in dir(tinker_actors)


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(AttributeError, match="no attribute 'open_runtim'"):
        tinker_actors.open_runtim  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = _run(
        """
        import tinker_actors
        heavy = {"numpy", "tokenizers", "httpx", "httpcore", "starlette", "hypercorn", "trio"} & set(sys.modules)
        assert not heavy, heavy
        """,
        ROOT,
    )
    assert done.returncode == 0, done.stderr


def test_another_distributions_supervision_is_named_with_the_cure(tmp_path: Path) -> None:
    other = tmp_path / "supervision"
    other.mkdir()
    (other / "__init__.py").write_text(
        'raise RuntimeError("the other package must not be run")\nclass Detections: ...\n'
    )
    done = _run("import tinker_actors", tmp_path, ROOT)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: tinker_actors needs its own package 'supervision'")
    assert str(other / "__init__.py") in last
    assert "install tinker-actors in an environment without that distribution" in last


@pytest.mark.parametrize(
    ("folder", "words"),
    [(True, "finds another one at a folder without __init__.py"), (False, "install tinker-actors again")],
)
def test_no_supervision_at_all_is_named_with_the_cure(tmp_path: Path, folder: bool, words: str) -> None:
    if folder:
        (tmp_path / "supervision").mkdir()
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import runpy
        runpy.run_path({str(ROOT / "tinker_actors" / "shadowing.py")!r})["require_own_supervision"]()
        """
    command = [sys.executable, "-I", "-S", "-c", textwrap.dedent(code)]  # no site-packages: ours is out of sight
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert words in done.stderr.strip().splitlines()[-1]


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert tinker_actors.__version__ == version("tinker-actors")
