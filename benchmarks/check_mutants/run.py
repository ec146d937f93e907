"""Plants defects in correct scripts and configs, runs `traindoctor check`, and reports how many it finds, and where.

    python benchmarks/check_mutants/run.py --corpus FOLDER [--part tuning|held-back|seeds] [--row 15] [--missed]

FOLDER holds one checkout per repository of subjects.tsv, named owner__name. Without it only the seeds are used.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from checker import Found, check  # noqa: E402
from config_mutants import config_mutants  # noqa: E402
from mutators import all_mutants  # noqa: E402
from subjects import Subject, corpus, seeds  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from source import Mutant

#: Mutants of one row taken from one script: more would only repeat it.
A_SUBJECT = 3
PARTS = ("seeds", "tuning", "held-back")


@dataclass(frozen=True)
class Planted:
    """A mutant on disk, with the correct file it was made from."""

    part: str
    subject: str
    mutant: Mutant
    file: Path
    original: Path


@dataclass(frozen=True)
class Row:
    """A row of the table: its title, whether it is proof or a hint, and the codes that name it."""

    key: str
    title: str
    level: str
    codes: tuple[str, ...]


def rows() -> dict[str, Row]:
    """Return the table of expected codes."""
    table = tomllib.loads((HERE / "expected.toml").read_text(encoding="utf-8"))
    return {key: Row(key, row["title"], row["level"], tuple(row["codes"])) for key, row in table.items()}


def chosen(mutants: Iterable[Mutant], subject: str, only: str) -> Iterator[Mutant]:
    """Yield at most A_SUBJECT mutants of each row, forms drawn by a hash so that all appear over the study."""
    by_row: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        if not only or mutant.row.split()[0] == only:
            by_row[mutant.row].append(mutant)
    for found in by_row.values():
        yield from sorted(found, key=lambda m: hashlib.sha256(f"{subject} {m.form}".encode()).digest())[:A_SUBJECT]


def write_scripts(subjects: Iterable[Subject], folder: Path, only: str) -> Iterator[Planted]:
    """Write each script and its mutants beside the files it imports, and yield them."""
    for n, subject in enumerate(subjects):
        home = folder / f"{subject.part}{n}"
        shared = subject.part != "seeds"
        if shared:
            _surround(subject, home)
        original = home / subject.file.name if not shared else home / f"{subject.file.stem}__correct.py"
        if not shared:
            _copy(subject, home)
        original.write_text(subject.script.text, encoding="utf-8")
        for i, mutant in enumerate(chosen(all_mutants(subject.script), subject.name, only)):
            if shared:
                file = home / f"{subject.file.stem}__{i}.py"
            else:
                _copy(subject, folder / f"{subject.part}{n}.{i}")
                file = folder / f"{subject.part}{n}.{i}" / subject.file.name
            file.write_text(mutant.text, encoding="utf-8")
            yield Planted(subject.part, subject.name, mutant, file, original)


def _surround(subject: Subject, home: Path) -> None:
    """Link the neighbours of a script into the folder of its mutants, so that what it imports is found."""
    home.mkdir()
    for neighbour in subject.file.parent.iterdir():
        if neighbour != subject.file:
            (home / neighbour.name).symlink_to(neighbour.resolve())


def _copy(subject: Subject, home: Path) -> None:
    home.mkdir()
    for file in subject.root.glob("*.py") if subject.root.is_dir() else [subject.root]:
        shutil.copy(file, home / file.name)


@dataclass
class Score:
    """Of one row and part: planted, found, found at the right line, and originals that were not silent."""

    planted: int = 0
    found: int = 0
    placed: int = 0
    noisy: int = 0


def judge(planted: Planted, row: Row, found: dict[Path, list[Found]]) -> tuple[bool, bool, bool]:
    """Return whether the defect was found, whether its first place is right, and whether the original was silent."""
    before = {f.code for f in found[planted.original.resolve()] if f.code in row.codes}
    now = [f for f in found[planted.file.resolve()] if f.code in row.codes]
    right = [f for f in now if f.line in planted.mutant.lines]
    hit = bool(right) or any(f.code not in before for f in now)
    return hit, bool(right), not before


def table(scores: dict[tuple[str, str], Score], table_rows: dict[str, Row], parts: tuple[str, ...]) -> list[str]:
    """Return the result as Markdown: recall and right line for each row and part."""
    lines = ["| row | defect | level | " + " | ".join(f"{p}: planted | found | right line" for p in parts) + " |"]
    lines.append("|---" * (3 + 3 * len(parts)) + "|")
    for key, row in table_rows.items():
        cells = []
        for part in parts:
            score = scores.get((key, part), Score())
            share = (f"{100 * n / score.planted:.0f} %" if score.planted else "" for n in (score.found, score.placed))
            cells += [str(score.planted or ""), *share]
        if any(cells):
            lines.append(f"| {key} | {row.title} | {row.level} | " + " | ".join(cells) + " |")
    for level in ("error", "info"):
        cells = []
        for part in parts:
            chosen_scores = [s for (key, p), s in scores.items() if p == part and table_rows[key].level == level]
            total = sum(s.planted for s in chosen_scores) or 1
            cells += [
                str(total),
                *(
                    f"**{100 * sum(n) / total:.1f} %**"
                    for n in ((s.found for s in chosen_scores), (s.placed for s in chosen_scores))
                ),
            ]
        lines.append(f"| | **all rows of level {level}** | | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Plant, check, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of the repositories in subjects.tsv")
    parser.add_argument("--part", choices=PARTS, help="only this part")
    parser.add_argument("--row", default="", help="only this row, such as 15, or C7 for a row of the configs")
    parser.add_argument("--missed", action="store_true", help="list the mutants that were not found, and keep their files")
    parser.add_argument("--write", action="store_true", help="write results.md")
    options = parser.parse_args()
    subjects = seeds() + (corpus(options.corpus) if options.corpus else [])
    subjects = [s for s in subjects if options.part in (None, s.part)]
    known = rows()
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    planted = []
    if not options.row.startswith("C"):
        planted += list(write_scripts(subjects, folder, options.row))
    if options.part in (None, "seeds") and (not options.row or options.row.startswith("C")):
        planted += [Planted("seeds", *one) for one in config_mutants(folder, options.row)]
    found = check(sorted({p.file for p in planted} | {p.original for p in planted}))

    scores: dict[tuple[str, str], Score] = defaultdict(Score)
    noisy = set()
    for one in planted:
        row, score = known[one.mutant.row], scores[one.mutant.row, one.part]
        hit, right, silent = judge(one, row, found)
        score.planted, score.found, score.placed = score.planted + 1, score.found + hit, score.placed + right
        if not silent:
            noisy.add((row.key, one.subject))
        if options.missed and not right and one.part != "held-back":
            others = sorted({f"{f.code}:{f.line}" for f in found[one.file.resolve()]})
            why = "wrong line" if hit else "missed"
            print(f"{why}: row {row.key} ({one.mutant.form}) {one.file} lines {_span(one.mutant.lines)} got {' '.join(others)}")
    parts = tuple(p for p in PARTS if any(one.part == p for one in planted))
    lines = table(scores, known, parts)
    if noisy:
        lines += ["", "Originals that were not silent at the class planted in them:", ""]
        lines += [f"- row {key}: {subject}" for key, subject in sorted(noisy)]
    print("\n".join(lines))
    if options.write:
        head = "# Planted defects found\n\nWritten by `run.py --write`; see README.md for what the columns mean.\n\n"
        (HERE / "results.md").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    if not options.missed:
        shutil.rmtree(folder)


def _span(lines: frozenset[int]) -> str:
    return ",".join(map(str, sorted(lines)[:8]))


if __name__ == "__main__":
    main()
