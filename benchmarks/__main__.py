"""``python -m benchmarks [NAME ...] [--json] [--list]``: run benchmarks, print their tables."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import Row, json_line, render_table

__all__ = ["main"]


def benchmark_names() -> list[str]:
    """The modules of this package that define ``run``; found by their source, so that listing imports none."""
    package = Path(__file__).parent
    return sorted(
        module.name
        for module in pkgutil.iter_modules([str(package)])
        if "\ndef run(" in (package / f"{module.name}.py").read_text(encoding="utf-8")
    )


def run_benchmark(name: str) -> list[Row]:
    module = importlib.import_module(f"benchmarks.{name}")
    run: Callable[[], list[Row]] = module.run
    return run()


def main(argv: list[str] | None = None) -> int:
    names = benchmark_names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {names}; default: all")
    parser.add_argument("--json", action="store_true", help="print, last, one JSON object on one line")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    arguments = parser.parse_args(argv)
    wanted: list[str] = arguments.names
    if arguments.list:
        print("\n".join(names))
        return 0
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"no benchmark called {', '.join(unknown)}; there are: {', '.join(names)}")
    rows: list[Row] = []
    for name in wanted or names:
        found = run_benchmark(name)
        print(f"\n{name}\n{render_table(found)}", flush=True)
        rows += found
    if arguments.json:
        print(json_line(rows), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
