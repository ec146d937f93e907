"""`traindoctor diagnose`: logs in, verdict out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from traindoctor.cli import completing
from traindoctor.cli.packs import rules_option
from traindoctor.cli.printing import deliver, exit_code, form_for, printing
from traindoctor.cli.progress import telling
from traindoctor.cli.reading import checked_format, reading, tag_aliases, warn_of_unused
from traindoctor.errors import TraindoctorError

if TYPE_CHECKING:
    from traindoctor.report.html import Written


@click.command(short_help="What went wrong in a run, why, and which change repairs it.")
@reading
@click.option(
    "--code", type=click.Path(path_type=Path), metavar="FILE", help="The training script; found beside the logs if not given."
)
@click.option(
    "--checkpoint",
    "checkpoints",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A checkpoint of the run, a file or a folder; the newest beside the logs if not given. Repeatable.",
)
@click.option("--parameters", type=click.IntRange(min=1), metavar="N", help="Number of trained parameters of the model.")
@printing
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write the report as one HTML page; of several runs an index, with a page each in a folder beside it.",
)
@click.option(
    "--max-size",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="MB",
    help="Write no HTML page that is larger.",
)
@click.option(
    "--include-paths",
    is_flag=True,
    help="Show full paths in the record of what was read, which tell of the machine and its user.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "never"]),
    default="error",
    show_default=True,
    help="Exit with 1 when a finding is at least this severe.",
)
@click.option(
    "--select",
    multiple=True,
    metavar="CODES",
    shell_complete=completing.codes,
    help="Only these causes: TD101,TD2 (a prefix selects a family).",
)
@click.option("--ignore", multiple=True, metavar="CODES", shell_complete=completing.codes, help="All but these causes.")
@rules_option
@click.option("--quiet", "-q", is_flag=True, help="No progress and no hints on stderr.")
def diagnose(
    paths: tuple[str, ...],
    config: Path | None,
    step_column: str | None,
    tags: tuple[str, ...],
    format_in: str | None,
    code: Path | None,
    checkpoints: tuple[Path, ...],
    parameters: int | None,
    form: str | None,
    output: Path | None,
    html: Path | None,
    max_size: float,
    include_paths: bool,
    fail_on: str,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    packs: tuple[str, ...],
    quiet: bool,
) -> int:
    """Say what went wrong in the runs under PATH (files, folders or URLs), why, and which change repairs it.

    Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 the input cannot be used, or the result cannot be written.
    """
    from traindoctor.pipeline import DiagnoseOptions
    from traindoctor.pipeline import diagnose as run
    from traindoctor.report.redaction import redacted
    from traindoctor.settings import load_settings

    form = form_for(form, output)
    named = tag_aliases(tags)
    settings = load_settings(paths[0])
    options = DiagnoseOptions(
        config=config,
        code=code,
        checkpoints=checkpoints,
        step_column=step_column,
        format=checked_format(format_in),
        tags={**settings.tags, **named},
        select=_codes(select) or settings.select,
        ignore=_codes(ignore) or settings.ignore,
        thresholds=settings.thresholds,
        parameters=parameters,
        rules=packs,
    )
    if html is not None and not html.parent.is_dir():
        raise click.BadParameter(f"the folder {str(html.parent)!r} does not exist", param_hint="'--html'")
    with telling(quiet=quiet) as progress:
        report = run(paths, options, progress)
        if html is not None or form != "text":
            from traindoctor.report.provenance import making_of, with_provenance

            report = with_provenance(report, making_of(paths, options, shows_paths=include_paths))
        report = redacted(report)
        if html is not None:
            from traindoctor.report.html import write_html

            try:
                written = write_html(report, html, round(max_size * 1e6), progress)
            except TraindoctorError:
                deliver(report, form, output)  # what was found is not lost with the page
                raise
    warn_of_unused(named, (told.run for told in report.runs))
    if html is not None and not quiet:
        click.echo(told_of(written), err=True)
    deliver(report, form, output)
    return exit_code(report, fail_on)


def told_of(written: Written) -> str:
    """Return what was written, in words, and which pages are large."""
    from traindoctor.report.html import LARGE_BYTES

    lines = [f"wrote {written.file}" + (f" and {written.n_pages} pages in {written.folder}" if written.folder else "")]
    lines += [f"{page} is larger than {LARGE_BYTES / 1e6:g} MB: slow to open and to send" for page in written.large]
    return "\n".join(lines)


def _codes(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip().upper() for one in given for code in one.split(",") if code.strip())
