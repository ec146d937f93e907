"""The name of a finding that stays when a report is written again: what a link, a SARIF result or a suppression holds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from traindoctor.report.wording import relative

if TYPE_CHECKING:
    from traindoctor.model import Finding, Run


def fingerprint(run: Run, finding: Finding) -> str:
    """Return the code and four hexadecimal digits: "TD101-a41f".

    They depend on the run (its name and its path from the directory that was given), on the cause, and on the file it was
    found in: not on numbers, wording, or the version, so that a link to a finding still leads there after the next run.
    """
    place = finding.locations[0].file if finding.locations else ""
    words = (run.name, relative(run.path, run.root), finding.code, relative(place, run.root))
    return f"{finding.code}-{hashlib.sha256(chr(0).join(words).encode('utf-8', 'backslashreplace')).hexdigest()[:4]}"
