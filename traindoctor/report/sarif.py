"""What the logs in SARIF 2.1.0 of a check and of a diagnosis share, with what GitHub's code scanning reads of them.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) 2.1.0; docs.github.com, "SARIF support for code scanning":
`partialFingerprints.primaryLocationLineHash`, relative URIs, `rules[]` with help, at most 25,000 results and 1,000 places.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from traindoctor import __version__
from traindoctor.report.wording import clean, stopped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from traindoctor.rule import Cause

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
VERSION = "2.1.0"
#: Severity -> level, the worst first.
LEVELS = {"error": "error", "warning": "warning", "info": "note"}
#: What GitHub shows of the confidence in a rule.
PRECISION = {"error": "very-high", "warning": "high", "info": "medium"}
HOME = "https://pypi.org/project/traindoctor/"
MAX_RESULTS = 25_000
MAX_PLACES = 100
MAX_DESCRIPTION = 1024


def log_of(
    category: str,
    rules: Sequence[dict[str, Any]],
    results: Sequence[dict[str, Any]],
    notes: Sequence[tuple[str, str]],
    *,
    successful: bool = True,
) -> dict[str, Any]:
    """Return a log of one run of the tool, the worst results first; paths are relative to the repository, %SRCROOT%.

    `notes`: (level, text) of what is told beside the results.
    """
    order = list(LEVELS.values())
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "traindoctor",
                        "version": __version__,
                        "semanticVersion": __version__,
                        "informationUri": HOME,
                        "rules": list(rules),
                    }
                },
                "automationDetails": {"id": f"traindoctor/{category}/"},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the repository."}}},
                "invocations": [
                    {
                        "executionSuccessful": successful,
                        "toolExecutionNotifications": [
                            {"level": level, "message": {"text": clean(text, 1000)}} for level, text in notes
                        ],
                    }
                ],
                "results": sorted(results, key=lambda one: order.index(one["level"]))[:MAX_RESULTS],
            }
        ],
    }


def rule_of(cause: Cause) -> dict[str, Any]:
    """Return a cause with its help: what `traindoctor explain` shows."""
    text = inspect.cleandoc(cause.explanation)
    return {
        "id": cause.code,
        "name": "".join(part.capitalize() for part in cause.name.split("-")),
        "shortDescription": {"text": stopped(cause.summary[:1].upper() + cause.summary[1:])},
        "fullDescription": {"text": text.partition("\n")[0][:MAX_DESCRIPTION]},
        "help": {"text": text, "markdown": text},
        "helpUri": f"{HOME}#{cause.code.lower()}-{cause.name}",
        "defaultConfiguration": {"level": LEVELS[cause.severity]},
        "properties": {
            "tags": ["machine-learning", "training"],
            "precision": PRECISION[cause.severity],
            "problem.severity": "recommendation" if cause.severity == "info" else cause.severity,
        },
    }


def numbered(mark: str, seen: dict[str, int]) -> str:
    """Return a fingerprint with the number of times it was met, so that equal lines stay apart."""
    seen[mark] = seen.get(mark, 0) + 1
    return f"{mark}:{seen[mark]}"


def name_of(file: Path, top: Path) -> str:
    """Return the path of a file from the root of the repository; of one outside its name alone."""
    path = file.resolve()
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else path.name


def uri_of(file: Path, top: Path) -> str:
    """Return what `name_of` does as a URI."""
    return quote(name_of(file, top), errors="surrogateescape")


def top_of(here: Path) -> Path:
    """Return the root of the repository that a folder lies in, else the folder."""
    here = here.resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
