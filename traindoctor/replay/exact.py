"""The exact replay: the user's own command run again, as recorded and with each change, in folders of its own.

The command is split like a shell does, and run without one, in a process group of its own that is stopped whole. What it
reads and writes is named by placeholders: `{config}` a copy of the run's config with the change in it, `{logdir}` a fresh
folder, `{checkpoint}` a copy of a checkpoint. The recorded files are only read.

First the command is run as recorded: it has to give the recorded loss again, else it is another run. Each change is then
judged against that run, over the same steps, by `verdict.py`.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from traindoctor.errors import TraindoctorError
from traindoctor.model import Curve, Replay, Segment, Trial
from traindoctor.replay.candidates import title_of
from traindoctor.replay.changes import checked_key
from traindoctor.replay.verdict import HELD_DECADES, Course, course, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from traindoctor.model import FloatArray, IntArray, Run, Series
    from traindoctor.signals.measurements import Measurements

#: Decades (median) within which the command, run as recorded, counts as the recorded run: half a decade, as for a divergence.
#: A run that is not bit-equal is chaotic where it fails; an exact fit with its rows permuted differs by a third of a decade.
BOUND = 0.5
#: Fewer points in common say nothing.
MIN_POINTS = 4
#: Seconds between TERM and KILL, between two looks at the processes, and lines of stderr that are shown.
GRACE_S, LOOK_S, SHOWN_LINES = 3.0, 0.05, 6
PLACEHOLDERS = ("config", "logdir", "checkpoint", "python", "seed")
_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_][\w:.]*)\}\}|\{([A-Za-z_]\w*(?::[^{}\s]*)?)\}")
_BETAS = ("optimizer.beta1", "optimizer.beta2")


# -- the command ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """A command line in words, with placeholders: `{{word}}` stands for `{word}` itself, other braces for themselves."""

    text: str
    words: tuple[str, ...]

    @property
    def placeholders(self) -> frozenset[str]:
        """The placeholders in it: "logdir", "set:optimizer.lr"."""
        return frozenset(found[2] for word in self.words for found in _PLACEHOLDER.finditer(word) if found[2])

    @property
    def flags(self) -> frozenset[str]:
        """The settings that stand in the command itself, as `{set:optimizer.lr}`."""
        return frozenset(p.removeprefix("set:") for p in self.placeholders if p.startswith("set:"))

    def filled(self, values: Mapping[str, str]) -> list[str]:
        """Return the words with each placeholder replaced by its value; a value is never split."""
        return [_PLACEHOLDER.sub(lambda f: f"{{{f[1]}}}" if f[1] else values[f[2]], word) for word in self.words]


def command_of(text: str) -> Command:
    """Return the command of a line of text.

    Raises: TraindoctorError for an open quote, an empty line, a placeholder that is not known, and without `{logdir}`.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise TraindoctorError("--cmd", f"cannot be split into words: {str(error).lower()}", "close the quotation") from None
    if not words:
        raise TraindoctorError("--cmd", "is empty", "--cmd '{python} train.py --config {config} --logdir {logdir}'")
    command = Command(text, words)
    for name in sorted(command.placeholders):
        if name.startswith("set:"):
            checked_key(name.removeprefix("set:"), f"--cmd {{{name}}}")
        elif name not in PLACEHOLDERS:
            known = ", ".join(f"{{{p}}}" for p in PLACEHOLDERS)
            raise TraindoctorError(
                "--cmd",
                f"the placeholder {{{name}}} is not known",
                f"known are {known} and {{set:KEY}}, e.g. {{set:optimizer.lr}}",
                f"{{{{{name}}}}} for the word in braces itself",
            )
    if "logdir" not in command.placeholders:
        raise TraindoctorError(
            "--cmd",
            "has no {logdir}: each run needs a fresh folder for its log",
            "--cmd '{python} train.py --config {config} --logdir {logdir}'",
        )
    return command


# -- what is run ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the command: the settings it changes, and why it cannot be run ("" when it can).

    `files`: relative path -> content of the copies of the config files. `values`: placeholder `set:KEY` or `seed` -> text.
    """

    title: str
    settings: Mapping[str, object]
    files: Mapping[str, bytes] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a command may take and all of them together, in seconds, and how many run at once."""

    timeout_s: float = 600.0
    total_s: float = 3600.0
    jobs: int = 1


Ended = Literal["done", "failed", "timeout", "not started"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of the command ended. `code`: its exit code. `said`: the last lines of its stderr, or why it did not start."""

    ended: Ended
    folder: Path
    code: int | None = None
    took_s: float = 0.0
    said: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Why there is no verdict, "" for a run that ended well."""
        last = f": {self.said[-1]}" if self.said else ""
        if self.ended == "failed":
            return f"the command failed with {_code(self.code)}{last}"
        if self.ended == "timeout":
            return f"stopped after {self.took_s:.0f} s, before it ended"
        return f"not started{last}" if self.ended == "not started" else ""


def _code(code: int | None) -> str:
    """Return an exit code in words: "exit code 3", or the signal that ended the command."""
    if code is None or code >= 0:
        return f"exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"signal {known.get(-code, -code)}"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every run of the command shares.

    `folder`: where each gets a folder of its own. `config`: relative path of the file that is `{config}`, "" for none.
    `checkpoint`: the file that each gets a copy of. `environment`: of the command, the caller's when empty. `tell`: is called
    with a line on the progress.
    """

    folder: Path
    config: str = ""
    checkpoint: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _: None


def checked_checkpoint(file: Path | None, command: Command) -> Path | None:
    """Return the checkpoint, which the command names where there is one.

    Raises: TraindoctorError for a file that is missing or empty, and where only one of the two is given.
    """
    named = "checkpoint" in command.placeholders
    if file is None:
        if named:
            raise TraindoctorError("--cmd", "names {checkpoint}, and none is given", "--from-checkpoint FILE")
        return None
    if not named:
        raise TraindoctorError("--from-checkpoint", "the command does not name it", "put {checkpoint} into --cmd")
    if not file.is_file():
        raise TraindoctorError(f"--from-checkpoint {file}", "there is no such file" if not file.exists() else "is no file")
    if not file.stat().st_size:
        raise TraindoctorError(f"--from-checkpoint {file}", "is empty")
    return file


def recorded_value(run: Run, key: str) -> object:
    """Return the recorded value of a setting, None where it is not known."""
    if key in run.settings:
        return run.settings[key].value
    group, _, name = key.partition(".")
    if group == "optimizer" and run.optimizer is not None:
        if name == "betas":
            betas = (run.optimizer.beta1, run.optimizer.beta2)
            return None if None in betas else betas
        return getattr(run.optimizer, name, None)
    return None


def plan_of(
    settings: Mapping[str, object],
    m: Measurements,
    command: Command,
    patched: Callable[[Mapping[str, object]], Mapping[str, bytes] | None],
) -> Plan:
    """Return how a change is brought into the command: by its `{set:KEY}`, and what has none by the copy of the config.

    `patched`: a change -> the config files with it, relative path -> content; None when it cannot be written into them.
    """
    title = title_of(settings, m.run.optimizer)
    wanted = _single_betas(settings) if command.flags & {*_BETAS} else dict(settings)
    values: dict[str, str] = {}
    for key in command.flags:
        value = wanted[key] if key in wanted else _of_pair(key, wanted, m.run)
        if value is None:
            return Plan(title, settings, refusal=f"{{set:{key}}} has no value: the run does not say its {key}")
        values[f"set:{key}"] = as_text(value)
    if "seed" in command.placeholders:
        seed = wanted.get("seed", recorded_value(m.run, "seed"))
        if seed is None:
            return Plan(title, settings, refusal="{seed} has no value: the run does not say its seed")
        values["seed"] = as_text(seed)
    given = command.flags | ({*_BETAS} if "optimizer.betas" in command.flags else set())
    given |= {"seed"} if "seed" in command.placeholders else set()
    rest = {key: value for key, value in wanted.items() if key not in given}
    if rest and "config" not in command.placeholders:
        key = next(iter(rest))
        return Plan(title, settings, refusal=f"{key} reaches the command neither by {{config}} nor by {{set:{key}}}")
    if "config" not in command.placeholders:
        return Plan(title, settings, values=values)
    files = patched(rest)
    if files is None:
        where = ", ".join(m.run.config_files) or "no config file of this run"
        return Plan(title, settings, refusal=f"{', '.join(rest)} cannot be written into {where}")
    return Plan(title, settings, files, values)


def _single_betas(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings with a pair of betas as two."""
    made = dict(settings)
    both = made.pop("optimizer.betas", None)
    return {**made, **dict(zip(_BETAS, both, strict=True))} if isinstance(both, tuple | list) else made


def _of_pair(key: str, wanted: Mapping[str, object], run: Run) -> object:
    """Return the recorded value of a setting; a pair of betas with one that is wanted otherwise in its place."""
    if key != "optimizer.betas" or not wanted.keys() & {*_BETAS}:
        return recorded_value(run, key)
    both = tuple(wanted.get(beta, recorded_value(run, beta)) for beta in _BETAS)
    return None if None in both else both


def as_text(value: object) -> str:
    """Return a setting as one word of a command line: 0.001, 1e-08, true, "0.9,0.99"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ",".join(as_text(one) for one in value)
    return repr(value) if isinstance(value, float) else str(value)


# -- running it -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Running:
    index: int
    process: subprocess.Popen[bytes]
    folder: Path
    began: float


def run_commands(command: Command, plans: Sequence[Plan], place: Workplace, limits: Limits, *, first: int = 0) -> list[Outcome]:
    """Return how each run of the command ended, in the order of the plans; `first`: number of the first folder.

    Whatever happens, no process is left when this returns: not at a timeout, at Ctrl-C, nor when it is terminated.
    """
    outcomes: dict[int, Outcome] = {}
    waiting = deque((i, plan) for i, plan in enumerate(plans))
    running: list[_Running] = []
    until = time.monotonic() + limits.total_s
    with _ended_by_signals():
        try:
            while waiting or running:
                while waiting and len(running) < limits.jobs:
                    i, plan = waiting.popleft()
                    folder = place.folder / f"{first + i:02d}-{_slug(plan.title)}"
                    if time.monotonic() >= until:
                        outcomes[i] = Outcome("not started", folder, said=(f"all {limits.total_s:g} s were used up",))
                        continue
                    started = _start(command, plan, place, folder)
                    if isinstance(started, Outcome):
                        outcomes[i] = started
                    else:
                        running.append(_Running(i, started, folder, time.monotonic()))
                now = time.monotonic()
                for one in list(running):
                    took = now - one.began
                    if one.process.poll() is None and took < limits.timeout_s and now < until:
                        continue
                    code = one.process.returncode
                    _stop(one.process)
                    ended: Ended = "timeout" if code is None else "failed" if code else "done"
                    outcomes[one.index] = Outcome(ended, one.folder, code, took, _last_lines(one.folder / "stderr.txt"))
                    running.remove(one)
                if running:
                    shown = ", ".join(f"{plans[r.index].title} {now - r.began:.0f} s" for r in running)
                    place.tell(f"running {shown}; {first + len(outcomes)} of {first + len(plans)} done")
                    time.sleep(LOOK_S)
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                _stop(one.process)
    return [outcomes[i] for i in range(len(plans))]


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.")[:40]


def _start(command: Command, plan: Plan, place: Workplace, folder: Path) -> subprocess.Popen[bytes] | Outcome:
    """Return the running command, or the outcome where it could not be started."""
    logs = folder / "logs"
    values = {"logdir": str(logs), "python": sys.executable, "config": str(folder / "config" / place.config), **plan.values}
    try:
        logs.mkdir(parents=True)
        for name, content in plan.files.items():
            (folder / "config" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "config" / name).write_bytes(content)
        if place.checkpoint is not None:
            copy = folder / "checkpoint" / place.checkpoint.name
            copy.parent.mkdir()
            shutil.copyfile(place.checkpoint, copy)
            values["checkpoint"] = str(copy)
    except OSError as error:
        return Outcome("not started", folder, said=(f"{folder} cannot be written: {error.strerror or error}",))
    environment = dict(place.environment or os.environ)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # no __pycache__ beside the user's scripts
    words = command.filled(values)
    with (folder / "stdout.txt").open("wb") as out, (folder / "stderr.txt").open("wb") as err:
        try:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=os.name == "posix"
            )
        except FileNotFoundError:
            reason = f"{words[0]}: command not found"
        except (OSError, ValueError) as error:
            reason = f"{words[0]}: {getattr(error, 'strerror', None) or error}"
    return Outcome("not started", folder, said=(reason,))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started: asked first, then killed. What it left behind when it ended goes too."""
    if os.name != "posix":
        process.kill()
        process.wait()
        return
    group = process.pid  # it leads a group of its own
    _signal_group(group, signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until:
        process.poll()
        if not _signal_group(group, 0):
            break
        time.sleep(LOOK_S)
    _signal_group(group, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a group of processes; return whether there is any left in it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let TERM and HUP end this process as Ctrl-C does, so that what it started ends with it."""
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ends = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]  # nohup ignores HUP
    before = {number: signal.signal(number, interrupt) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_lines(file: Path) -> tuple[str, ...]:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 20_000))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return tuple(line.rstrip()[:300] for line in lines if line.strip())[-SHOWN_LINES:]


# -- what came of it --------------------------------------------------------------------------------------------------


def retrain(
    m: Measurements,
    command: Command,
    plans: Sequence[Plan],
    place: Workplace,
    read: Callable[[Path], Sequence[Run]],
    limits: Limits,
) -> Replay:
    """Return the exact replay: the command as recorded, then each plan, judged by its loss.

    `plans`: as recorded first. `read`: a folder -> the runs logged in it.

    Raises: TraindoctorError when the run has no loss, and when the command cannot be run as recorded or logs no such loss.
    """
    recorded = m.run.primary.get("loss")
    if recorded is None or not len(recorded):
        raise TraindoctorError(m.run.path, "has no training loss to compare with", "--tag loss=TAG names it")
    began = time.monotonic()
    base_plan, *others = plans
    if base_plan.refusal:
        raise TraindoctorError("--cmd", base_plan.refusal, "--config FILE names the run's config", *_by_flag(command))
    outcome = run_commands(command, [base_plan], place, limits)[0]
    if outcome.ended != "done":
        raise _failure(outcome, limits)
    base = _loss_of(outcome, recorded.tag, read)
    if isinstance(base, str):
        raise TraindoctorError("--cmd", f"as recorded: {base}", f"the recorded loss has the tag {recorded.tag!r}")
    place.tell("comparing with the recorded run")
    logged, again = _points(recorded), _points(base)
    step, error, residual = _distance(logged, again)
    refusal = ""
    if step.size < MIN_POINTS:
        refusal = f"the command, run as recorded, has {step.size} logged steps in common with the recorded run: it is another run"
    elif not error <= BOUND:
        refusal = (
            f"the command, run as recorded, misses the recorded loss by {error:.1f} decades in the median, its bound is "
            f"{BOUND:g}: other code, data, settings or seed; what is said below of each change holds for the command as it is now"
        )
    able = [plan for plan in others if not plan.refusal]
    left = Limits(limits.timeout_s, max(0.0, limits.total_s - (time.monotonic() - began)), limits.jobs)
    outcomes = iter(run_commands(command, able, place, left, first=1))
    initial = m.loss.initial if again[0][0] > logged[0][0] else None
    base_course = course(_counted(again), again[1], initial=initial)
    trials = [Trial("as recorded", {}, "no effect", base_course.highest, 1.0, Curve("as recorded", "reproduced", *again))]
    trials += [
        _trial(plan, None if plan.refusal else next(outcomes), recorded.tag, read, again, base_course, initial) for plan in others
    ]
    rise = m.loss.rebound
    onset = rise.onset if rise is not None and rise.decades > HELD_DECADES else None
    return Replay(
        "exact",
        command.text,
        Segment(int(again[0][0]), int(again[0][-1]) + 1, onset),
        Curve("observed", "observed", *logged),
        Curve("run again", "reproduced", *again),
        Curve("residual", "observed", step, residual),
        error,
        BOUND,
        not refusal,
        refusal,
        tuple(trials),
    )


def _by_flag(command: Command) -> tuple[str, ...]:
    return () if command.flags else ("or give settings as flags: --cmd '... --lr {set:optimizer.lr} --logdir {logdir}'",)


def _failure(outcome: Outcome, limits: Limits) -> TraindoctorError:
    """Return the error for a command that could not be run as recorded."""
    if outcome.ended == "timeout":
        said = f"as recorded: did not end within {min(limits.timeout_s, limits.total_s):g} s, and was stopped"
        return TraindoctorError("--cmd", said, "a longer --timeout SECONDS", "fewer steps in the command")
    if outcome.ended == "failed":
        said = f"; the last lines of its stderr: {' | '.join(outcome.said)}" if outcome.said else "; it wrote nothing to stderr"
        return TraindoctorError("--cmd", f"as recorded: failed with {_code(outcome.code)}{said}")
    return TraindoctorError("--cmd", outcome.said[-1] if outcome.said else "could not be started")


def _loss_of(outcome: Outcome, tag: str, read: Callable[[Path], Sequence[Run]]) -> Series | str:
    """Return the loss that a run of the command logged under the tag, the longest where there are several, or why not."""
    try:
        runs = read(outcome.folder / "logs")
    except TraindoctorError as error:
        return f"wrote no log to {{logdir}} that can be read: {error.what}"
    found = [series for run in runs for series in run.series if series.tag == tag and len(series)]
    if not found:
        tags = sorted({series.tag for run in runs for series in run.series})
        return f"logged no {tag!r}; its tags are {', '.join(tags[:12]) or 'none'}"
    return max(found, key=len)


def _points(series: Series) -> tuple[IntArray, FloatArray]:
    """Return steps in order, each once with the value logged last, and the values; NaN and infinities stay."""
    order = np.argsort(series.step, kind="stable")
    step, value = series.step[order], series.value[order]
    last = np.append(step[1:] != step[:-1], True) if step.size else np.zeros(0, dtype=bool)
    return step[last], value[last]


def _distance(one: tuple[IntArray, FloatArray], other: tuple[IntArray, FloatArray]) -> tuple[IntArray, float, FloatArray]:
    """Return the steps that two losses share, their median distance in decades, and log10 of the other over the first.

    Equal values, NaN too, are 0 apart; finite and not finite are infinitely far. Where a value is not positive the distance is
    that of the difference over the median size, log10(1 + |difference| / size).
    """
    step, i, j = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    a, b = one[1][i], other[1][j]
    with np.errstate(all="ignore"):
        size = float(np.median(np.abs(a[np.isfinite(a)]))) if np.isfinite(a).any() else 1.0
        ratio = np.log10(b / a)
        signed = np.sign(b - a) * np.log10(1.0 + np.abs(b - a) / max(size, 1e-300))
        apart = np.where((a > 0) & (b > 0), ratio, signed)
    apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, apart)
    apart = np.where(np.isfinite(apart), apart, np.inf)
    return step, float(np.median(np.abs(apart))) if step.size else math.nan, apart


def _counted(points: tuple[IntArray, FloatArray]) -> IntArray:
    """Return the steps counted from 1: one epoch is one, also where the log calls it 0."""
    counted: IntArray = points[0] - points[0][0] + 1
    return counted


def _trial(
    plan: Plan,
    outcome: Outcome | None,
    tag: str,
    read: Callable[[Path], Sequence[Run]],
    recorded: tuple[IntArray, FloatArray],
    base: Course,
    initial: float | None,
) -> Trial:
    """Return what came of one change; without a verdict where its run failed, or took no notice of it.

    `recorded`: the points of the run with the recorded settings, `base` its course.
    """
    nothing = Curve(plan.title, "counterfactual", np.zeros(0, dtype=np.int64), np.zeros(0))

    def untried(why: str) -> Trial:
        return Trial(plan.title, plan.settings, "not tried", math.nan, None, nothing, why)

    if outcome is None or outcome.words:
        return untried(plan.refusal if outcome is None else outcome.words)
    loss = _loss_of(outcome, tag, read)
    if isinstance(loss, str):
        return untried(loss)
    step, value = _points(loss)
    if np.array_equal(step, recorded[0]) and np.array_equal(value, recorded[1], equal_nan=True):
        return untried("the loss is that of the recorded settings, bit for bit: the command does not read this, or it never acts")
    within = step <= recorded[0][-1]
    if within.sum() < MIN_POINTS:
        return untried("logged other steps than the recorded run")
    step, value = step[within], value[within]
    mine = course(_counted((step, value)), value, initial=initial)
    said = judge(base, mine)
    notes = [said.note] if said.note else []
    if recorded[0][-1] - step[-1] > 0.1 * (recorded[0][-1] - recorded[0][0]):
        notes.append(f"ends at step {int(step[-1]):,}")
    slower = said.slower if said.slower is not None and math.isfinite(said.slower) else None
    curve = Curve(plan.title, "counterfactual", step, value)
    return Trial(plan.title, plan.settings, said.verdict, mine.highest, slower, curve, "; ".join(notes))
