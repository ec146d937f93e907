"""`traindoctor check`: training code and configs in, mistakes out, before the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from traindoctor.cli import completing
from traindoctor.cli.checking import FORMATS, Output, run
from traindoctor.cli.packs import rules_option

if TYPE_CHECKING:
    from traindoctor.check.options import CheckOptions

LEVELS = ("error", "warning", "info")
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Mistakes in training code and configs, at their lines, before the run.")
@click.argument("paths", nargs=-1, metavar="PATH...", shell_complete=completing.files)
@click.option("--select", multiple=True, metavar="CODES", help="Only these rules: TD301,TD2 (a prefix selects a family).")
@click.option("--extend-select", multiple=True, metavar="CODES", help="These rules beside those that the settings select.")
@click.option("--ignore", multiple=True, metavar="CODES", help="All but these rules.")
@click.option(
    "--per-file-ignores", multiple=True, metavar="PATTERN:CODES", help="Ignore rules in some files: 'scripts/*.py:TD3,TD402'."
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out what is found under such a name or path.")
@click.option("--level", type=click.Choice(LEVELS), help="The lowest severity that is shown.  [default: warning]")
@click.option("--fail-on", type=click.Choice([*LEVELS, "never"]), help="Exit with 1 from this severity on.  [default: warning]")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="What to print.")
@click.option("--output", "-o", type=_FILE, metavar="FILE", help="Write it there and not to stdout.")
@click.option("--statistics", is_flag=True, help="How often each rule speaks, and not where.")
@click.option("--fix", is_flag=True, help="Make the safe repairs.")
@click.option("--unsafe-fixes", is_flag=True, help="Make all repairs, those too that may change what works.")
@click.option("--diff", is_flag=True, help="Print the repairs as a diff; write nothing. With --unsafe-fixes, all of them.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 though there are findings.")
@click.option("--exit-non-zero-on-fix", is_flag=True, help="Exit with 1 when a file was changed, though nothing is left.")
@click.option("--baseline", type=_FILE, metavar="FILE", help="Say nothing of findings that this file knows.")
@click.option("--write-baseline", type=_FILE, metavar="FILE", help="Write a file that knows all findings of today.")
@click.option("--stdin-filename", metavar="NAME", help="The name of what comes from stdin, for PATH -.  [default: stdin.py]")
@click.option("--config", type=_FILE, metavar="FILE", help="The settings, in place of the nearest pyproject.toml.")
@rules_option
@click.option("--isolated", is_flag=True, help="No settings from any file.")
@click.option("--show-settings", is_flag=True, help="Print the settings for PATH and their origin, and check nothing.")
@click.option("--no-cache", is_flag=True, help="Look at every file anew, and keep nothing.")
@click.option("--cache-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where results are kept.")
@click.option("--quiet", "-q", is_flag=True, help="Findings alone: no summary.")
def check(
    paths: tuple[str, ...],
    select: tuple[str, ...],
    extend_select: tuple[str, ...],
    ignore: tuple[str, ...],
    per_file_ignores: tuple[str, ...],
    exclude: tuple[str, ...],
    level: Literal["error", "warning", "info"] | None,
    fail_on: str | None,
    form: str,
    output: Path | None,
    statistics: bool,
    fix: bool,
    unsafe_fixes: bool,
    diff: bool,
    exit_zero: bool,
    exit_non_zero_on_fix: bool,
    baseline: Path | None,
    write_baseline: Path | None,
    stdin_filename: str | None,
    config: Path | None,
    packs: tuple[str, ...],
    isolated: bool,
    show_settings: bool,
    no_cache: bool,
    cache_dir: Path | None,
    quiet: bool,
) -> int:
    """Find the mistakes in training scripts, notebooks and configs under PATH (files or folders) before the run.

    Nothing of them is run or imported. Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 a PATH that was named, or
    the command line, cannot be used.
    """
    from traindoctor.check.cache import default_folder
    from traindoctor.check.options import CheckOptions

    if statistics and form not in ("text", "concise"):
        raise click.UsageError(f"--statistics counts in text alone, not in {form}")
    options = CheckOptions(
        select=_codes(select) or None,
        extend_select=_codes(extend_select),
        ignore=_codes(ignore) or None,
        per_file_ignores=tuple(_ignored(one, packs) for one in per_file_ignores) or None,
        exclude=exclude or None,
        level=level,
        fail_on=fail_on,
        config=config,
        isolated=isolated,
        baseline=baseline,
        write_baseline=write_baseline,
        cache=None if no_cache else cache_dir or default_folder(),
        fix="all" if unsafe_fixes else "safe" if fix or diff else "",
        diff=diff,
        stdin=stdin_filename or "stdin.py",
        rules=packs,
    )
    _known((*options.extend_select, *(options.select or ()), *(options.ignore or ())), packs)
    if show_settings:
        return _show_settings(paths, options)
    return run(paths, options, Output(form, output, statistics, exit_zero, exit_non_zero_on_fix, quiet))


def _codes(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip().upper() for one in given for code in one.split(",") if code.strip())


def _ignored(one: str, packs: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return pattern and codes of `--per-file-ignores PATTERN:CODES`.

    Raises: BadParameter for what is not of that form.
    """
    pattern, colon, codes = one.rpartition(":")
    if not colon or not pattern or not _codes((codes,)):
        raise click.BadParameter(f"{one!r} is not PATTERN:CODES, e.g. scripts/*.py:TD301", param_hint="'--per-file-ignores'")
    _known(_codes((codes,)), packs)
    return pattern, _codes((codes,))


def _known(codes: tuple[str, ...], packs: tuple[str, ...]) -> None:
    """Refuse a code that begins none of the codes there are.

    Raises: TraindoctorError with the nearest.
    """
    if codes:
        from traindoctor.registry import load_rules, refuse_unknown

        refuse_unknown(codes, load_rules(packs).causes)


def _show_settings(paths: tuple[str, ...], options: CheckOptions) -> int:
    from traindoctor.check.pipeline import settings_for

    here = Path.cwd()
    for path in paths or (".",):
        settings = settings_for(here / path, options)
        click.echo(f"{path}: {'defaults' if not settings.source else f'from {settings.source}'}")
        for key, value in settings._asdict().items():
            if key != "source" and value:
                click.echo(f"  {key.replace('_', '-')} = {value!r}")
    return 0
