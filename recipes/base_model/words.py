"""Build the packaged word list from Debian's `wamerican-small`.

    apt-get download wamerican-small && dpkg-deb -x wamerican-small_*.deb extracted
    python recipes/base_model/words.py extracted/usr/share/dict/american-english-small

Keeps the words of three to ten lowercase letters, minus those whose sha256 stands in `blocked.txt`
(slurs, vulgarities and their inflected forms; as digests, so that the repository holds none in clear).
The output has no timestamp in it: the same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import re
from hashlib import sha256
from pathlib import Path

__all__ = ["build", "digest"]

HERE = Path(__file__).parent
OUTPUT = HERE.parent.parent / "tinker_actors" / "cli" / "data" / "words.txt.gz"
PATTERN = re.compile(r"[a-z]{3,10}")


def digest(word: str) -> str:
    """Return the hexadecimal sha256 of a word, the form in which `blocked.txt` names it."""
    return sha256(word.encode("ascii")).hexdigest()


def build(source: Path, blocked: Path = HERE / "blocked.txt") -> bytes:
    """Return the gzipped word list (one word a line, sorted) made from `source`."""
    refused = frozenset(blocked.read_text("ascii").split())
    candidates = sorted({line for line in source.read_text("utf-8").split() if PATTERN.fullmatch(line)})
    kept = [word for word in candidates if digest(word) not in refused]
    return gzip.compress(("\n".join(kept) + "\n").encode("ascii"), compresslevel=9, mtime=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    arguments = parser.parse_args()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    data = build(arguments.source)
    OUTPUT.write_bytes(data)
    print(f"{OUTPUT.name}: {len(data)} bytes, sha256 {sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
