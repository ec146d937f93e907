"""Where in the repository a finding stands: the lines of configs and scripts that set what convicts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.report import wording as w

if TYPE_CHECKING:
    from traindoctor.mistake import Location
    from traindoctor.model import Finding, Run


class Place(NamedTuple):
    """A line of a file that is there, in a repository: what stands at it in words, "" for a setting."""

    file: Path
    location: Location
    words: str


def places_of(finding: Finding, run: Run, top: Path) -> list[Place]:
    """Return the places of a finding that lie in the repository `top`: the one that sets the value first.

    Paths of a report that was read back are taken from the working directory.
    """
    said = {e.location: e.text for e in finding.evidence if e.location is not None}
    every = dict.fromkeys([*finding.locations, *said])
    made = []
    for location in every:
        file = Path(run.root, location.file)
        try:
            there = file.resolve().is_relative_to(top) and file.is_file()
        except (OSError, ValueError):  # a name too long, or with a NUL, is no file
            there = False
        if there:
            made.append(Place(file, location, w.sentence(said.get(location, "")).replace("`", "")))
    return made


def message_of(finding: Finding, run: Run) -> str:
    """Return what is found, how sure that is, and the first fix, in sentences of which the first stands alone."""
    sentences = [
        w.stopped(w.sentence(finding.title, 600)),
        f"Run {w.clean(run.name, 100)}, confidence {w.confidence(finding.confidence)}, {w.likelihood(finding.confidence)}.",
    ]
    sentences += [f"First fix: {w.stopped(w.sentence(fix.title, 300))}" for fix in finding.fixes[:1]]
    return " ".join(sentences).replace("`", "")
