"""The correct scripts that defects are planted in: seeds of our own, and loops of public repositories."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sites import Script

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Subject:
    """One correct script: the part of the study it belongs to, its file, and the function that defects go into."""

    part: str
    name: str
    file: Path
    function: str
    root: Path

    @cached_property
    def script(self) -> Script:
        """The script, read once."""
        return Script(self.file.read_text(encoding="utf-8"), self.function)


def part_of(repo: str) -> str:
    """Return the part of a repository: by the parity of the SHA-256 of its name; pytorch/examples is for tuning."""
    even = int(hashlib.sha256(repo.encode()).hexdigest(), 16) % 2 == 0
    return "tuning" if even or repo == "pytorch/examples" else "held-back"


def seeds() -> list[Subject]:
    """Return the scripts of our own; in a folder, each of its files is mutated beside the others."""
    files = sorted((HERE / "seeds").rglob("*.py"))
    top = HERE / "seeds"
    return [Subject("seeds", f"seeds/{f.relative_to(top)}", f, "", f.parent if f.parent != top else f) for f in files]


def corpus(folder: Path) -> list[Subject]:
    """Return the loops listed in subjects.tsv, from a folder with one checkout per repository, `owner__name`."""
    with (HERE / "subjects.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    found = []
    for row in rows:
        root = folder / row["repo"].replace("/", "__")
        if (root / row["file"]).exists():
            name = f"{row['repo']}/{row['file']}"
            found.append(Subject(part_of(row["repo"]), name, root / row["file"], row["function"], (root / row["file"]).parent))
    return found
