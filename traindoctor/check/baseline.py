"""Findings that are known already: kept in a file, so that only new ones are reported.

A finding is known by its file, its code and the text of its line, not by the line's number: code that moves stays known. Of
equal ones as many are known as the file counts.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from traindoctor.check.cache import digest
from traindoctor.errors import UnreadableInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from traindoctor.check.results import FileResult

SCHEMA_VERSION = "1.0"


def fingerprints(file: FileResult, name: str = "") -> list[str]:
    """Return for each finding of a file what it is known by, however its line moves; `name`: of the file, where not as shown."""
    made = []
    for one in file.findings:
        place = one.mistake.location
        line = file.source.line(place.line, place.cell)
        made.append(digest(one.code, name or file.file, " ".join(line.split())))
    return made


def written(files: Iterable[FileResult], here: Path, folder: Path) -> str:
    """Return the text of a baseline that knows all findings; its paths are relative to the folder it will lie in."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for file in files:
        name = _name(file, here, folder)
        for one, mark in zip(file.findings, fingerprints(file, name), strict=True):
            counts[name, one.code, mark] += 1
    findings = [{"path": p, "code": c, "fingerprint": f, "count": n} for (p, c, f), n in sorted(counts.items())]
    return json.dumps({"schema_version": SCHEMA_VERSION, "findings": findings}, indent=2, ensure_ascii=True) + "\n"


def known(path: Path) -> Counter[str]:
    """Return how many findings of each fingerprint a baseline knows.

    Raises: UnreadableInputError for a file that is no baseline.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        counts: Counter[str] = Counter()
        for finding in document["findings"]:
            counts[str(finding["fingerprint"])] += int(finding["count"])
        return counts
    except OSError as error:
        raise UnreadableInputError(
            str(path), f"the baseline cannot be read: {error.strerror or error}", f"--write-baseline {path}"
        ) from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UnreadableInputError(str(path), "is no baseline of traindoctor", f"--write-baseline {path}") from error


def without(file: FileResult, counts: Counter[str], here: Path, folder: Path) -> FileResult:
    """Return a file's result without the findings that the baseline knows; each of them is counted off."""
    new = []
    for one, mark in zip(file.findings, fingerprints(file, _name(file, here, folder)), strict=True):
        if counts[mark] > 0:
            counts[mark] -= 1
        else:
            new.append(one)
    return file._replace(findings=tuple(new))


def _name(file: FileResult, here: Path, folder: Path) -> str:
    from traindoctor.check.discover import shown

    return shown(here / file.file, folder)
