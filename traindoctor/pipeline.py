"""The pipeline: paths -> runs -> evidence -> differential -> Report, with what was not checked and why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor import __version__
from traindoctor.beside import (
    joined,
    mistakes_of,
    patch_for_settings,
    patch_of,
    patched,
    place_of_origin,
    read_beside,
    with_settings,
)
from traindoctor.checkpoints.beside import checkpoints_of
from traindoctor.differential import Diagnosis, Suspicion, decide
from traindoctor.errors import TraindoctorError
from traindoctor.model import (
    Evidence,
    Finding,
    Fix,
    NotChecked,
    Replay,
    Report,
    Run,
    RunReport,
    Verdict,
)
from traindoctor.registry import load_rules, refuse_unknown
from traindoctor.rule import MODERATE, STRONG, WEAK, Statement, against, supports
from traindoctor.symptoms import CAUSES as SYMPTOMS
from traindoctor.symptoms import symptom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from traindoctor.beside import Beside
    from traindoctor.check.findings import Found
    from traindoctor.checkpoints.state import State
    from traindoctor.differential import Opinion
    from traindoctor.model import Location, TrainingLoop
    from traindoctor.rule import Cause, Limits
    from traindoctor.signals.measurements import Measurements
    from traindoctor.symptoms import Symptom

#: Runs whose series a report keeps whole.
KEPT_WHOLE = 8
#: Decades of a late rise that are never healthy: sound runs of the study stay below 1.5.
UNEXPLAINED_RISE = 2.5


@dataclass(frozen=True, slots=True)
class DiagnoseOptions:
    """What the user says beyond the paths.

    `checkpoints`: of the one run that is read; those beside its log where none is given. `format`: what every file is read as,
    "" to tell it by its content. `tags`: quantity -> tags that mean it. `select`, `ignore`: codes or their prefixes.
    `thresholds`: code -> name -> value. `parameters`: number of trained parameters, where it is known. `rules`: paths of rule
    packs beside the installed ones.
    """

    config: Path | None = None
    code: Path | None = None
    checkpoints: tuple[Path, ...] = ()
    step_column: str | None = None
    format: str = ""
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parameters: int | None = None
    rules: tuple[str, ...] = ()


def diagnose(
    paths: Sequence[Path | str], options: DiagnoseOptions | None = None, progress: Callable[[str], None] | None = None
) -> Report:
    """Return what is said of every run under the paths, and of several of them together.

    `progress` is called with a line of text whenever a longer piece of work begins. Of more than `KEPT_WHOLE` runs the series
    are thinned to what a report draws, run by run, so that many take no more memory than a few.

    Raises: UnreadableInputError when nothing under a path can be read, ConfigError for a config that was named and does
    not parse, RulePackError, TraindoctorError for a code that is selected or ignored and that there is not.
    """
    from traindoctor.across import across, outcome_of
    from traindoctor.readers.discover import ReadOptions, each_run
    from traindoctor.signals.thinning import thinned_report

    options = options or DiagnoseOptions()
    tell = progress or (lambda _: None)
    registry = load_rules(options.rules)
    if not registry.problems:  # a code may be one of a pack that failed, which the report tells of
        refuse_unknown((*options.select, *options.ignore), registry.causes)
    causes = {
        code: cause
        for code, cause in registry.causes.items()
        if (not options.select or code.startswith(options.select)) and not (options.ignore and code.startswith(options.ignore))
    }
    read = ReadOptions(
        config=options.config,
        code=options.code,
        step_column=options.step_column,
        aliases=options.tags,
        format=options.format,
    )
    reports: list[RunReport] = []
    outcomes = []
    for path in paths:
        tell(f"reading {path}")
        before = len(reports)
        for run in each_run(path, read):
            if options.checkpoints and reports:
                way = f"name the one, for example {reports[0].run.path}"
                raise TraindoctorError("--checkpoint", "belongs to one run, and several were read", way)
            tell(f"diagnosing {run.name}")
            report = diagnose_run(run, causes, options)
            outcomes.append(outcome_of(report))
            if len(reports) == KEPT_WHOLE:
                reports = [thinned_report(one) for one in reports]
            reports.append(report if len(reports) < KEPT_WHOLE else thinned_report(report))
        reports[before:] = sorted(reports[before:], key=lambda one: (one.run.name, one.run.path))
    names = {code: cause.name for code, cause in registry.causes.items()}
    together = across(sorted(outcomes, key=lambda one: one.name), names)
    return Report(tuple(reports), __version__, registry.problems, names, together)


def diagnose_run(run: Run, causes: Mapping[str, Cause], options: DiagnoseOptions | None = None) -> RunReport:
    """Return what is said of one run."""
    from traindoctor.signals.measurements import Measurements

    options = options or DiagnoseOptions()
    beside = read_beside(run)
    run = with_settings(replace(run, damages=(*run.damages, *beside.damages)), beside)
    state, run = checkpoints_of(run, options.checkpoints)
    m = Measurements(run, options.parameters or (state.last.n_parameters if state is not None else None))
    with np.errstate(all="ignore"):  # a log holds zeros, infinities and NaN: what comes of them is NaN, and is handled as such
        return _diagnose(run, m, beside, state, causes, options)


def _diagnose(
    run: Run, m: Measurements, beside: Beside, state: State | None, causes: Mapping[str, Cause], options: DiagnoseOptions
) -> RunReport:
    from traindoctor.replay.vital_signs import vital_signs

    suspicions: list[Suspicion] = []
    not_checked: list[NotChecked] = []
    unread: list[NotChecked] = []
    replays: dict[str, Replay] = {}
    mistakes: dict[str, list[Found]] = {}
    for code, cause in causes.items():
        limits = cause.limits(options.thresholds.get(code))
        missing = [need for need in cause.log_rules[0][1] if not m.has(need)] if cause.log_rules else []
        try:
            mistakes[code], missed = mistakes_of(cause, beside, limits)
            evidence = joined(gather(cause, m, beside.loops, limits, state), mistakes[code], beside)
        except Exception as error:  # one rule that fails, of whatever pack, is told and ends no diagnosis
            unread.append(NotChecked(code, f"the rule failed: {_words_of(error)}"))
            mistakes[code] = []
            continue
        unread += missed
        suspicion = Suspicion(cause, evidence)
        if cause.replay_model and suspicion.log_odds > -STRONG and suspicion.is_supported:
            replay = _replay(cause, m)
            if replay is not None:
                replays[code] = replay
                suspicion = Suspicion(cause, (*evidence, *_replayed(replay, cause)))
        suspicions.append(suspicion)
        if missing and not suspicion.is_supported:
            not_checked.append(NotChecked(code, _reason(missing, run)))
        elif state is None and cause.looks_at == ("checkpoint",):
            not_checked.append(NotChecked(code, "no checkpoint beside the log"))
    not_checked += unread  # what the log lacks is told first
    reasons = {n.code: n.reason for n in not_checked}
    opinion = decide(suspicions, reasons)
    seen = symptom(m)
    if seen is not None and _is_open(opinion):
        opinion = decide([_shown(suspicion, seen, m) for suspicion in suspicions], reasons, by_symptom=True)
    findings = tuple(
        _finding(
            d,
            m,
            run,
            replays.get(d.suspicion.cause.code),
            mistakes[d.suspicion.cause.code],
            beside,
            d.suspicion.cause.limits(options.thresholds.get(d.suspicion.cause.code)),
        )
        for d in opinion.diagnoses
    )
    named = [f for f in findings if not causes[f.code].standalone]
    unseen = bool(named) and not _is_seen(named[0].evidence)
    verdict, summary = _verdict(named, m, seen, undecided=opinion.undecided, unseen=unseen)
    found = {f.code for f in findings} | {c for f in findings for c in f.consequences}
    unchecked = {n.code for n in not_checked}
    shown = next((replays[f.code] for f in named if f.code in replays), None)
    return RunReport(
        run=run,
        verdict=verdict,
        summary=summary,
        findings=findings,
        checked=tuple(code for code in causes if code not in unchecked and code not in found),
        not_checked=tuple(not_checked),
        gaps=_gaps(m),
        replay=shown,
        vital_signs=vital_signs(m, shown, next(iter(named or findings), None)),
    )


def suspected(m: Measurements) -> str:
    """Return the code of the cause that log, settings and script speak for before any replay, "" for none."""
    causes = load_rules().causes
    beside = read_beside(m.run)
    with np.errstate(all="ignore"):
        opinion = decide([_suspicion(c, m, beside) for c in causes.values()])
    named = [d.suspicion.cause for d in opinion.diagnoses if not d.suspicion.cause.standalone]
    return named[0].code if named and not opinion.undecided else ""


def _suspicion(cause: Cause, m: Measurements, beside: Beside) -> Suspicion:
    limits = cause.limits(None)
    found, _ = mistakes_of(cause, beside, limits)
    return Suspicion(cause, joined(gather(cause, m, beside.loops, limits), found, beside))


def gather(
    cause: Cause, m: Measurements, loops: Sequence[TrainingLoop], limits: Limits, state: State | None = None
) -> Iterable[Evidence]:
    """Yield all evidence on a cause; a rule on the logs is asked only when what the cause needs is there."""
    for log_rule, needs in cause.log_rules:
        if all(m.has(need) for need in needs):
            yield from log_rule(m, limits)
    for config_rule in cause.config_rules:
        yield from config_rule(m.run, limits)
    for code_rule in cause.code_rules:
        for loop in loops:
            yield from code_rule(loop)
    if state is not None:
        for state_rule in cause.state_rules:
            yield from state_rule(state, m, limits)


def _replay(cause: Cause, m: Measurements) -> Replay | None:
    """Return the replay of a cause's model on the run, with its rivals; None when there is nothing of its kind to replay."""
    from traindoctor.replay.cure import replay_collapse
    from traindoctor.replay.divergence import replay_divergence
    from traindoctor.replay.engine import compared

    replay = replay_divergence(m) if cause.replay_model == "divergence" else replay_collapse(m)
    return None if replay is None else compared(m, replay, cause.code, cause.name)


def _replayed(replay: Replay, cause: Cause) -> Iterable[Evidence]:
    """Yield what a replay says of its cause; that a divergence is not exponential says little, networks seldom are quadratic."""
    source = f"closed-loop replay: {replay.model}"
    first = replay.hypotheses[0] if replay.hypotheses else None
    if replay.reproduces and first is not None and first.code != cause.code:
        yield against(
            "likelihood",
            first.share,
            kind="replay",
            weight=WEAK,
            source=source,
            text=f"The replay reproduces the run, but {first.name.replace('-', ' ')} makes the same log more easily.",
        )
    elif replay.reproduces:
        yield supports(
            "replay_error",
            replay.error,
            unit="decades",
            kind="replay",
            weight=STRONG,
            source=source,
            text="The replay does the same from the same step on: it misses the loss by "
            f"{replay.error:.2g} decades in the median, its bound is {replay.bound:g}.",
        )
    elif replay.error == replay.error:
        yield against(
            "replay_error",
            replay.error,
            unit="decades",
            kind="replay",
            weight=WEAK if cause.replay_model == "divergence" or replay.error < 2.0 * replay.bound else MODERATE,
            source=source,
            text=f"Not reproduced: {replay.refusal}.",
        )


def _finding(
    d: Diagnosis,
    m: Measurements,
    run: Run,
    replay: Replay | None,
    found: Sequence[Found],
    beside: Beside,
    limits: Limits,
) -> Finding:
    cause = d.suspicion.cause
    evidence = tuple(sorted(d.suspicion.evidence, key=lambda e: (not e.supports, -e.weight)))
    supporting = [e for e in evidence if e.supports]
    statement = _statement(cause, supporting)
    fixes: tuple[Fix, ...] = ()
    failed = ""
    try:
        if cause.statement is not None:
            statement = cause.statement(m, supporting)
        fixes = tuple(_fixes(cause, m, run, replay, found, beside, limits))
    except Exception as error:  # its evidence stands all the same
        failed = f" What to change is not said, since that part of the rule failed: {_words_of(error)}."
    places = [e.location for e in evidence if e.location is not None and e.supports]
    places += _places_of_settings(run, fixes[0] if fixes else None, beside)
    return Finding(
        code=cause.code,
        name=cause.name,
        severity=d.severity,
        confidence=d.confidence,
        title=statement.title,
        message=statement.message + failed,
        segment=statement.segment,
        evidence=evidence,
        locations=tuple({(place.file, place.cell, place.line): place for place in reversed(places)}.values())[::-1],
        rivals=d.rivals,
        consequences=d.consequences,
        fixes=fixes,
        refutation=cause.refutation,
    )


def _is_seen(evidence: Iterable[Evidence]) -> bool:
    """Return whether the run itself shows a cause, and not its script and settings alone."""
    return any(e.supports and e.kind in ("log", "replay", "state") for e in evidence)


def _words_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _statement(cause: Cause, evidence: Sequence[Evidence]) -> Statement:
    """Return what is said of a cause that is seen in scripts and configs alone."""
    where = evidence[0].source if evidence else "the script"
    return Statement(f"{where} has a fault that costs training: {cause.summary}.", " ".join(e.text for e in evidence))


def _places_of_settings(run: Run, fix: Fix | None, beside: Beside) -> Iterable[Location]:
    """Yield where the settings that a fix changes are set; where the optimizer is named for one of its that is not."""
    for setting in fix.settings if fix is not None else ():
        named = setting if setting in run.settings else f"{setting.partition('.')[0]}.name"
        place = place_of_origin(run.settings[named].origin, beside) if named in run.settings else None
        if place is not None:
            yield place


def _fixes(
    cause: Cause,
    m: Measurements,
    run: Run,
    replay: Replay | None,
    found: Sequence[Found],
    beside: Beside,
    limits: Limits,
) -> Iterable[Fix]:
    """Yield the fixes with their patches: those that the replay confirmed first, else those of the rule, not tried.

    A cause without fixes of its own has those of its mistakes.
    """
    from traindoctor.replay.cure import tried_fixes

    fixes = list(tried_fixes(replay, m.optimizer)) if replay is not None and replay.reproduces else []
    if not fixes:
        fixes = [fix for rule in cause.fix_rules for fix in rule(m, limits) if _changes(fix, run)]
    if not fixes:
        yield from patched(found, beside)
    for fix in fixes:
        patch = patch_for_settings(run, fix.settings, beside) if fix.settings else patch_of(found, beside)
        yield replace(fix, patch=patch)


def _changes(fix: Fix, run: Run) -> bool:
    """Return whether a fix asks for anything that the settings do not hold already; one without settings is for the code."""
    now = {key: setting.value for key, setting in run.settings.items()}
    return not fix.settings or any(now.get(key) != value for key, value in fix.settings.items())


def _is_open(opinion: Opinion) -> bool:
    """Return whether no cause is named, nor two that are left standing."""
    causes = [d for d in opinion.diagnoses if not d.suspicion.cause.standalone]
    return not causes or (opinion.undecided and len(causes) == 1)


def _shown(suspicion: Suspicion, seen: Symptom, m: Measurements) -> Suspicion:
    """Return a suspicion with what a symptom says of its cause, where it says anything."""
    weight = SYMPTOMS[seen.name].get(suspicion.cause.code)
    if weight is None:
        return suspicion
    found = supports(
        seen.name, seen.value, text=f"{seen.text}.", weight=weight, unit=seen.unit, source=m.loss.source, onset=seen.onset
    )
    return replace(suspicion, evidence=(*suspicion.evidence, found))


def _verdict(
    named: Sequence[Finding], m: Measurements, seen: Symptom | None, *, undecided: bool, unseen: bool
) -> tuple[Verdict, str]:
    """Return the verdict and its sentence; `unseen`: the first cause is one that scripts and configs show, and no log."""
    if named:
        title = named[0].title
        if undecided:
            what = "Something is wrong" if seen is None else seen.text
            wish = f" Next time log {_and(_would_settle(m))}." if seen is not None and seen.name == "never_moved" else ""
            names = _and([f.name for f in named])
            open_ = f"does not decide between {names}" if len(named) > 1 else f"does not show for sure that it is {names}"
            return "undecided", f"{what}, but this log {open_}.{wish}"
        return ("failed" if named[0].severity == "error" and not unseen else "suspicious"), title
    if not m.has("loss"):
        return "undecided", "No training loss was found in the log: see which tag took which role."
    loss = m.loss
    if loss.n < 4:
        return "undecided", f"{loss.n} values of the loss are too few to judge a run."
    rebound = loss.rebound
    if rebound is not None and rebound.decades > UNEXPLAINED_RISE and not m.is_adversarial:
        return "undecided", (
            f"The loss left its floor of {rebound.floor:.2g} at step {rebound.onset:,} and climbed "
            f"{rebound.decades:.1f} decades, and nothing in the log "
            "says why: look there for a resume, a bad batch, or a change of settings or data."
        )
    if seen is not None:
        return "undecided", f"{seen.text}, and nothing in the log says why. Next time log {_and(_would_settle(m))}."
    return "healthy", "No sign of a failure in what was logged."


def _would_settle(m: Measurements) -> list[str]:
    wanted = {"grad_norm": "the gradient norm per layer", "weight_norm": "the weight norm", "val_loss": "the validation loss"}
    return [text for quantity, text in wanted.items() if not m.has(quantity)] or [
        "gradient norms per layer",
        "a probe of the Hessian",
    ]


def _gaps(m: Measurements) -> tuple[str, ...]:
    """Return what the log lacks and what it would have allowed."""
    gaps = []
    if not m.has("loss"):
        gaps.append("no training loss: nothing can be said of the course of training")
    if not m.has("grad_norm"):
        gaps.append("no gradient norm: the second moment, eps and gradient handling cannot be checked, and no eps can be sized")
    if m.clip_norm is not None:
        gaps.append(f"the gradient norm exceeds the clip of {m.clip_norm:g}: taken as logged before it, and replayed clipped")
    if not m.has("weight_norm"):
        gaps.append("no weight norm: frozen weights and too large steps cannot be told")
    if not m.has("learning_rate"):
        gaps.append("no logged learning rate: taken as constant at the configured value")
    if m.run.optimizer is None:
        gaps.append("no optimizer settings beside the log: name them with --config")
    if m.run.step_unit != "step":
        gaps.append(f"one value per {m.run.step_unit}: spikes and onsets within one are hidden")
    return tuple(gaps)


def _reason(missing: Sequence[str], run: Run) -> str:
    """Return why a cause could not be checked."""
    settings = [need.partition(".")[2] for need in missing if need.startswith("optimizer.")]
    if settings and run.optimizer is not None:
        return f"{run.optimizer.name} has no {_and(settings)}"
    return (
        f"{_and([need.replace('|', ' or ') for need in missing])} not known"
        if settings
        else f"no {_and([n.replace('|', ' or ') for n in missing])} in the log"
    )


def _and(items: Sequence[str]) -> str:
    named = [item.replace("optimizer.", "optimizer's ").replace("layers", "norms of layers").replace("_", " ") for item in items]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
