"""A report as a table: one row a finding, so that many runs can be counted, filtered and joined."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from traindoctor.report.fingerprint import fingerprint
from traindoctor.report.to_json import plain
from traindoctor.report.view import diagnosis_first, in_order
from traindoctor.report.wording import relative

if TYPE_CHECKING:
    import pandas as pd

    from traindoctor.model import Finding, Report, RunReport

#: Column -> dtype, in order. What a row does not have is <NA>. The first three are of the run.
COLUMNS = {
    "run": "string",  # name
    "path": "string",  # from the folder that was given
    "verdict": "string",  # failed, suspicious, undecided, healthy
    "code": "string",  # of the cause; <NA> in the row of a run without findings, and so are all columns after it
    "name": "string",
    "severity": "string",  # error, warning, info
    "confidence": "Float64",  # 0 to 1
    "title": "string",  # what happened, in one sentence
    "onset": "Int64",  # step at which it was made out
    "start": "Int64",  # first step of the segment
    "stop": "Int64",  # the step after its last
    "place": "string",  # file:line of the script or config
    "fix": "string",  # title of the first fix
    "settings": "string",  # what it sets, as a JSON object
    "replay": "string",  # what the replay said of it: repairs, postpones, no effect, worse, not tried
    "fingerprint": "string",  # "TD101-a41f", the name of the finding in links
}


def frame_of(report: Report) -> pd.DataFrame:
    """Return the findings as a table with the columns and dtypes of `COLUMNS`, the worst run first, the diagnosis first in each.

    A run without findings has one row, with its name, path and verdict: `frame.dropna(subset="code")` drops them.
    Strings are as they were logged.
    """
    import pandas as pd

    rows = [row for one in in_order(report) for row in _rows(diagnosis_first(one))]
    return pd.DataFrame(
        {name: pd.array([row.get(name) for row in rows], dtype=dtype) for name, dtype in COLUMNS.items()},  # type: ignore[call-overload]
    )


def _rows(report: RunReport) -> list[dict[str, Any]]:
    run = report.run
    of_run = {"run": run.name, "path": relative(run.path, run.root), "verdict": report.verdict}
    return [{**of_run, **_of_finding(report, finding)} for finding in report.findings] or [of_run]


def _of_finding(report: RunReport, finding: Finding) -> dict[str, Any]:
    run, segment = report.run, finding.segment
    place = finding.locations[0] if finding.locations else None
    fix = finding.fixes[0] if finding.fixes else None
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity,
        "confidence": finding.confidence,
        "title": finding.title,
        "onset": None if segment is None else segment.onset,
        "start": None if segment is None else segment.start,
        "stop": None if segment is None else segment.stop,
        "place": None if place is None else f"{relative(place.file, run.root)}:{place.line}",
        "fix": None if fix is None else fix.title,
        "settings": None if fix is None else json.dumps(plain(fix.settings), allow_nan=False),
        "replay": None if fix is None else fix.replay.verdict,
        "fingerprint": fingerprint(run, finding),
    }
