"""`traindoctor fix`: the patch of a report's first fix, shown, or applied with the original kept."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from traindoctor.cli.colour import in_colour
from traindoctor.cli.packs import rules_option
from traindoctor.cli.progress import telling
from traindoctor.cli.reading import checked_format, reading, tag_aliases, warn_of_unused
from traindoctor.errors import TraindoctorError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from traindoctor.fixing import Change, Choice, Derived
    from traindoctor.model import Finding, Report, Run
    from traindoctor.report.lines import Words

#: Bytes at the beginning of a JSON file that tell whether it is a report.
HEAD = 4096


@click.command(short_help="Show the patch of a fix, or apply it with the original kept.")
@reading
@click.option(
    "--code", type=click.Path(path_type=Path), metavar="FILE", help="The training script; found beside the logs if not given."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="The folder that a report's files are looked for in. Default: this one, that of the report, or the one of the name that "
    "was diagnosed in either.",
)
@click.option("--only", multiple=True, metavar="ID", help="Of this finding, as the report names it: TD101-a41f, or TD101.")
@click.option(
    "--fix", "number", type=click.IntRange(min=1), metavar="N", help="The Nth fix of a finding; the first if not given."
)
@click.option("--all", "every", is_flag=True, help="Every fix of every finding, to choose from.")
@click.option("--apply", "applies", is_flag=True, help="Change the files; each original is kept beside its file as FILE.orig.")
@click.option("--undo", "undoes", is_flag=True, help="Give each file PATH its newest kept original back.")
@rules_option
@click.option("--quiet", "-q", is_flag=True, help="Nothing but the patch, and errors.")
def fix(
    paths: tuple[str, ...],
    config: Path | None,
    step_column: str | None,
    tags: tuple[str, ...],
    format_in: str | None,
    code: Path | None,
    root: Path | None,
    only: tuple[str, ...],
    number: int | None,
    every: bool,
    applies: bool,
    undoes: bool,
    packs: tuple[str, ...],
    quiet: bool,
) -> int:
    """Show the patch of the first fix of each run, as `git apply` takes it; with --apply make it, the original kept.

    PATH is a report (the JSON or the HTML page of `diagnose`), or logs, which are diagnosed first. Without --apply nothing is
    changed. On a pipe only the patch goes to stdout, so that `traindoctor fix logs/ | git apply` works.

    Exit codes: 0 nothing to fix, or every fix that is meant has its patch; 1 a fix has to be made by hand; 2 the input cannot
    be used, or a file does not hold what the patch expects.
    """
    from traindoctor.readers.storage import locate

    if undoes and (applies or every or number or only):
        raise click.UsageError("--undo takes files that a fix changed, and no other option")
    if undoes:
        return _undo(paths, quiet=quiet)
    if every and (applies or number):
        raise click.UsageError("--all shows alternatives to choose from: name one with --only and --fix")
    report, derive, where = _read(paths, config, step_column, tags, format_in, code, packs, root, quiet=quiet)
    chosen = _chosen(report, only, number, every=every)
    offers = [Offer(choice, derive(choice), where or locate(choice.run.root)) for choice in chosen]
    told = _Told(report, has_logs=where is None, on_screen=sys.stdout.isatty(), quiet=quiet)
    return _deliver(told, offers, applies=applies, every=every)


class Offer(NamedTuple):
    """A fix that is meant, its patch, and the folder that the patch's paths are from."""

    choice: Choice
    made: Derived
    root: Path


def _read(
    paths: tuple[str, ...],
    config: Path | None,
    step_column: str | None,
    tags: tuple[str, ...],
    format_in: str | None,
    code: Path | None,
    packs: tuple[str, ...],
    root: Path | None,
    *,
    quiet: bool,
) -> tuple[Report, Callable[[Choice], Derived], Path | None]:
    """Return the report, what makes the patch of a fix, and the folder of a report's files, None where its logs were given."""
    from traindoctor.fixing import folder_of, patch_from_report, patch_from_run
    from traindoctor.registry import load_rules
    from traindoctor.settings import load_settings

    reports = [path for path in paths if _is_report(Path(path))]
    if reports and len(paths) > 1:
        raise click.UsageError(f"{reports[0]} is a report, and one report is taken at a time")
    if reports:
        from traindoctor.report.from_json import read_report

        if config is not None or code is not None:
            raise click.UsageError("--config and --code are for logs: a report names its files; --root says where they are")
        report = read_report(Path(paths[0]))
        here = root or folder_of(report, (Path(), Path(paths[0]).parent))
        causes, thresholds = load_rules(packs).causes, load_settings(here).thresholds
        return report, lambda choice: patch_from_report(choice, here, causes, thresholds), here
    if root is not None:
        raise click.UsageError("--root is for a report: the files of logs are found beside them")
    from traindoctor.pipeline import DiagnoseOptions, diagnose

    named = tag_aliases(tags)
    settings = load_settings(paths[0])
    options = DiagnoseOptions(
        config=config,
        code=code,
        step_column=step_column,
        format=checked_format(format_in),
        tags={**settings.tags, **named},
        select=settings.select,
        ignore=settings.ignore,
        thresholds=settings.thresholds,
        rules=packs,
    )
    with telling(quiet=quiet) as progress:
        report = diagnose(paths, options, progress)
    warn_of_unused(named, (told.run for told in report.runs))
    return report, patch_from_run, None


def _is_report(path: Path) -> bool:
    """Whether a path is a report: any HTML page, and JSON that begins as ours does."""
    if not path.is_file():
        return False
    if path.suffix.lower() in (".html", ".htm"):
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD).replace(b"\0", b"")  # a shell may have written UTF-16
    except OSError:
        return False
    return (
        head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"{") and b'"schema_version"' in head and b'"traindoctor"' in head
    )


def _chosen(report: Report, only: Sequence[str], number: int | None, *, every: bool) -> list[Choice]:
    """Return the fixes that are meant.

    Raises: TraindoctorError for a finding that is not there, or lacks the fix of that number.
    """
    from traindoctor.fixing import choices
    from traindoctor.report.fingerprint import fingerprint

    known = {fingerprint(told.run, finding): finding for told in report.runs for finding in told.findings}
    asked = {name.strip().lower() for name in only}
    for name in only:
        if name.strip().lower() not in {each.lower() for each in (*known, *(finding.code for finding in known.values()))}:
            raise TraindoctorError(f"--only {name}", "is no finding of this report", *(f"--only {each}" for each in [*known][:8]))

    def wanted(run: Run, finding: Finding) -> bool:
        return bool(asked & {finding.code.lower(), fingerprint(run, finding).lower()})

    found = list(choices(report, wanted=wanted if only else None, number=number or 1, every=every))
    if not found and number and known:
        most = max(len(told.findings[0].fixes) for told in report.runs if told.findings)
        raise TraindoctorError(
            f"--fix {number}", f"no finding that is meant has so many: the most is {most}", "--all to see them"
        )
    return found


def _deliver(told: _Told, offers: Sequence[Offer], *, applies: bool, every: bool) -> int:
    """Show the fixes, apply them where asked, and return the exit code."""
    if not offers:
        told.say([[("nothing to fix: no finding offers a change", "fine")]])
    taken = offers if every else _apart(offers, told)
    for offer in taken:
        told.fix(offer)
    patched = [offer for offer in taken if offer.made.patch is not None]
    if any(offer.made.state == "stale" for offer in taken) and not every:
        told.say([[("nothing is changed: ", "fault"), ("the files are not those that the report speaks of", "")]], err=True)
        return 2
    if applies:
        _apply(patched, told)
    elif patched and not every and told.on_screen:
        told.say([[("Nothing is changed yet: --apply makes the change, and keeps the original.", "soft")]])
    return 1 if told.left_out or any(offer.made.state in ("by hand", "stale") for offer in taken) else 0


def _apart(offers: Sequence[Offer], told: _Told) -> list[Offer]:
    """Return the offers of which no two change one file in different ways: the earlier one stays, and one like it is left out."""
    from traindoctor.fixing import targets

    taken: dict[Path, str] = {}
    made: list[Offer] = []
    for offer in offers:
        patch = offer.made.patch
        files = targets(patch, offer.root) if patch is not None else ()
        clash = next((file for file in files if file in taken), None)
        if clash is None:
            made.append(offer)
            taken.update(dict.fromkeys(files, patch or ""))
        elif taken[clash] != patch:
            told.left_out = True
            name = offer.choice.run.name
            told.say([[("left out  ", "doubt"), (f"{name}: its fix changes {clash.name} too, in another way; see --only", "")]])
    return made


def _apply(offers: Sequence[Offer], told: _Told) -> None:
    """Make the patches, all or none.

    Raises: TraindoctorError for a file that lies at a URL, is not to be changed, does not hold what a patch expects, or is no
    longer what a run had whose logs were diagnosed.
    """
    from traindoctor.cli.applying import apply, changed_since
    from traindoctor.fixing import changes_of
    from traindoctor.readers.storage import is_remote

    changes: list[Change] = []
    for offer in offers:
        if is_remote(offer.root):
            raise TraindoctorError(
                str(offer.root), "is no folder of this machine: nothing there is changed", "apply the patch there"
            )
        made = changes_of(offer.made.patch or "", offer.root)
        logs = [offer.root / file for file in offer.choice.run.files] if told.has_logs else []
        for change in made:
            if changed_since(change.path, logs):
                raise TraindoctorError(
                    str(_near(change.path)),
                    "was changed by a fix after its run was logged: what is found now rests on values that the run did not have",
                    "train again, and diagnose the new log",
                    f"traindoctor fix --undo {_near(change.path)}",
                    "several fixes of one run: traindoctor diagnose PATH --html FILE, then traindoctor fix FILE --only ID",
                )
        changes += made
    near = [change._replace(file=str(_near(change.path))) for change in changes]  # what an error names is found from here
    for change, original in zip(changes, apply(near), strict=True):
        told.say([[("changed  ", "fine"), (f"{_near(change.path)}, the original is {_near(original)}", "")]])
    if changes:
        files = " ".join(str(_near(change.path)) for change in changes)
        told.say([[("  undo:  ", "soft"), (f"traindoctor fix --undo {files}", "soft")]])


def _undo(paths: Sequence[str], *, quiet: bool) -> int:
    from traindoctor.cli.applying import undo

    for path in paths:
        original, undone = undo(Path(path))
        if not quiet:
            _echo([[("restored  ", "fine"), (f"{path} from {original.name}; what it held is {undone.name}", "")]], err=False)
    return 0


def _near(path: Path) -> Path:
    """Return a path from here, where it lies below."""
    here = Path.cwd().resolve()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _aside(offer: Offer) -> tuple[str, str]:
    """Return a label and words on the patch of a fix: why it has none, or that nobody may read what it brings in."""
    from traindoctor.fixing import new_keys

    made = offer.made
    if made.patch is None:
        label = {"made": "made", "stale": "no patch"}.get(made.state, "by hand")
        return label, made.reason or "no line of a file is known that would have to change"
    new = [] if made.patch.partition("\n")[0].rstrip('"').endswith(".py") else new_keys(offer.choice)
    return ("mind", f"{' and '.join(new)} is new there: see that the training reads it") if new else ("", "")


class _Told:
    """What is said: on a terminal all on stdout, else the patches alone, and the words on stderr.

    `has_logs`: the report was made just now, of logs.
    """

    def __init__(self, report: Report, *, has_logs: bool, on_screen: bool, quiet: bool) -> None:
        self.report = report
        self.has_logs = has_logs
        self.on_screen = on_screen
        self.quiet = quiet
        self.last: Finding | None = None
        self.left_out = False

    def say(self, lines: Sequence[Sequence[Words]], *, err: bool = False) -> None:
        if err or not self.quiet:
            _echo(lines, err=err or not self.on_screen)

    def fix(self, offer: Offer) -> None:
        """Say what a fix is, and give its patch."""
        from traindoctor.report.fingerprint import fingerprint
        from traindoctor.report.fixes import finding_lines, fix_lines

        run, finding = offer.choice.run, offer.choice.finding
        name = fingerprint(run, finding)
        told = next(one for one in self.report.runs if one.run is run)
        width = min(100, shutil.get_terminal_size((88, 24)).columns)
        if self.last is not finding:
            self.say([*([[]] if self.last is not None else []), *finding_lines(told, finding, name, width)])
            self.last = finding
        self.say(fix_lines(told, finding, offer.choice.number, _aside(offer), width))
        if offer.made.patch is not None:
            self.patch(offer.made.patch, offer.root)

    def patch(self, patch: str, root: Path) -> None:
        from traindoctor.fixing import as_bytes, shown_from
        from traindoctor.report.fixes import diff_lines

        shown, is_below = shown_from(patch, root, Path.cwd())
        if self.on_screen:
            _echo([[], *diff_lines(shown), []], err=False)
        else:
            sys.stdout.flush()
            data = as_bytes(patch, shown, root)
            if hasattr(sys.stdout, "buffer"):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            else:  # a notebook's, or another that takes text alone
                sys.stdout.write(data.decode("utf-8", "replace"))
        if not is_below:
            self.say([[("  its paths are those from ", "doubt"), (f"{root}: apply it there", "doubt")]])


def _echo(lines: Sequence[Sequence[Words]], *, err: bool) -> None:
    from traindoctor.report.lines import ansi_text, plain_text
    from traindoctor.report.wording import clean

    stream = sys.stderr if err else sys.stdout
    safe = [[(clean(text, 4000), style) for text, style in line] for line in lines]
    stream.write((ansi_text if in_colour(stream) else plain_text)(safe))
    stream.flush()
