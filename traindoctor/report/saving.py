"""What a report's own methods give: its forms as text, written where a path is named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.errors import ConfigError
from traindoctor.report.to_json import to_json
from traindoctor.report.writing import write_whole

if TYPE_CHECKING:
    from traindoctor.model import Report

#: Suffix of a file -> the form that it names, beside .html.
FORMS = {".json": "json", ".jsonl": "jsonl", ".md": "markdown", ".sarif": "sarif", ".txt": "text"}


def json_of(report: Report) -> str:
    """Return the text of `--format json`, with a line break at the end."""
    return json.dumps(to_json(report), ensure_ascii=True, allow_nan=False, indent=2) + "\n"


def html_of(report: Report, path: str | os.PathLike[str] | None = None, *, open_in_browser: bool = False) -> str:
    """Return the report as one HTML page, written to `path` too where one is given, and opened in the browser on request.

    Of several runs it is their index; where it is written, each run has a page in the folder `<stem>-runs` beside it.

    Raises: UnreadableInputError when the place cannot be written; ConfigError for a page that is to be opened and has no place;
    TraindoctorError when a page would be larger than one may be.
    """
    from traindoctor.report.html import render_html, write_html

    if path is None:
        if open_in_browser:
            raise ConfigError("to_html()", "a page is opened from its file", 'to_html("report.html", open_in_browser=True)')
        return render_html(report)
    place = Path(path)
    write_html(report, place)
    if open_in_browser:
        import webbrowser

        webbrowser.open(place.absolute().as_uri())
    return place.read_text(encoding="utf-8")


def save(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report in the form that the suffix of the path names.

    Raises: ConfigError for a suffix of no form, UnreadableInputError when the place cannot be written.
    """
    from traindoctor.report.forms import rendered

    suffix = Path(path).suffix.lower()
    if suffix == ".html":
        html_of(report, path)
    elif suffix in FORMS:
        write(rendered(report, FORMS[suffix]), path)
    else:
        raise ConfigError(os.fspath(path), "its suffix names no form of a report", f"one of .html, {', '.join(FORMS)}")


def write(text: str, path: str | os.PathLike[str] | None) -> str:
    """Return the text, written whole to the path where there is one.

    Raises: UnreadableInputError when the place cannot be written.
    """
    if path is not None:
        write_whole(Path(path), text, "the path")
    return text
