"""What `traindoctor check` does with its options, without click: a hook with plain paths does not wait for its import."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.check.discover import shown
from traindoctor.check.pipeline import check
from traindoctor.cli.colour import in_colour
from traindoctor.report.wording import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.check.options import CheckOptions
    from traindoctor.check.results import FileResult, NotChecked, Result
    from traindoctor.report.lines import Words

FORMATS = ("text", "concise", "json", "sarif", "github", "gitlab", "junit")
RANKS = {"never": -1, "error": 0, "warning": 1, "info": 2}


class Output(NamedTuple):
    """What is printed, and what the exit code says. `file`: the result goes there and not to stdout."""

    form: str = "text"
    file: Path | None = None
    statistics: bool = False
    exit_zero: bool = False
    exit_non_zero_on_fix: bool = False
    quiet: bool = False


def run(paths: Sequence[str], options: CheckOptions, output: Output) -> int:
    """Check the paths, print what was found, write what was repaired, and return the exit code: 0, 1 or 2.

    Raises: TraindoctorError for settings, a baseline or a file to write that cannot be used.
    """
    here = Path.cwd()
    if not paths:
        if not output.quiet:
            _say([("no files were given: nothing to check", ""), ("  try: traindoctor check .", "soft")])
        return 0
    stdin = sys.stdin.buffer.read() if "-" in paths else None
    level, fail_on = _bounds(options, here)
    # pre-commit names each file that changed, so that a folder is never what is left out
    options = options._replace(level=level, exclude_named=os.environ.get("PRE_COMMIT") == "1")
    result = check([Path(path) for path in paths if path != "-"], options, here, stdin)
    result = _against_baseline(result, options, here)
    failing = sum(RANKS[str(one.mistake.severity)] <= RANKS[fail_on] for file in result.files for one in file.findings)
    visible, n_below = _above(result, level)
    n_fixed = _deliver_changes(result, options, output, here, stdin)
    printed = not (options.diff or (stdin is not None and options.fix))
    if printed:
        _print(visible, n_below, n_fixed, output)
    _tell(result, output)
    if any(one.asked for one in result.not_checked):
        return 2
    if output.exit_zero:
        return 0
    if result.changes and (options.diff or output.exit_non_zero_on_fix):
        return 1
    return 1 if failing and not options.diff else 0


def _bounds(options: CheckOptions, here: Path) -> tuple[str, str]:
    """Return the lowest severity that is shown and the lowest that fails: as asked, as set, else both "warning".

    What fails is shown.
    """
    from traindoctor.check.pipeline import settings_for

    settings = settings_for(here, options)
    fail_on = str(options.fail_on or settings.fail_on or "warning")
    return max(str(options.level or settings.level or "warning"), fail_on, key=RANKS.__getitem__), fail_on


def _above(result: Result, level: str) -> tuple[Result, int]:
    """Return the result without what is below a level, and how many findings that is."""
    files = [_file_above(file, level) for file in result.files]
    n_below = sum(len(file.findings) for file in result.files) - sum(len(file.findings) for file in files)
    return result._replace(files=tuple(files)), n_below


def _file_above(file: FileResult, level: str) -> FileResult:
    return file._replace(findings=tuple(one for one in file.findings if RANKS[str(one.mistake.severity)] <= RANKS[level]))


def _against_baseline(result: Result, options: CheckOptions, here: Path) -> Result:
    """Return the result without the findings that the baseline knows, or write a baseline that knows them all."""
    if options.write_baseline is not None:
        from traindoctor.check.baseline import written
        from traindoctor.report.writing import write_whole

        path = options.write_baseline
        write_whole(path, written(result.files, here, (here / path).parent), "--write-baseline")
        n = sum(len(file.findings) for file in result.files)
        _say([(f"wrote {path}, which knows {n} finding{'' if n == 1 else 's'}", "")])
        return result._replace(files=tuple(file._replace(findings=()) for file in result.files), n_known=n)
    baseline = options.baseline
    if baseline is None:
        from traindoctor.check.pipeline import settings_for

        settings = settings_for(here, options)
        baseline = settings.folder / settings.baseline if settings.baseline else None
    if baseline is None:
        return result
    from traindoctor.check.baseline import known, without

    counts = known(baseline)
    files = tuple(without(file, counts, here, (here / baseline).parent) for file in result.files)
    n_known = sum(len(a.findings) - len(b.findings) for a, b in zip(result.files, files, strict=True))
    return result._replace(files=files, n_known=n_known)


def _deliver_changes(result: Result, options: CheckOptions, output: Output, here: Path, stdin: bytes | None) -> int:
    """Write the repaired files and the one of stdin to stdout, or all as a diff; return how many repairs that is."""
    if not options.fix:
        return 0
    if options.diff:
        from traindoctor.check.mend import diff_of
        from traindoctor.report.writing import write_whole

        patch = b"".join(diff_of(change.before, change.after) for change in result.changes)
        if output.file is not None:
            write_whole(output.file, patch, "--output")
        else:
            _write_bytes(patch)
        return 0
    from traindoctor.check.mend import whole
    from traindoctor.check.repairs import write

    given = shown(here / options.stdin, here) if stdin is not None else ""
    for change in result.changes:
        if change.before.file == given:
            stdin = change.before.encoded(whole(change.after))
        else:
            write(here / change.before.file, change)
    if stdin is not None:
        _write_bytes(stdin)
    return sum(change.n_repairs for change in result.changes)


def _write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(data)
    else:  # a notebook's, or another that takes text alone
        sys.stdout.write(data.decode("utf-8", "replace"))


def _print(result: Result, n_below: int, n_fixed: int, output: Output) -> None:
    """Write the result in the format asked for, to stdout or a file."""
    if output.file is not None:
        from traindoctor.report.writing import write_whole

        write_whole(output.file, _text_of(result, n_below, n_fixed, output, colour=False), "--output")
        return
    sys.stdout.write(_text_of(result, n_below, n_fixed, output, colour=in_colour(sys.stdout)))


def _text_of(result: Result, n_below: int, n_fixed: int, output: Output, *, colour: bool) -> str:
    if output.form in ("text", "concise"):
        from traindoctor.report.check_text import Hidden, concise_lines, full_lines, statistics_lines, summary, unread_lines
        from traindoctor.report.lines import ansi_text, plain_text

        lines: list[Sequence[Words]] = []
        if output.statistics:
            lines += statistics_lines(result)
        else:
            lines += concise_lines(result) if output.form == "concise" else full_lines(result, _width())
        lines += unread_lines(result)
        if not output.quiet and (result.files or result.n_other or not any(one.asked for one in result.not_checked)):
            hidden = Hidden(n_below, sum(file.n_silenced for file in result.files))
            lines.append(summary(result, hidden, n_fixed))
        return ansi_text(lines) if colour else plain_text(lines)
    import json

    if output.form == "json":
        from traindoctor.report.check_json import to_json

        return json.dumps(to_json(result, n_below), ensure_ascii=True, allow_nan=False, indent=2) + "\n"
    if output.form == "sarif":
        from traindoctor.report.check_sarif import to_sarif

        return json.dumps(to_sarif(result), ensure_ascii=True, allow_nan=False, indent=2) + "\n"
    from traindoctor.report import check_ci

    return {"github": check_ci.github, "gitlab": check_ci.gitlab, "junit": check_ci.junit}[output.form](result)


def _tell(result: Result, output: Output) -> None:
    """Say on stderr what could not be used or failed; the text formats tell of files found in a folder themselves."""
    for one in result.not_checked:
        if one.asked or output.form not in ("text", "concise", "json"):
            _complain(one)
    for problem in result.problems:
        _say([("warning:", "doubt"), (f" {clean(problem, 1000)}", "")])


def _complain(one: NotChecked) -> None:
    where = f"{one.file}:{one.line}" if one.line else one.file
    label = ("error:", "fault") if one.asked else ("warning:", "doubt")
    _say([label, (f" {clean(where)}: {clean(one.reason, 500)}", "")])
    if one.way_out:
        _say([(f"  try:     {clean(one.way_out)}", "soft")])


def _say(words: Sequence[Words]) -> None:
    from traindoctor.report.lines import ansi_text, plain_text

    sys.stderr.write((ansi_text if in_colour(sys.stderr) else plain_text)([words]))


def _width() -> int:
    """Return the width that text is wrapped to: that of the terminal, at most 120; 100 where there is none."""
    try:
        return max(40, min(120, os.get_terminal_size(sys.stdout.fileno()).columns))
    except (OSError, ValueError):
        return 100
