"""A report as the words and numbers that are shown: what the page and the terminal share, and what a test reads.

Strings from logs are made visible here (`wording.clean`) and escaped where they are printed.
"""

from __future__ import annotations

import math
import posixpath
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import (
    VERDICTS,
    Across,
    Damage,
    Evidence,
    Finding,
    Fix,
    Replay,
    Report,
    Run,
    RunReport,
    Series,
    Trial,
    Whole,
)
from traindoctor.report import wording as w
from traindoctor.report.fingerprint import fingerprint
from traindoctor.signals.thinning import whole_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TONES = {"failed": "fault", "suspicious": "fault", "undecided": "ink", "healthy": "fix"}
TRIAL_TONES = {"repairs": "fix", "worse": "fault"}
DEPTHS = {
    "open": "an open-loop replay over the recorded gradients",
    "closed": "a closed-loop replay fitted to the log",
    "exact": "an exact replay, the script trained again",
}
#: Names of quantities as the page writes them; any other is written as it is.
QUANTITIES = {
    "loss": "Loss",
    "val_loss": "Validation loss",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
    "weight_norm": "Weight norm",
    "update_norm": "Update norm",
    "accuracy": "Accuracy",
    "val_accuracy": "Validation accuracy",
}
#: A confidence below it is printed as "< 0.01".
EXCLUDED = 0.01
VALIDATION = ("val_loss", "validation_loss", "eval_loss")


@dataclass(frozen=True, slots=True)
class Piece:
    """Words with a tone: "fault", "fix" or "" for none."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """One piece of evidence: its number, the unit, what it says, and where it is from."""

    value: str
    unit: str
    text: str
    source: str
    unit_first: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True)
class SettingView:
    """One setting: the value, where it comes from, and what the first fix would make of it ("" when it stays)."""

    key: str
    value: str
    origin: str
    becomes: str = ""


@dataclass(frozen=True, slots=True)
class FixView:
    """One change: what to do, the patch or the settings, what the replay said in words, and the price."""

    title: str
    patch: str
    settings: tuple[SettingView, ...]
    said: tuple[Piece, ...]
    word: str
    note: str


@dataclass(frozen=True, slots=True)
class RivalView:
    """Another cause: its name, how likely, why not, and the experiment."""

    code: str
    name: str
    confidence: str
    why_not: str
    experiment: str


@dataclass(frozen=True, slots=True)
class FindingView:
    """One finding in four parts: what happened, why we think so, what to change, how sure.

    `anchor`: what a link to it ends in.
    """

    anchor: str
    code: str
    name: str
    severity: str
    confidence: str
    word: str
    lead: str
    rest: str
    message: str
    where: str
    supports: tuple[EvidenceView, ...]
    against: tuple[EvidenceView, ...]
    fixes: tuple[FixView, ...]
    rivals: tuple[RivalView, ...]
    consequences: tuple[str, ...]
    places: tuple[str, ...]
    refutation: str


@dataclass(frozen=True, slots=True)
class TrialView:
    """One rung of the ladder."""

    title: str
    verdict: str
    tone: str
    tail: str
    against: str
    price: str
    note: str
    is_first_fix: bool
    is_recorded: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """One of the four facts under the verdict."""

    term: str
    text: str
    note: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class TagView:
    """One tag of the log: the role it took ("" for none), and what it holds."""

    tag: str
    role: str
    status: str
    points: str
    extent: str
    bad: str
    source: str


@dataclass(frozen=True, slots=True)
class NumbersView:
    """The numbers behind one curve."""

    name: str
    first: str
    low: str
    middle: str
    high: str
    last: str
    points: str
    bad: str
    first_bad: str
    source: str


@dataclass(frozen=True, slots=True)
class Group:
    """Causes that were not checked for one reason."""

    reason: str
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunView:
    """Everything that is said of one run, in words."""

    name: str
    path: str
    verdict: str
    word: str
    tone: str
    extent: str
    inputs: str
    lead: str
    rest: str
    summary: str
    facts: tuple[Fact, ...]
    findings: tuple[FindingView, ...]
    next_steps: tuple[str, ...]
    gaps: tuple[str, ...]
    replay: str
    precision: str
    ladder: tuple[TrialView, ...]
    silent: tuple[str, ...]
    not_checked: tuple[Group, ...]
    damages: tuple[tuple[str, str, str], ...]
    doubts: tuple[tuple[str, str, str], ...]
    stitches: tuple[tuple[str, str, str], ...]
    tags: tuple[TagView, ...]
    settings: tuple[SettingView, ...]
    numbers: tuple[NumbersView, ...]
    files: tuple[tuple[str, str], ...]
    unit: str
    ran_code: bool

    @property
    def diagnosis(self) -> FindingView | None:
        """The finding the verdict is about; None for a healthy run, whose findings are remarks."""
        return self.findings[0] if self.findings and self.verdict != "healthy" else None

    @property
    def others(self) -> tuple[FindingView, ...]:
        """The findings besides the diagnosis."""
        return self.findings if self.diagnosis is None else self.findings[1:]

    @property
    def mapped(self) -> tuple[TagView, ...]:
        """The tags that took a role."""
        return tuple(t for t in self.tags if t.status == "used")

    @property
    def unmapped(self) -> tuple[TagView, ...]:
        """The tags without one."""
        return tuple(t for t in self.tags if not t.role)


def view_of(report: Report) -> tuple[RunView, ...]:
    """Return the runs of a report in words, in the order of `in_order`."""
    return tuple(view_run(r, report.names) for r in in_order(report))


def view_across(across: Across | None) -> Across | None:
    """Return what several runs say together with its sentences made harmless to look at; None for a single run."""
    if across is None:
        return None
    causes = tuple(replace(cause, text=w.sentence(cause.text)) for cause in across.causes)
    return replace(across, text=w.sentence(across.text), causes=causes)


def in_order(report: Report) -> tuple[RunReport, ...]:
    """Return the runs with the worst first: by verdict, then the surest finding, then by name."""
    return tuple(
        sorted(
            report.runs,
            key=lambda r: (
                VERDICTS.index(r.verdict),
                -(r.findings[0].confidence if r.findings else 0.0),
                r.run.name,
                r.run.path,
            ),
        )
    )


def diagnosis_first(report: RunReport) -> RunReport:
    """Return the report with the finding that the verdict is about in front: the one whose title is the summary."""
    first = next((f for f in report.findings if f.title == report.summary), None)
    if first is None or first is report.findings[0]:
        return report
    return replace(report, findings=(first, *(f for f in report.findings if f is not first)))


def view_run(report: RunReport, names: Mapping[str, str] | None = None) -> RunView:
    """Return what is said of one run, in words."""
    report = diagnosis_first(report)
    run, names = report.run, names or {}
    findings = _told_apart([view_finding(f, report, names) for f in report.findings])
    sentence = report.summary
    if report.findings and (not sentence or report.verdict in ("failed", "suspicious")):
        sentence = report.findings[0].title
    sentence = sentence or _plain_verdict(report)
    lead, rest = split_sentence(w.sentence(sentence, 600))
    folded = {f.code for f in report.findings} | {c for f in report.findings for c in f.consequences}
    silent = tuple(_cause(c, names) for c in report.checked if c not in folded)
    not_checked = _groups(report, names)
    path = w.clean(w.relative(run.path, run.root))
    summary = w.sentence(report.summary, 1000)
    files = tuple((w.clean(w.relative(file, run.root)), kind) for file, kind in files_of(run))
    return RunView(
        name=w.clean(run.name) or "unnamed run",
        path=path,
        verdict=report.verdict,
        word=report.verdict.capitalize(),
        tone=TONES[report.verdict],
        extent=extent(run),
        inputs=_inputs([file for file, _ in files]),
        lead=lead,
        rest=rest,
        summary="" if summary == w.sentence(sentence, 1000) else summary,
        facts=_facts(report, findings, len(silent), not_checked),
        findings=findings,
        next_steps=next_steps(report),
        gaps=tuple(w.sentence(g, 500) for g in report.gaps),
        replay=_replay_words(report.replay),
        precision=_precision(report.replay),
        ladder=_ladder(report),
        silent=silent,
        not_checked=not_checked,
        damages=tuple(_damage(d, run) for d in run.damages),
        doubts=tuple(_damage(d, run) for d in run.damages if d.family != "noted"),
        stitches=tuple((w.clean(s.kind), w.clean(w.relative(s.file, run.root)), w.sentence(s.detail, 500)) for s in run.stitches),
        tags=tuple(_tag(s, run) for s in run.series),
        settings=_settings(report),
        numbers=_numbers(report),
        files=files,
        unit=run.step_unit,
        ran_code=report.replay is not None and report.replay.depth == "exact",
    )


def _told_apart(findings: Sequence[FindingView]) -> tuple[FindingView, ...]:
    """Return the findings with anchors that differ, where two of one cause are in one file."""
    seen: Counter[str] = Counter()
    made = []
    for finding in findings:
        seen[finding.anchor] += 1
        n = seen[finding.anchor]
        made.append(replace(finding, anchor=f"{finding.anchor}-{n}") if n > 1 else finding)
    return tuple(made)


def _inputs(files: Sequence[str]) -> str:
    """Return the first files of a run in one line, without the folder that all of them lie in."""
    folder = posixpath.commonpath([posixpath.dirname(file) for file in files]) if files else ""
    shown = [file.removeprefix(f"{folder}/") for file in files[:4]]
    return ", ".join(shown) + (" …" if len(files) > 4 else "")


def split_sentence(sentence: str) -> tuple[str, str]:
    """Return a sentence up to and with its first colon, and the rest; without a colon all of it is the rest."""
    head, colon, tail = sentence.partition(": ")
    return (head + ":", tail) if colon else ("", sentence)


def _plain_verdict(report: RunReport) -> str:
    if report.verdict == "healthy":
        return "No fault found: every cause that could be checked is silent."
    return f"The run is {report.verdict}."


def _cause(code: str, names: Mapping[str, str]) -> str:
    name = names.get(code, "")
    return f"{w.clean(code)} {w.clean(name)}".strip()


def _damage(damage: Damage, run: Run) -> tuple[str, str, str]:
    place = _at(w.clean(w.relative(damage.file, run.root)), damage.offset)
    return w.clean(damage.kind), place, w.sentence(damage.detail, 500)


def _at(file: str, offset: int | None) -> str:
    return file if offset is None else f"{file}, byte {w.count(offset)}"


def onset_of(report: RunReport) -> int | None:
    """Return the step at which the first finding that has one begins."""
    for finding in report.findings:
        if finding.segment is not None:
            return finding.segment.start if finding.segment.onset is None else finding.segment.onset
    return None


def extent(run: Run) -> str:
    """Return how long the run is and how densely it was logged: "6,000 steps, every step logged"."""
    series = run.primary.get("loss") or next((s for s in run.series if len(s) or s.whole is not None), None)
    whole = None if series is None else whole_of(series)
    if whole is None or whole.first_step is None or whole.last_step is None:
        return "nothing was logged"
    length = w.plural(whole.last_step - whole.first_step + whole.stride, run.step_unit)
    every = f"every {run.step_unit} logged" if whole.stride == 1 else f"one in {w.count(whole.stride)} logged"
    return f"{length}, {every}"


def files_of(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the files of a run, each with what it was read as: the name of its format, "settings" or "script"."""
    logs = [(file, w.clean(run.formats.get(file, "log"))) for file in run.files]
    beside = [(file, "settings") for file in run.config_files] + [(file, "script") for file in run.code_files]
    beside += [(file, "checkpoint") for file in run.checkpoint_files]
    return tuple(dict(logs + beside).items())


# -- findings -----------------------------------------------------------------------------------------------------------


def anchor_of(run: Run, finding: Finding) -> str:
    """Return what a link to the first finding of its cause and file ends in: its fingerprint."""
    return w.clean(fingerprint(run, finding)).replace(" ", "-")


def view_finding(finding: Finding, report: RunReport, names: Mapping[str, str]) -> FindingView:
    """Return one finding in words."""
    lead, rest = split_sentence(w.sentence(finding.title, 600))
    unit = report.run.step_unit
    where = ""
    if finding.segment is not None:
        where = f"{unit}s {w.count(finding.segment.start)} to {w.count(finding.segment.stop)}"
        if finding.segment.onset is not None:
            where += f", onset at {w.count(finding.segment.onset)}"
    ranked = sorted(finding.evidence, key=lambda e: -e.weight)
    return FindingView(
        anchor=anchor_of(report.run, finding),
        code=w.clean(finding.code),
        name=w.clean(finding.name),
        severity=finding.severity,
        confidence=w.confidence(finding.confidence),
        word=w.likelihood(finding.confidence),
        lead=lead,
        rest=rest,
        message=w.sentence(finding.message, 2000),
        where=where,
        supports=tuple(_evidence(e, report.run.root) for e in ranked if e.supports),
        against=tuple(_evidence(e, report.run.root) for e in ranked if not e.supports),
        fixes=tuple(_fix(f, report) for f in finding.fixes),
        rivals=tuple(
            RivalView(
                w.clean(r.code),
                w.clean(r.name).replace("-", " ").capitalize(),
                w.confidence(r.confidence),
                w.sentence(r.why_not, 600),
                w.sentence(r.separating_experiment, 600),
            )
            for r in finding.rivals
        ),
        consequences=tuple(_cause(c, names) for c in finding.consequences),
        places=tuple(f"{w.clean(w.relative(p.file, report.run.root))}:{p.line}" for p in finding.locations),
        refutation=w.sentence(finding.refutation, 1000),
    )


def _evidence(evidence: Evidence, root: str) -> EvidenceView:
    value, unit, first = "", "" if evidence.unit == "1" else w.clean(evidence.unit, 40), False
    if isinstance(evidence.value, str):
        value = w.clean(evidence.value, 60)
    elif evidence.value is not None:
        number = float(evidence.value)
        if unit in ("step", "epoch", "row") and number.is_integer():
            value, first = w.count(int(number)), True
        elif unit in ("steps", "epochs", "rows", "values", "points") and number.is_integer():
            value = w.count(int(number))
        elif unit == "decades":
            value = w.signed(number)
        else:
            value = w.number(number)
    place = evidence.location
    where = f"{w.relative(place.file, root)}:{place.line}" if place else ""
    source = w.clean(evidence.source or where or evidence.name.replace("_", " "))
    if where and where not in source:
        source = f"{source}, {w.clean(where)}"
    kind = {"config": "settings", "state": "checkpoint"}.get(evidence.kind, evidence.kind)
    if kind not in ("log", "code") and not source.startswith(kind):
        source = f"{kind}: {source}"
    return EvidenceView(value, unit, w.sentence(evidence.text, 1000), source, first, kind)


def _fix(fix: Fix, report: RunReport) -> FixView:
    patch = _patch(fix.patch or "")
    caveat = "" if patch == _ended(fix.patch or "") else "Characters that cannot be seen are written out in the patch shown here."
    if "\r\n" in patch:
        caveat = "The file has the line ends of Windows: a patch copied by hand needs `git apply --ignore-whitespace`."
    settings = tuple(_change(key, new, report.run) for key, new in fix.settings.items())
    replay = fix.replay
    price = _price(fix, report.replay)
    parts = (price, replay.note if replay.verdict != "not tried" else "", fix.note, caveat)
    note = " ".join(w.clean(part, 1000) for part in dict.fromkeys(parts) if part)  # two may be one
    return FixView(w.sentence(fix.title, 300), patch, settings, _said(fix, report), replay.verdict, note)


def _patch(patch: str) -> str:
    """Return a patch harmless to look at, with the ends of its lines as they are: that of a file from Windows applies too."""
    made = []
    for line in patch.split("\n"):
        bare = line.removesuffix("\r")
        made.append(w.clean_block(bare) + line[len(bare) :])
    return _ended("\n".join(made))


def _ended(patch: str) -> str:
    return patch if not patch or patch.endswith("\n") else patch + "\n"


def _change(key: str, new: object, run: Run) -> SettingView:
    old = run.settings.get(key)
    value, origin = ("", "") if old is None else (w.setting(old.value), w.clean(old.origin))
    if old is None and run.optimizer is not None and key.startswith("optimizer."):
        field = key.removeprefix("optimizer.")
        known = getattr(run.optimizer, field, None) if field in run.optimizer.__slots__ else None
        if known is not None and field != "origin":
            value, origin = w.setting(known), w.clean(run.optimizer.origin.get(field, ""))
    return SettingView(w.clean(key), value, origin, w.setting(new))


def _said(fix: Fix, report: RunReport) -> tuple[Piece, ...]:
    """Return what the replay said of a fix: with and without it, in one or two sentences."""
    replay = fix.replay
    if replay.depth == "none" or replay.verdict == "not tried":
        refused = report.replay.refusal if report.replay is not None and not report.replay.reproduces else ""
        why = w.stopped(w.sentence(replay.note or refused, 600))
        return (Piece("Not tried", "ink"), Piece(": " + why[0].lower() + why[1:] if why else ": no replay was made of it."))
    how = f"Tried on {DEPTHS[replay.depth]}: "
    before, after = replay.before.get("tail_loss_max"), replay.after.get("tail_loss_max")
    if before is None or after is None:
        words = {
            "repairs": "it repairs the run.",
            "postpones": "it only postpones the failure.",
            "no effect": "it has no effect.",
            "worse": "it makes the run worse.",
            "not tried": "",
        }[replay.verdict]
        pieces = [Piece(how + words)]
        for name in sorted(set(replay.before) & set(replay.after)):
            shown = w.clean(name.replace("_", " "))
            pieces.append(Piece(f" {shown}: {w.number(replay.before[name])} without, {w.number(replay.after[name])} with."))
        return tuple(pieces)
    without, with_fix = w.number(before), w.at_most(after)
    if replay.verdict == "repairs":
        return (
            Piece(how + "the loss stays below "),
            Piece(with_fix, "fix"),
            Piece(" in the last sixth of the run. Without the fix it reaches "),
            Piece(without, "fault"),
            Piece("."),
        )
    other = {"postpones": "the failure comes later", "no effect": "it does not help", "worse": "it makes the run worse"}
    return (
        Piece(how + other[replay.verdict] + ". The loss reaches "),
        Piece(w.number(after), "fault"),
        Piece(" in the last sixth of the run, against "),
        Piece(without, "fault"),
        Piece(" without it."),
    )


def _price(fix: Fix, replay: Replay | None) -> str:
    trial = trial_of(fix, replay)
    if trial is None or trial.slower is None or not math.isfinite(trial.slower) or fix.replay.verdict != "repairs":
        return ""
    if trial.slower < 1.05:
        steps = "no later" if trial.slower <= 1.0 else f"in {trial.slower:.2f} times the steps"
        return f"It costs no speed: the best loss of the run is reached {steps}."
    return f"Price: the best loss of the run is reached after {w.number(trial.slower)} times the steps."


def trial_of(fix: Fix, replay: Replay | None) -> Trial | None:
    """Return the trial of a fix: the one with its settings."""
    if replay is None or not fix.settings:
        return None
    return next((t for t in replay.trials if dict(t.settings) == dict(fix.settings)), None)


def next_steps(report: RunReport) -> tuple[str, ...]:
    """Return the cheapest experiments that would decide, where the run is not decided: of the likeliest rivals first.

    A rival that is all but excluded asks for none, unless all are.
    """
    if report.verdict != "undecided":
        return ()
    rivals = [rival for f in report.findings for rival in f.rivals if rival.separating_experiment]
    left = [rival for rival in rivals if rival.confidence >= EXCLUDED] or rivals
    experiments = [rival.separating_experiment for rival in sorted(left, key=lambda rival: -rival.confidence)]
    return tuple(w.begun(w.sentence(s, 600)) for s in dict.fromkeys(experiments))[:4]


# -- facts, replay, record ------------------------------------------------------------------------------------------------


def _facts(report: RunReport, findings: Sequence[FindingView], n_silent: int, lacking: Sequence[Group]) -> tuple[Fact, ...]:
    by = {s: sum(f.severity == s for f in findings) for s in ("error", "warning", "info")}
    found = f"{w.plural(by['error'], 'error')}, {w.plural(by['warning'], 'warning')}"
    if by["info"]:
        found += f", {w.plural(by['info'], 'remark')}"
    coverage = f"{w.plural(n_silent, 'cause')} silent, {w.count(len(report.not_checked))} not checked"
    reason = f"{w.count(len(lacking[0].causes))} of them: {lacking[0].reason}" if lacking else ""
    sure = Fact("Confidence", "nothing to be sure of")
    others = findings
    if report.verdict == "healthy":
        sure = Fact("Verdict", "no fault found")
    elif findings:
        sure = Fact("Confidence", f"{findings[0].confidence}, {findings[0].word}", target=findings[0].anchor)
        others = findings[1:]
    listed = Fact("Findings", found, target=others[0].anchor if others else "")
    return (sure, _reproduced(report), listed, Fact("Checked", coverage, reason, target="record"))


def _reproduced(report: RunReport) -> Fact:
    replay = report.replay
    if replay is None:
        return Fact("Reproduced", "no replay was made")
    if not math.isfinite(replay.error):
        return Fact("Reproduced", "no", w.sentence(replay.refusal, 300))
    figures = f"error {w.number(replay.error)} decades, bound {w.number(replay.bound)}"
    if replay.reproduces:
        return Fact("Reproduced", f"yes, {figures}")
    return Fact("Reproduced", f"no, {figures}", w.sentence(replay.refusal, 300))


def _replay_words(replay: Replay | None) -> str:
    if replay is None:
        return ""
    how = DEPTHS.get(replay.depth, "a replay")
    words = f"{how[0].upper()}{how[1:]}: {w.clean(replay.model, 300)}." if replay.model else f"{how[0].upper()}{how[1:]}."
    if not replay.reproduces:
        words += f" It does not reproduce the segment, so nothing is claimed from it. {w.sentence(replay.refusal, 500)}".rstrip()
    return words


def _precision(replay: Replay | None) -> str:
    """Return what the replay was worked out with: its steps, its tolerance, the floats, and that it can be repeated."""
    if replay is None:
        return ""
    bound = f"{w.number(replay.bound)} {'decade' if replay.bound == 1 else 'decades'}"
    words = f"Steps {w.count(replay.segment.start)} to {w.count(replay.segment.stop)}, tolerance {bound}. "
    if replay.depth == "exact":
        return words + "In the floats and with the seed of the script."
    return words + "In float64, with draws from fixed seeds: it comes out the same every time."


def _ladder(report: RunReport) -> tuple[TrialView, ...]:
    replay = report.replay
    if replay is None or not replay.trials:
        return ()
    first = report.findings[0].fixes[0] if report.findings and report.findings[0].fixes else None
    chosen = trial_of(first, replay) if first else None
    recorded = replay.trials[0]
    rows = []
    for i, trial in enumerate(replay.trials):
        is_recorded = i == 0 and not trial.settings
        verdict: str = trial.verdict
        if is_recorded:
            verdict = "fails" if report.verdict == "failed" else "as it was"
        against = ""
        if not is_recorded and trial.tail_max > 0 and recorded.tail_max > 0:
            ratio = math.log10(trial.tail_max) - math.log10(recorded.tail_max)
            against = w.signed(ratio) if math.isfinite(ratio) else w.number(ratio)
        price = (
            ""
            if is_recorded
            else "never"
            if trial.slower is None
            else f"×{trial.slower:.2f}"
            if trial.slower < 100
            else f"×{w.number(trial.slower)}"
        )
        tone = "fault" if verdict == "fails" else TRIAL_TONES.get(verdict, "")
        rows.append(
            TrialView(
                w.clean(trial.title, 80),
                verdict,
                tone,
                w.number(trial.tail_max),
                against,
                price,
                w.clean(trial.note, 200),
                trial is chosen,
                is_recorded,
            )
        )
    return tuple(rows)


def _groups(report: RunReport, names: Mapping[str, str]) -> tuple[Group, ...]:
    by_reason: dict[str, list[str]] = {}
    for silent in report.not_checked:
        by_reason.setdefault(w.clean(silent.reason), []).append(_cause(silent.code, names))
    groups = [Group(reason, tuple(sorted(causes))) for reason, causes in by_reason.items()]
    return tuple(sorted(groups, key=lambda g: (-len(g.causes), g.reason)))


def bad_words(whole: Whole) -> str:
    """Return "3 NaN, 1 Inf, first at step 12", or "" when every value is finite."""
    if whole.first_bad is None:
        return ""
    parts = [f"{w.count(n)} {kind}" for n, kind in ((whole.n_nan, "NaN"), (whole.n_infinite, "Inf")) if n]
    return f"{', '.join(parts)}, first at {w.count(whole.first_bad)}"


def _tag(series: Series, run: Run) -> TagView:
    primary = run.primary.get(series.quantity) if series.quantity else None
    used = primary is not None and (primary.tag, primary.source) == (series.tag, series.source)
    status = "used" if used else "another speaks for it" if series.quantity else "no role"
    whole = whole_of(series)
    ends = [w.count(step) for step in (whole.first_step, whole.last_step) if step is not None]
    return TagView(
        w.clean(series.tag),
        w.clean(series.quantity),
        status,
        w.count(whole.n),
        " to ".join(ends) or "empty",
        bad_words(whole),
        w.clean(w.relative(series.source, run.root)),
    )


def _settings(report: RunReport) -> tuple[SettingView, ...]:
    run = report.run
    first = report.findings[0].fixes[0].settings if report.findings and report.findings[0].fixes else {}
    rows: dict[str, SettingView] = {}
    if run.optimizer is not None:
        spec = run.optimizer
        for name in (
            "name",
            "lr",
            "beta1",
            "beta2",
            "eps",
            "momentum",
            "nesterov",
            "alpha",
            "weight_decay",
            "amsgrad",
            "dialect",
        ):
            value = getattr(spec, name)
            if value is not None:
                key = f"optimizer.{name}"
                rows[key] = SettingView(key, w.setting(value), w.clean(spec.origin.get(name, "")))
    for key, one in run.settings.items():
        rows[key] = SettingView(w.clean(key), w.setting(one.value), w.clean(one.origin))
    if "optimizer.betas" in rows:
        rows.pop("optimizer.beta1", None)
        rows.pop("optimizer.beta2", None)
    return tuple(
        SettingView(r.key, r.value, r.origin, w.setting(first[key]) if key in first else "") for key, r in sorted(rows.items())
    )


def _numbers(report: RunReport) -> tuple[NumbersView, ...]:
    run = report.run
    rows = []
    for quantity, series in run.primary.items():
        rows.append(_row(QUANTITIES.get(quantity, w.clean(quantity)), series, f"tag {w.clean(series.tag)}"))
    replay = report.replay
    curves = [] if replay is None else [c for c in (replay.reproduced, replay.residual) if c is not None]
    for curve in curves:
        series = Series("", curve.name, curve.step, curve.value, curve.value, whole=curve.whole)
        rows.append(_row("Residual, decades" if replay and curve is replay.residual else "Reproduced loss", series, "replay"))
    for sign in report.vital_signs:
        for curve in sign.curves:
            known = any(np.array_equal(curve.value, s.value, equal_nan=True) for s in run.primary.values())
            if curve.role == "limit" or known:
                continue
            name = w.clean(sign.name) + ("" if curve.role == "observed" else f", {w.clean(curve.name)}")
            rows.append(_row(name, Series("", curve.name, curve.step, curve.value, curve.value, whole=curve.whole), "worked out"))
    return tuple(rows)


def _row(name: str, series: Series, source: str) -> NumbersView:
    whole = whole_of(series)
    seen = whole.n > whole.n_nan + whole.n_infinite
    low, middle, high = (w.number(v) if seen else "" for v in (whole.low, whole.middle, whole.high))
    first, last = (w.number(v) if whole.n else "" for v in (whole.first, whole.last))
    return NumbersView(
        name,
        first,
        low,
        middle,
        high,
        last,
        w.count(whole.n),
        w.count(whole.n_nan + whole.n_infinite),
        w.count(whole.first_bad) if whole.first_bad is not None else "",
        source,
    )
