"""Workflow commands, which GitHub shows as annotations of a job and of the lines they are about.

Source: docs.github.com, "Workflow commands"; actions/toolkit, command.ts: `%`, CR and LF are escaped, in properties `:`
and `,` too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 -- a field of a named tuple
from typing import NamedTuple

#: Severity -> the command of its level, the worst first.
COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}
#: GitHub shows no more annotations of one level for one step of a job.
MOST = 10


class Annotation(NamedTuple):
    """What is said of a place: `properties` are file, line, col, endLine, endColumn and title, those that are known."""

    severity: str
    properties: Mapping[str, str]
    message: str


def workflow_commands(annotations: Sequence[Annotation], all_of_them: str) -> str:
    """Return one command a line, the worst first, of each level as many as are shown, and how many were left out.

    `all_of_them`: where the reader finds those.
    """
    lines, left_out = [], 0
    for severity in COMMANDS:
        found = [one for one in annotations if one.severity == severity]
        left_out += max(0, len(found) - MOST)
        lines += [_command(one) for one in found[:MOST]]
    if left_out:
        lines.append(f"::notice title=traindoctor::{left_out} more findings: {all_of_them}")
    return "".join(f"{line}\n" for line in lines)


def _command(one: Annotation) -> str:
    listed = ",".join(f"{key}={_property(value)}" for key, value in one.properties.items())
    return f"::{COMMANDS[one.severity]} {listed}::{_data(one.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
