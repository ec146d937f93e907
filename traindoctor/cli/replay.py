"""`traindoctor replay`: a run made again, from its log or by its own command, as recorded and with changes."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from traindoctor.cli.progress import telling
from traindoctor.cli.reading import checked_format, reading, tag_aliases, warn_of_unused
from traindoctor.cli.terminal import columns, write_lines
from traindoctor.errors import TraindoctorError
from traindoctor.report.writing import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from traindoctor.model import Replay, Run
    from traindoctor.readers.discover import ReadOptions
    from traindoctor.replay.exact import Limits
    from traindoctor.replay.outlook import Outlook
    from traindoctor.replay.rivals import Schedule
    from traindoctor.signals.measurements import Measurements
    from traindoctor.signals.second_moment import ResumeKind

#: Fixes of the diagnosis that the command is run with.
MOST_FIXES = 6
#: What `main` sets for itself; the user's command gets it as it was before.
THREADS = "OPENBLAS_NUM_THREADS"
_THREADS_BEFORE = os.environ.get(THREADS)


def _probe(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, float] | None:
    """Return the step and the margin of STEP=VALUE."""
    if text is None:
        return None
    step, _, value = text.partition("=")
    try:
        made = int(step.replace(",", "")), float(value)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not STEP=VALUE, e.g. 999=16.6") from None
    if not (made[0] >= 0 and 0.0 < made[1] < math.inf):
        raise click.BadParameter(f"{text!r}: the step is not negative, and the value above 0")
    return made


def _finite(context: click.Context, option: click.Parameter, value: float) -> float:
    """Return the value; click's ranges let NaN through."""
    if value != value:
        raise click.BadParameter(f"{value} is no number of seconds", context, option)
    return value


@click.command(short_help="Make a run again, as recorded and with changes of its settings.")
@reading
@click.option(
    "--set",
    "texts",
    multiple=True,
    metavar="KEY=VALUE",
    help="A change to try, e.g. optimizer.lr=1e-4; several settings of one change with commas. Repeatable: one change each.",
)
@click.option(
    "--candidates",
    type=click.Choice(["auto", "none"]),
    help="auto: also try the usual changes, with --cmd the first fixes of the diagnosis. Default: auto without --set, else none.",
)
@click.option(
    "--cmd",
    metavar="COMMAND",
    help="Run this command of yours: as recorded, then with each change. It holds {logdir}, and of {config}, {set:KEY}, "
    "{checkpoint}, {seed} and {python} what it needs. The only place where traindoctor runs your code.",
)
@click.option(
    "--from-checkpoint", type=click.Path(path_type=Path), metavar="FILE", help="With --cmd: a copy of it is {checkpoint}."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="With --cmd: stop a command after this long.",
)
@click.option(
    "--total",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="With --cmd: stop all after this long.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="With --cmd: so many commands at once."
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With --cmd: leave configs, logs and output there; else they are removed.",
)
@click.option("--parameters", type=click.IntRange(min=1), metavar="N", help="Number of trained parameters of the model.")
@click.option(
    "--resume",
    type=click.Choice(["kept", "moments-lost", "step-reset", "v-lost", "fresh"]),
    default="kept",
    show_default=True,
    help="What resumed processes found of the optimizer's state.",
)
@click.option(
    "--steps-per-epoch", type=click.IntRange(min=1), metavar="N", help="Optimizer steps of an epoch, where the log counts epochs."
)
@click.option(
    "--probe",
    callback=_probe,
    metavar="STEP=VALUE",
    help="lr * lambda_max(P^-1 H) as measured after a step, e.g. by traindoctor.replay.torch.where_stuck: says when the "
    "stability limit is met.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What to print.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write the replay as one HTML page."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress and no hints on stderr.")
def replay(
    paths: tuple[str, ...],
    config: Path | None,
    step_column: str | None,
    tags: tuple[str, ...],
    format_in: str | None,
    texts: tuple[str, ...],
    candidates: str | None,
    cmd: str | None,
    from_checkpoint: Path | None,
    timeout: float,
    total: float,
    jobs: int,
    keep: Path | None,
    parameters: int | None,
    resume: ResumeKind,
    steps_per_epoch: int | None,
    probe: tuple[int, float] | None,
    form: str,
    html: Path | None,
    quiet: bool,
) -> int:
    """Make the run under PATH again, as recorded and with changes of its settings, and say which change repairs it.

    Without --cmd nothing is trained: a model of the run is fitted to its log, and answers only if it reproduces the log.
    With --cmd your own command is run, without a shell, in folders of its own; the recorded files are only read.

    Exit codes: 0 the log is reproduced and one of the changes repairs the run, or there was nothing to repair or to try;
    1 not so; 2 the input or the command cannot be used.
    """
    import numpy as np

    from traindoctor.pipeline import suspected
    from traindoctor.readers.discover import ReadOptions
    from traindoctor.replay.changes import changes_of
    from traindoctor.replay.engine import replay_run
    from traindoctor.replay.exact import Limits
    from traindoctor.replay.outlook import outlook
    from traindoctor.settings import load_settings
    from traindoctor.signals.measurements import Measurements

    changes = changes_of(texts)
    auto = candidates == "auto" or (candidates is None and not texts)
    _check_options(cmd, from_checkpoint, keep, html)
    named = tag_aliases(tags)
    aliases = {**load_settings(paths[0]).tags, **named}
    options = ReadOptions(config=config, step_column=step_column, aliases=aliases, format=checked_format(format_in))
    with telling(quiet=quiet) as progress:
        tell = progress or (lambda _: None)
        tell("reading")
        run = _one_run(paths, options)
        measured = Measurements(run, parameters)
        if cmd is None:
            tell(f"replaying {run.name}")
            with np.errstate(all="ignore"):  # a log holds zeros, infinities and NaN
                made = replay_run(measured, changes=changes, auto=auto, cause=suspected(measured), schedule=_configured_rate(run))
        else:
            made = _from_the_command(
                measured, changes, cmd, options, Limits(timeout, total, jobs), from_checkpoint, keep, parameters, tell, auto=auto
            )
        try:
            with np.errstate(all="ignore"):
                told = outlook(measured, made, resume=resume, steps_per_epoch=steps_per_epoch, probe=probe)
        except TraindoctorError as error:
            raise TraindoctorError(f"--{error.where}", error.what, *error.ways_out) from error
    warn_of_unused(named, [run])
    if html is not None:
        from traindoctor.report.html import render_replay

        write_whole(html, render_replay(run, made, told))
    _print(run, made, told, form)
    if not quiet:
        for written in (html, keep):
            if written is not None:
                click.echo(f"wrote {written}", err=True)
    return exit_code(made)


def _configured_rate(run: Run) -> Schedule | None:
    """Return the learning rate of steps as the config has it, None where it names no schedule that is a function of the step."""
    from traindoctor.configs.schedule import schedule_spec
    from traindoctor.optim.schedules import FOLLOWS_A_METRIC, learning_rate
    from traindoctor.signals.schedule import steps_per_epoch

    spec = schedule_spec(run.settings, steps_per_epoch=steps_per_epoch(run), counted_by=run.step_unit)
    if spec is None or spec.name in FOLLOWS_A_METRIC:
        return None
    return lambda step: learning_rate(spec, step)


def exit_code(made: Replay) -> int:
    """Return 0 when the log is reproduced and a change repairs, where any was tried on a run that is not healthy; else 1."""
    from traindoctor.report.replaying import is_healthy, repairing

    tried = any(trial.settings for trial in made.trials)
    return 0 if made.reproduces and (not tried or is_healthy(made) or repairing(made)) else 1


def _check_options(cmd: str | None, from_checkpoint: Path | None, keep: Path | None, html: Path | None) -> None:
    for name, given in (("--from-checkpoint", from_checkpoint), ("--keep", keep)):
        if cmd is None and given is not None:
            raise click.BadParameter("goes with --cmd alone: without it nothing is trained", param_hint=f"'{name}'")
    if keep is not None and keep.is_dir() and any(keep.iterdir()):
        raise click.BadParameter(f"the folder {str(keep)!r} is not empty", param_hint="'--keep'")
    if html is not None and not html.parent.is_dir():
        raise click.BadParameter(f"the folder {str(html.parent)!r} does not exist", param_hint="'--html'")


def _one_run(paths: Sequence[str], options: ReadOptions) -> Run:
    from traindoctor.beside import read_beside, with_settings
    from traindoctor.readers.discover import read_runs

    runs = [run for path in paths for run in read_runs(path, options)]
    if len(runs) != 1:
        named = ", ".join(run.path for run in runs[:8]) + (" ..." if len(runs) > 8 else "")
        raise TraindoctorError(" ".join(paths), f"holds {len(runs)} runs, and one is replayed at a time", f"name one of {named}")
    return with_settings(runs[0], read_beside(runs[0]))


def _from_the_command(
    m: Measurements,
    changes: Sequence[Mapping[str, object]],
    cmd: str,
    options: ReadOptions,
    limits: Limits,
    from_checkpoint: Path | None,
    keep: Path | None,
    parameters: int | None,
    tell: Callable[[str], None],
    *,
    auto: bool,
) -> Replay:
    from traindoctor.configs import patch_for
    from traindoctor.diff import applied
    from traindoctor.readers.discover import ReadOptions as Reading
    from traindoctor.readers.discover import read_runs
    from traindoctor.replay.exact import Workplace, checked_checkpoint, command_of, plan_of, retrain

    run = m.run
    command = command_of(cmd)
    checkpoint = checked_checkpoint(from_checkpoint, command)
    root, names, originals = _config_files(run) if "config" in command.placeholders else (Path(), [], {})
    if "config" in command.placeholders and not names:
        raise TraindoctorError(
            "--cmd", "names {config}, and this run has no config file", "--config FILE", "or give settings as {set:KEY} in --cmd"
        )

    def patched(change: Mapping[str, object]) -> Mapping[str, bytes] | None:
        if not change:
            return originals
        patch = patch_for(root, run.settings, change, names)
        if patch is None:
            return None
        after = applied(patch, {name: originals[name].decode("utf-8", "surrogateescape") for name in names})
        return {**originals, **{name: text.encode("utf-8", "surrogateescape") for name, text in after.items()}}

    def read(folder: Path) -> Sequence[Run]:
        return read_runs(folder, Reading(step_column=options.step_column, aliases=options.aliases, format=options.format))

    plans = [plan_of(change, m, command, patched) for change in ({}, *changes)]
    for plan, change in zip(plans[1:], changes, strict=True):
        if plan.refusal:
            raise TraindoctorError("--set " + ",".join(change), plan.refusal, "put {set:KEY} into --cmd where a flag takes it")
    if auto:
        tell("diagnosing, for the changes to try")
        fixes = _fixes(run, parameters)
        plans += [plan_of(fix, m, command, patched) for fix in fixes if fix not in changes]
    with _folder(keep) as folder:
        place = Workplace(folder, names[-1] if names else "", checkpoint, _environment(), tell)
        return retrain(m, command, plans, place, read, limits)


def _config_files(run: Run) -> tuple[Path, list[str], dict[str, bytes]]:
    """Return the folder of the run's config files, their paths in it, and the content of these and of what they inherit from."""
    root = Path(run.root)
    files = [(root / name).resolve() for name in run.config_files]
    bases = {(root / setting.origin.partition(":")[0]).resolve() for setting in run.settings.values()}
    bases = {file for file in bases if file.suffix in {f.suffix for f in files} and file.is_file()}
    if not files:
        return root, [], {}
    top = Path(os.path.commonpath([file.parent for file in (*files, *bases)]))
    try:
        content = {file.relative_to(top).as_posix(): file.read_bytes() for file in (*files, *bases)}
    except OSError as error:
        raise TraindoctorError(str(error.filename), f"cannot be read: {error.strerror}") from error
    return top, [file.relative_to(top).as_posix() for file in files], content


def _fixes(run: Run, parameters: int | None) -> list[Mapping[str, object]]:
    """Return the settings of the first fixes of the diagnosis."""
    from traindoctor.pipeline import DiagnoseOptions, diagnose_run
    from traindoctor.registry import load_rules

    report = diagnose_run(run, load_rules().causes, DiagnoseOptions(parameters=parameters))
    fixes = report.findings[0].fixes if report.findings else ()
    return [fix.settings for fix in fixes if fix.settings][:MOST_FIXES]


def _environment() -> Mapping[str, str]:
    made = {key: value for key, value in os.environ.items() if key != THREADS}
    return made if _THREADS_BEFORE is None else {**made, THREADS: _THREADS_BEFORE}


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Yield where the commands run: `keep`, or a folder that is gone afterwards."""
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TraindoctorError(str(keep), f"cannot be made: {error.strerror}", "another place for --keep") from error
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="traindoctor-replay-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def _print(run: Run, made: Replay, told: Outlook, form: str) -> None:
    from traindoctor.report.replaying import lines_of, to_json
    from traindoctor.report.sparkline import drawable

    if form == "json":
        click.echo(json.dumps(to_json(run, made, told), ensure_ascii=True, allow_nan=False, indent=2))
        return
    write_lines(lines_of(run, made, columns(60), outlook=told, ascii_only=not drawable(sys.stdout.encoding)))
