"""What `import supervision` gives, and what it costs."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import supervision
import supervision.testing


def test_all_is_sorted_and_complete() -> None:
    for package in (supervision, supervision.testing):
        names = package.__all__
        assert names == sorted(names, key=str.casefold)
        assert len(set(names)) == len(names)
        for name in names:
            assert getattr(package, name).__doc__, f"{name} has no docstring"


def test_every_public_name_of_a_room_is_exported() -> None:
    public = set(supervision.__all__)
    for module in pkgutil.iter_modules(supervision.__path__):
        if module.name != "testing":
            room = __import__(f"supervision.{module.name}", fromlist=["__all__"])
            assert set(room.__all__) <= public, module.name


def test_the_import_is_light() -> None:
    code = (
        "import sys, trio, msgspec; before = set(sys.modules); import supervision; "
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('supervision')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
