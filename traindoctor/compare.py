"""A good run and a bad one -> what changed between them, where their curves part, and which change explains it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from traindoctor.code.loops import read_source
from traindoctor.configs.every import (
    Difference,
    differences,
    is_kept_or_shown,
    is_number,
    known_settings,
    other_settings,
    same,
)
from traindoctor.errors import TraindoctorError
from traindoctor.readers.storage import locate
from traindoctor.signals.parting import EXACT, Allowance, Curve, Parting, Together, parting
from traindoctor.signals.schedule import steps_per_epoch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from traindoctor.model import Finding, Run, RunReport, Series, Setting, StepUnit, TrialVerdict

#: What is compared, in the order in which a training works: a tie is told in this order.
QUANTITIES: Mapping[str, Allowance] = {
    "learning_rate": EXACT,
    "loss_scale": EXACT,
    "grad_norm": Allowance(0.25, 0.15, 3.0),
    "update_norm": Allowance(0.25, 0.15, 3.0),
    "weight_norm": Allowance(0.25, 0.05, 3.0),
    "loss": Allowance(0.25, 0.1, 3.0),
    "accuracy": Allowance(0.25, 0.1, 3.0),
    "val_loss": Allowance(0.25, 0.2, 3.0),
    "val_accuracy": Allowance(0.25, 0.1, 3.0),
}
#: Causes that a setting can bring about, by prefixes of the setting and of the code.
ACTS_ON: Mapping[str, tuple[str, ...]] = {
    "optimizer.lr": ("TD1", "TD2", "TD401"),
    "optimizer.weight_decay": ("TD106", "TD107", "TD7"),
    "optimizer.": ("TD1", "TD2", "TD401"),
    "schedule.": ("TD2",),
    "gradient.": ("TD2", "TD3", "TD401"),
    "precision": ("TD1", "TD4"),
    "batch_size": ("TD2", "TD5", "TD7"),
    "loss.": ("TD6",),
}
#: A weight decay that has taken less than this share of the weights has done nothing yet.
DECAYED = 0.01
#: A change of the learning rate within one logged interval that is a step, no course: over the rate, and over the usual change.
RATE_STEP, RATE_STEPS = 0.1, 10.0
#: A log that is so many times shorter than the run it is of may count something else than steps.
SHORT = 4.0
#: Two logs of lengths that are nearer than this are equally long.
SAME_LENGTH = 1.1
#: Lines of a script that are compared.
MOST_LINES = 20_000

Status = Literal["explains", "possible", "excluded"]
STATUSES: tuple[Status, ...] = ("explains", "possible", "excluded")
Place = Literal["start", "learning rate", "resume", "epoch", "later"]


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that differs, and what it has to do with the bad run.

    `status`: "explains" where the diagnosis or the replay points at it, "excluded" where it cannot have acted by the time the
    curves part, else "possible". `reason`: why, in a sentence. `code`: of the cause it explains, or of the first cause where it
    can bring that about; "" for none. `trial`: what the replay of the bad run said of the good run's value, None where it was
    not tried.
    """

    difference: Difference
    status: Status
    reason: str
    code: str = ""
    trial: TrialVerdict | None = None


class Line(NamedTuple):
    """A line of a script that stands in one of the two alone: `in_bad` says in which."""

    in_bad: bool
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class ScriptChange:
    """A script that differs. `lines`: those that stand in one alone; empty where only one run has the script.

    `code`: of a cause that the bad run's script proves and no good run has, "" for none; `evidence`: the lines it stands in.
    """

    good: str
    bad: str
    lines: tuple[Line, ...]
    code: str = ""
    evidence: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """A quantity that is logged in all runs. `outcome`: None where it could not be compared, and `reason` says why."""

    quantity: str
    tags: tuple[str, ...]
    outcome: Parting | Together | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where the difference begins. `step`: of the boundary, None where it is at none."""

    place: Place
    text: str
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a good run, or several, and a bad one have to say of each other.

    `compared`: in the order in which the quantities part, then those that do not, then those that could not be compared.
    `unit`: what the steps of the comparison count. `cause`: the first finding of the bad run, where it has one. `varying`:
    settings in which the good runs differ too.
    """

    good: tuple[RunReport, ...]
    bad: RunReport
    changes: tuple[Change, ...]
    scripts: tuple[ScriptChange, ...]
    compared: tuple[Compared, ...]
    beginning: Beginning | None
    cause: Finding | None
    summary: str
    unit: StepUnit = "step"
    varying: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def parted(self) -> tuple[Compared, ...]:
        """The quantities that part, the first one first."""
        return tuple(c for c in self.compared if isinstance(c.outcome, Parting))

    @property
    def differs(self) -> bool:
        """Whether a curve parts beyond the noise."""
        return bool(self.parted)

    @property
    def is_comparable(self) -> bool:
        """Whether any quantity could be compared."""
        return any(c.outcome is not None for c in self.compared)


def compare(good: Sequence[RunReport], bad: RunReport, *, replays: bool = True) -> Comparison:
    """Return what changed between good runs and a bad one.

    `replays`: whether the good run's settings are tried on a replay of the bad run, where its course is one to be replayed.
    """
    runs, other = [g.run for g in good], bad.run
    compared = _compared(runs, other)
    first = next((c.outcome for c in compared if isinstance(c.outcome, Parting)), None)
    cause = next((f for f in bad.findings if f.severity != "info" or bad.verdict == "undecided"), None)
    found, varying = _differences(runs, other)
    trials = _trials(other, found, cause) if replays and first is not None and bad.verdict != "healthy" else {}
    rates_differ = any(d.key == "optimizer.lr" for d in found)
    judged = [_change(d, runs, bad, cause, first, compared, trials.get(d.key), rates_differ=rates_differ) for d in found]
    changes = tuple(sorted(judged, key=lambda c: (STATUSES.index(c.status), not c.difference.known, c.reason)))
    scripts = _scripts(good, bad)
    unit: StepUnit = other.step_unit if len({run.step_unit for run in (*runs, other)}) == 1 else "step"
    beginning = None if first is None else _beginning(runs[0], other, compared, first, unit)
    notes = tuple(_notes(good, bad, compared))
    made = Comparison(tuple(good), bad, changes, scripts, compared, beginning, cause, "", unit, varying, notes)
    return replace(made, summary=_summary(made))


# -- the curves -----------------------------------------------------------------------------------------------------------


def _compared(good: Sequence[Run], bad: Run) -> tuple[Compared, ...]:
    made = []
    for quantity, allowance in QUANTITIES.items():
        series = [run.primary.get(quantity) for run in (*good, bad)]
        held = [s for s in series if s is not None]
        if len(held) < len(series):
            continue
        tags = tuple(s.tag for s in held)
        curves, reason = _curves(held, (*good, bad))
        outcome = None if reason else parting(curves[:-1], curves[-1], allowance)
        if outcome is None and not reason:
            reason = "too few points are logged at steps that the runs have in common"
        made.append(Compared(quantity, tags, outcome, reason))
    order = list(QUANTITIES)
    return tuple(sorted(made, key=lambda c: (*_rank(c.outcome), order.index(c.quantity))))


def _rank(outcome: Parting | Together | None) -> tuple[int, int]:
    """Return what sorts quantities: those that part by their step, then those that do not, then those not compared."""
    return (0, outcome.step) if isinstance(outcome, Parting) else (2, 0) if outcome is None else (1, 0)


def _curves(series: Sequence[Series], runs: Sequence[Run]) -> tuple[list[Curve], str]:
    """Return the curves on one count of steps, or why there is none."""
    units = {run.step_unit for run in runs}
    if len(units) == 1:
        return [_curve(s) for s in series], ""
    length = _steps_of_an_epoch(runs)
    if units != {"step", "epoch"} or length is None:
        return [], f"one log counts {' and another '.join(sorted(f'{unit}s' for unit in units))}"
    curves = []
    for one, run in zip(series, runs, strict=True):
        curve = _curve(one)
        if run.step_unit == "epoch":
            ends = (curve.step - min(int(curve.step[0]), 1) + 1) * length - 1
            curve = Curve(np.asarray(np.round(ends), dtype=np.int64), curve.value)
        curves.append(curve)
    return curves, ""


def _steps_of_an_epoch(runs: Sequence[Run]) -> float | None:
    """Return the steps of an epoch: as a log or its settings tell, else of a run that is as long as it was set to be."""
    told = next((length for run in runs if (length := steps_per_epoch(run)) is not None), None)
    if told is not None:
        return told
    for run in runs:
        setting = run.settings.get("steps" if run.step_unit == "epoch" else "epochs")
        n = _last_step(run) + 1
        if setting is not None and isinstance(setting.value, int | float) and setting.value > 0 and n > 1:
            length = setting.value / n if run.step_unit == "epoch" else n / setting.value
            return float(max(1, round(length)))
    return None


def _curve(series: Series) -> Curve:
    """Return a series in the order of its steps, the last value of each."""
    order = np.argsort(series.step, kind="stable")
    step, value = series.step[order], series.value[order]
    last = np.append(step[1:] != step[:-1], True) if step.size else np.zeros(0, dtype=bool)
    return Curve(step[last], value[last])


def _beginning(good: Run, bad: Run, compared: Sequence[Compared], first: Parting, unit: StepUnit) -> Beginning:
    """Return where the difference begins: at the start, at a boundary since the curves were last together, or later."""
    if first.since is None:
        return Beginning(
            "start", f"The curves are apart from the first logged {unit}s on: look at what is there before training."
        )
    span = range(first.since + 1, first.step + 1)
    rate = next((c.outcome for c in compared if c.quantity == "learning_rate"), None)
    if isinstance(rate, Parting) and rate.step <= first.step:
        return Beginning("learning rate", f"It begins with the learning rate, which parts by {unit} {rate.step:,}.", rate.step)
    resumed = next((s for run in (bad, good) for s in run.restarts if s in span), None)
    if resumed is not None:
        return Beginning("resume", f"It begins at {unit} {resumed:,}, where a process was resumed.", resumed)
    stepped = next((s for s in _rate_steps(bad) if s in span), None)
    if stepped is not None:
        return Beginning("learning rate", f"It begins at {unit} {stepped:,}, where the learning rate is stepped.", stepped)
    length = steps_per_epoch(bad) if unit == "step" else None
    edge = round(math.ceil(span.start / length) * length) if length and len(span) < length / 2 else None
    if edge is not None and edge in span:
        return Beginning("epoch", f"It begins at {unit} {edge:,}, where an epoch ends.", edge)
    return Beginning("later", f"It begins between {unit}s {first.since:,} and {first.step:,}, at no boundary that the logs show.")


def _rate_steps(run: Run) -> list[int]:
    """Return the steps at which the logged learning rate jumps."""
    rate = run.primary.get("learning_rate")
    if rate is None or len(rate) < 3:
        return []
    curve = _curve(rate.finite())
    change = np.abs(np.diff(curve.value))
    usual = float(np.median(change)) if change.size else 0.0
    jumps = (change > RATE_STEP * np.maximum(curve.value[1:], curve.value[:-1])) & (change > RATE_STEPS * usual)
    return [int(s) for s in curve.step[1:][jumps]]


# -- what changed ---------------------------------------------------------------------------------------------------------


def _differences(good: Sequence[Run], bad: Run) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Return the settings in which the bad run differs from all good ones, and those in which the good ones differ too."""
    found: list[Difference] = []
    varying: set[str] = set()
    for known in (True, False):
        theirs = _settings(bad, known=known)
        ours = [_settings(run, known=known) for run in good]
        for d in differences(ours[0], theirs, known=known, comparable=all([theirs, *ours])):
            values = [one[d.key].value if d.key in one else None for one in ours]
            if any(not same(values[0], v) for v in values[1:]):
                varying.add(d.key)
            if d.bad is None or not any(same(v, d.bad.value) for v in values):
                found.append(d)
    if any(d.key == "optimizer.name" for d in found):  # another optimizer has other settings: they come with its name
        found = [d for d in found if not d.key.startswith("optimizer.") or (d.good is not None and d.bad is not None)]
    return tuple(found), tuple(sorted(varying))


def _settings(run: Run, *, known: bool) -> Mapping[str, Setting]:
    return known_settings(run) if known else other_settings(locate(run.root), run.config_files)


def _scripts(good: Sequence[RunReport], bad: RunReport) -> tuple[ScriptChange, ...]:
    """Return the scripts that differ, by their names; the only one of each is compared whatever it is called.

    Where one of the runs has none at all, nothing is known of what it ran.
    """
    ours, theirs = ({_name(f): f for f in report.run.code_files} for report in (good[0], bad))
    pairs = [(ours.get(name, ""), theirs.get(name, "")) for name in sorted(ours.keys() | theirs.keys())]
    if len(ours) == len(theirs) == 1:
        pairs = [(good[0].run.code_files[0], bad.run.code_files[0])]
    made = []
    for a, b in pairs if ours and theirs else []:
        lines = _changed_lines(good[0].run, a, bad.run, b) if a and b else ()
        if lines is not None and (lines or not (a and b)):
            code, places = _told_by(b, good, bad)
            made.append(ScriptChange(a, b, lines, code, places))
    return tuple(made)


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def _changed_lines(good: Run, a: str, bad: Run, b: str) -> tuple[Line, ...] | None:
    """Return the lines that stand in one of two scripts alone, blank ones and comments left out; None when one is not read."""
    import difflib

    try:
        ours, theirs = (read_source(locate(run.root) / file).splitlines() for run, file in ((good, a), (bad, b)))
    except TraindoctorError:
        return None
    if ours == theirs or max(len(ours), len(theirs)) > MOST_LINES:
        return () if ours == theirs else None
    made: list[Line] = []
    matcher = difflib.SequenceMatcher(None, [x.rstrip() for x in ours], [x.rstrip() for x in theirs], autojunk=True)
    for kind, i, j, k, n in matcher.get_opcodes():
        if kind != "equal":
            made += [Line(False, at + 1, ours[at]) for at in range(i, j)]
            made += [Line(True, at + 1, theirs[at]) for at in range(k, n)]
    return tuple(line for line in made if line.text.strip() and not line.text.lstrip().startswith("#"))


def _told_by(file: str, good: Sequence[RunReport], bad: RunReport) -> tuple[str, tuple[int, ...]]:
    """Return the first cause that a script proves in the bad run and no good run has, and the lines of its evidence."""
    sound = {f.code for report in good for f in report.findings}
    for finding in bad.findings:
        shown = [e.location for e in finding.evidence if e.supports and e.kind == "code" and e.location is not None]
        lines = tuple(place.line for place in shown if place.file == file)
        if lines and finding.code not in sound:
            return finding.code, lines
    return "", ()


# -- which change explains it ---------------------------------------------------------------------------------------------


def _trials(bad: Run, found: Sequence[Difference], cause: Finding | None) -> Mapping[str, TrialVerdict]:
    """Return what the replay of the bad run says of each setting of the good run, on its own; {} where it does not reproduce."""
    from traindoctor.replay.candidates import SIMULATED
    from traindoctor.replay.engine import replay_run
    from traindoctor.signals.measurements import Measurements

    changes = {d.key: _tried_value(d) for d in found if d.key in SIMULATED}
    wanted = {key: {key: value} for key, value in changes.items() if value is not None}
    m = Measurements(bad)
    if not wanted or not m.has("loss") or bad.optimizer is None:
        return {}
    replay = replay_run(m, changes=list(wanted.values()), auto=False, cause=cause.code if cause is not None else "")
    if not replay.reproduces:
        return {}
    told = {tuple(trial.settings): trial.verdict for trial in replay.trials if trial.settings}
    return {key: told[key,] for key in wanted if told.get((key,), "not tried") != "not tried"}


def _tried_value(difference: Difference) -> object | None:
    """Return the value of the good run to try: no schedule is a constant rate, what else is not set cannot be tried."""
    if difference.good is not None:
        return difference.good.value
    return "constant" if difference.key == "schedule.name" else None


def _change(
    d: Difference,
    good: Sequence[Run],
    bad: RunReport,
    cause: Finding | None,
    first: Parting | None,
    compared: Sequence[Compared],
    trial: TrialVerdict | None,
    *,
    rates_differ: bool,
) -> Change:
    """Return what a setting that differs has to do with the bad run; `rates_differ`: whether the configured rates do."""
    excluded = _excluded(d, good, bad.run, first, compared)
    if excluded:
        return Change(d, "excluded", excluded, trial=trial)
    if first is None and any(c.outcome is not None for c in compared):
        return Change(d, "excluded", "the curves do not part: it made no difference that the logs show")
    if trial == "repairs":
        reason = "tried alone on a replay of the bad run, the good run's value repairs it"
        return Change(d, "explains", reason, cause.code if cause is not None else "", trial)
    standing = bad.findings if bad.verdict == "undecided" else [cause] if cause is not None else []
    for finding in standing:
        reason = _pointed_at(d, finding)
        if reason:
            doubt = "; the replay does not confirm it" if trial in ("no effect", "worse", "postpones") else ""
            return Change(d, "explains", reason + doubt, finding.code, trial)
    undecided = cause is None or bad.verdict == "undecided"
    if _makes_the_rate(d) and (undecided or (cause is not None and cause.code.startswith(ACTS_ON["optimizer.lr"]))):
        rate = next((c.outcome for c in compared if c.quantity == "learning_rate"), None)
        from_the_start = isinstance(rate, Parting) and rate.since is None
        if rate is first and (d.key == "optimizer.lr" or not (from_the_start and rates_differ)):
            return Change(d, "explains", "the learning rate is what parts first, and this sets it", trial=trial)
    if trial in ("no effect", "worse"):
        return Change(d, "possible", "tried alone on a replay of the bad run, the good run's value does not repair it", "", trial)
    able = cause is not None and d.known and cause.code.startswith(_can_bring_about(d.key))
    return Change(d, "possible", _cannot_tell(d, cause, good), cause.code if cause is not None and able else "", trial)


def _makes_the_rate(d: Difference) -> bool:
    """Return whether a setting acts through the learning rate and nothing else."""
    return d.key == "optimizer.lr" or d.key.startswith("schedule.")


def _pointed_at(d: Difference, finding: Finding) -> str:
    """Return why a finding points at a setting, "" when it does not: a fix sets it back, or its evidence stands there."""
    name = finding.name.replace("-", " ")
    for fix in finding.fixes:
        value = _value_of(fix.settings, d.key)
        if value is not None and _goes_back(d, value):
            return f"{finding.code} ({name}) is repaired by a change of it towards the good run's value"
    origin = d.bad.origin.partition(" (")[0] if d.bad is not None else ""
    for evidence in finding.evidence:
        place = evidence.location
        at = f"{place.file}:{place.line}" if place is not None else evidence.source
        if evidence.supports and evidence.kind in ("config", "code") and origin and at == origin:
            return f"the evidence on {finding.code} ({name}) stands at {origin}"
    return ""


def _value_of(settings: Mapping[str, object], key: str) -> object | None:
    pair = settings.get("optimizer.betas")
    if key in ("optimizer.beta1", "optimizer.beta2") and isinstance(pair, list | tuple) and len(pair) == 2:
        return settings.get(key, pair[key == "optimizer.beta2"])
    return settings.get(key)


def _goes_back(d: Difference, value: object) -> bool:
    """Return whether a fix moves a setting from the bad run's value towards the good run's."""
    ours, theirs = (s.value if s is not None else None for s in (d.good, d.bad))
    if isinstance(value, int | float) and isinstance(ours, int | float) and isinstance(theirs, int | float):
        return (float(value) - float(theirs)) * (float(ours) - float(theirs)) > 0.0
    return d.bad is None or theirs is None or ours is None or same(value, ours)


def _can_bring_about(key: str) -> tuple[str, ...]:
    """Return the beginnings of the codes that a setting can bring about, () for one of which nothing is known."""
    return next((codes for prefix, codes in ACTS_ON.items() if key.startswith(prefix)), ())


def _cannot_tell(d: Difference, cause: Finding | None, good: Sequence[Run]) -> str:
    n_seeds = len({str(run.settings["seed"].value) for run in good if "seed" in run.settings})
    if d.key == "seed" and n_seeds > 1:
        return f"good runs with {n_seeds} other seeds are alike: that a seed alone does it is unlikely"
    if d.key == "seed":
        return "a seed can make a run fail that is near its limit; more good runs with other seeds would tell"
    if cause is None:
        return "the bad run's log names no cause that would point at it"
    name = f"{cause.code} ({cause.name.replace('-', ' ')})"
    codes = _can_bring_about(d.key)
    if not codes:
        return f"nothing in the diagnosis speaks of it; whether it brings about {name} the logs do not tell"
    if cause.code.startswith(codes):
        return f"it can bring about {name}, and nothing shows that it did"
    return f"it is not known to bring about {name}"


def _excluded(d: Difference, good: Sequence[Run], bad: Run, first: Parting | None, compared: Sequence[Compared]) -> str:
    """Return why a setting cannot have made the curves part, "" when it can."""
    if not d.known and is_kept_or_shown(d.key):
        return "it says where the run is kept or how it is shown, not how it is trained"
    if first is None:
        return ""
    rate = next((c.outcome for c in compared if c.quantity == "learning_rate"), None)
    scheduled = any(key.startswith("schedule.") for run in (*good, bad) for key in run.settings)
    if d.key in ("epochs", "steps") and (d.good is None or d.bad is None):
        length = _steps_of_an_epoch([good[0], bad]) or math.inf
        ends = [(_last_step(run) + 1) * (length if run.step_unit == "epoch" else 1.0) for run in (good[0], bad)]
        if max(ends) <= SAME_LENGTH * min(ends):
            return "one says it in epochs and the other in steps, and the logs are equally long"
    if d.key in ("epochs", "steps") and not scheduled and rate is None:
        return "how long a run is meant to be changes nothing before its end where no schedule counts on it"
    if _makes_the_rate(d) or d.key in ("epochs", "steps"):
        if isinstance(rate, Together) and rate.stop >= first.step:
            return f"it acts through the learning rate, and that is the same in the logs up to step {rate.stop:,}"
        if isinstance(rate, Parting) and rate.step > first.step:
            return f"it acts through the learning rate, which parts at step {rate.step:,}, after the curves do"
    if d.key == "gradient.clip_norm":
        return _never_clipped(d, good, bad, first)
    if d.key == "optimizer.weight_decay":
        return _hardly_decayed(d, bad, first)
    return ""


def _never_clipped(d: Difference, good: Sequence[Run], bad: Run, first: Parting) -> str:
    """Return that no gradient norm came near a clip before the curves parted, "" when one did or it is not known."""
    bounds = [s.value for s in (d.good, d.bad) if s is not None and isinstance(s.value, int | float) and s.value > 0]
    norms = [run.primary.get("grad_norm") for run in (*good, bad)]
    if not bounds or any(n is None for n in norms):
        return ""
    curves = [_curve(n.finite()) for n in norms if n is not None]
    before = [c.value[c.step <= first.step] for c in curves]
    highest = max((float(v.max()) for v in before if v.size), default=math.inf)
    lowest = float(min(bounds))
    return f"no logged gradient norm came near it by then: at most {highest:.3g}" if highest < 0.9 * lowest else ""


def _hardly_decayed(d: Difference, bad: Run, first: Parting) -> str:
    """Return that a decoupled weight decay had taken next to nothing of the weights by then, "" when it may have."""
    lr = bad.optimizer.lr if bad.optimizer is not None else None
    values = [s.value for s in (d.good, d.bad) if s is not None and isinstance(s.value, int | float)]
    if bad.optimizer is None or bad.optimizer.name != "adamw" or lr is None or bad.step_unit != "step" or not values:
        return ""
    share = lr * max(abs(float(v)) for v in values) * (first.step + 1)
    return f"by then it had taken at most {share:.2g} of the weights' size" if share < DECAYED else ""


# -- in words -------------------------------------------------------------------------------------------------------------


def _notes(good: Sequence[RunReport], bad: RunReport, compared: Sequence[Compared]) -> Iterable[str]:
    """Yield what the reader should know before trusting the comparison."""
    for one in good:
        if one.verdict in ("failed", "suspicious"):
            swapped = " Are the two swapped?" if bad.verdict == "healthy" and len(good) == 1 else ""
            yield f"{one.run.name} was given as good, and is {one.verdict} itself: {one.summary}{swapped}"
    if bad.verdict == "healthy":
        yield f"{bad.run.name} was given as bad, and no fault is found in it by itself."
    for report in (*good, bad):
        if not report.run.config_files and not report.run.settings:
            yield f"{report.run.name} has no config beside its log: its settings are not known, and none could be compared."
    bare = [r.run.name for r in (good[0], bad) if not r.run.code_files]
    if len(bare) == 1:
        yield f"No script lies beside {bare[0]}: what it ran is not known."
    runs = [r.run for r in (*good, bad)]
    batches = [s.value for run in runs if (s := run.settings.get("batch_size")) is not None and is_number(s.value)]
    if len(set(batches)) > 1:
        yield "The batch sizes differ: curves are compared at equal steps, which are not equal numbers of samples."
    spans = [(run.settings["steps"].value, _last_step(run)) for run in runs if "steps" in run.settings]
    if len({steps for steps, _ in spans}) == 1 and len(spans) == len(runs) and min(last for _, last in spans) > 0:
        lasts = [last for _, last in spans]
        if max(lasts) > SHORT * min(lasts):
            yield (
                f"Both are set to {spans[0][0]} steps, and one log ends at {min(lasts):,}, another at {max(lasts):,}: if one "
                "counts epochs, the curves are not compared at equal steps."
            )
    ends = sorted({_last_step(run) for run in runs})
    if (
        ends[-1] > SAME_LENGTH * ends[0]
        and any(c.outcome is not None for c in compared)
        and len({run.step_unit for run in runs}) == 1
    ):
        told = _and([f"{end:,}" for end in ends])
        yield f"The logs end at {runs[0].step_unit}s {told}: what is beyond the shorter is not compared."


def _last_step(run: Run) -> int:
    series = run.primary.get("loss") or next((s for s in run.series if len(s)), None)
    return int(series.step.max()) if series is not None and len(series) else 0


def _summary(c: Comparison) -> str:
    """Return the comparison in two or three sentences."""
    changes = [x for x in c.changes if x.difference.known or not is_kept_or_shown(x.difference.key)]
    open_ = [x for x in changes if x.status == "possible"]
    named = [x for x in changes if x.status == "explains"]
    scripted = [s for s in c.scripts if s.code]
    if c.is_comparable and not c.differs:
        told = (
            f" The runs differ in {_settings_named(changes)}." if changes else " No setting differs either." if _known(c) else ""
        )
        return f"No difference beyond noise.{told}"
    lead = _lead(c) if c.differs else "No quantity could be compared: none is logged in both runs at steps in common."
    decided = c.cause is not None and (c.bad.verdict != "undecided" or any(x.code == c.cause.code for x in named))
    effect = f"{c.cause.code} {c.cause.name.replace('-', ' ')}" if c.cause is not None and decided else "the difference"
    if not changes and not c.scripts:
        why = "No setting differs" if _known(c) else "No settings could be compared"
        return f"{lead} {why}: what changed is not in the configs and scripts (data, code, seed, hardware)."
    head = f"The runs differ in {_settings_named(changes)}" if changes else "The settings are the same"
    if c.scripts:
        head += " and in their script" if len(c.scripts) == 1 else " and in their scripts"
    explaining = [x.difference.key for x in named] + [f"the change of {s.bad}" for s in scripted]
    if explaining:
        only = "only " if len(explaining) == 1 and len(changes) + len(c.scripts) > 1 else ""
        verb = "explains" if len(explaining) == 1 else "can each explain"
        tail = f"{only}{_and(explaining)} {verb} {effect}"
    else:
        tail = f"none of the changes is shown to explain {effect}"
        able = [x.difference.key for x in open_ if x.code]
        if len(open_) == 1 and not c.scripts:
            tail += f", and {open_[0].difference.key} is the only one that is left"
        elif able and decided:
            tail += f"; {_and(able)} can bring it about"
    left = [x.difference.key for x in open_] + [f"the changes of {s.bad or s.good}" for s in c.scripts if not s.code]
    unsure = (
        f"; {_and(left[:4] + ([f'{len(left) - 4} more'] if len(left) > 4 else []))} cannot be excluded"
        if left and explaining
        else ""
    )
    return f"{lead} {head}; {tail}{unsure}."


def _lead(c: Comparison) -> str:
    """Return where the curves part, and which of them first."""
    first = c.parted[0]
    assert isinstance(first.outcome, Parting)
    ties = [x.quantity for x in c.parted[1:] if isinstance(x.outcome, Parting) and x.outcome.step == first.outcome.step]
    together = f" together with {_and([_spoken(q) for q in ties])}" if ties else ""
    where = "from the start" if first.outcome.since is None else f"by {c.unit} {first.outcome.step:,}"
    lead = f"The curves part {where}, {_spoken(first.quantity)} first{together}"
    loss = next((x.outcome for x in c.parted if x.quantity == "loss"), None)
    if isinstance(loss, Parting) and loss.step > first.outcome.step:
        return f"{lead}, the loss by {c.unit} {loss.step:,}."
    return f"{lead}."


def _known(c: Comparison) -> bool:
    return all(r.run.settings or r.run.config_files for r in (*c.good, c.bad))


def _settings_named(changes: Sequence[Change]) -> str:
    keys = [c.difference.key for c in changes]
    if len(keys) > 4:
        return f"{len(keys)} settings"
    return f"{len(keys)} setting{'s' if len(keys) > 1 else ''} ({', '.join(keys)})"


def _spoken(quantity: str) -> str:
    return {"val_loss": "validation loss", "val_accuracy": "validation accuracy", "grad_norm": "gradient norm"}.get(
        quantity, quantity.replace("_", " ")
    )


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
