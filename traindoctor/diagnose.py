"""The pipeline: paths -> runs -> evidence -> differential -> Report, with what was not checked and why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor import __version__
from traindoctor.differential import Diagnosis, Suspicion, decide
from traindoctor.errors import TraindoctorError
from traindoctor.model import (
    Damage,
    Evidence,
    Finding,
    Fix,
    NotChecked,
    Replay,
    Report,
    Run,
    RunReport,
    TrainingLoop,
    Verdict,
)
from traindoctor.readers.storage import locate
from traindoctor.registry import load_rules
from traindoctor.rule import MODERATE, STRONG, WEAK, against, supports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from traindoctor.rule import Cause, Limits, Statement
    from traindoctor.signals.measurements import Measurements

#: A run of at least this many logged points and steps that did not move asks for an answer.
STILL_POINTS, STILL_STEPS = 12, 150
#: Decades of a late rise that are never healthy: sound runs of the study stay below 1.5.
UNEXPLAINED_RISE = 2.5


@dataclass(frozen=True, slots=True)
class DiagnoseOptions:
    """What the user says beyond the paths.

    `format`: what every file is read as, "" to tell it by its content. `tags`: quantity -> tags that mean it. `select`,
    `ignore`: codes or their prefixes. `thresholds`: code -> name -> value. `parameters`: number of trained parameters,
    where it is known.
    """

    config: Path | None = None
    code: Path | None = None
    step_column: str | None = None
    format: str = ""
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parameters: int | None = None


def diagnose(
    paths: Sequence[Path | str], options: DiagnoseOptions | None = None, progress: Callable[[str], None] | None = None
) -> Report:
    """Return what is said of every run under the paths.

    `progress` is called with a line of text whenever a longer piece of work begins.

    Raises: UnreadableInputError when nothing under a path can be read, ConfigError for a config that was named and does
    not parse, RulePackError.
    """
    from traindoctor.readers.discover import ReadOptions, read_runs

    options = options or DiagnoseOptions()
    tell = progress or (lambda _: None)
    registry = load_rules()
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
    reports = []
    for path in paths:
        tell(f"reading {path}")
        for run in read_runs(path, read):
            tell(f"diagnosing {run.name}")
            reports.append(diagnose_run(run, causes, options))
    names = {code: cause.name for code, cause in registry.causes.items()}
    return Report(tuple(reports), __version__, registry.problems, names)


def diagnose_run(run: Run, causes: Mapping[str, Cause], options: DiagnoseOptions | None = None) -> RunReport:
    """Return what is said of one run."""
    from traindoctor.signals.measurements import Measurements

    options = options or DiagnoseOptions()
    run, loops = _loops(run)
    m = Measurements(run, options.parameters)
    with np.errstate(all="ignore"):  # a log holds zeros, infinities and NaN: what comes of them is NaN, and is handled as such
        return _diagnose(run, m, loops, causes, options)


def _diagnose(
    run: Run, m: Measurements, loops: Sequence[TrainingLoop], causes: Mapping[str, Cause], options: DiagnoseOptions
) -> RunReport:
    from traindoctor.replay.vital_signs import vital_signs

    suspicions, not_checked = [], []
    replays: dict[str, Replay] = {}
    for code, cause in causes.items():
        limits = cause.limits(options.thresholds.get(code))
        missing = [need for need in cause.log_rules[0][1] if not m.has(need)] if cause.log_rules else []
        evidence = tuple(gather(cause, m, loops, limits))
        suspicion = Suspicion(cause, evidence)
        if cause.replay_model and suspicion.log_odds > -STRONG and suspicion.is_supported:
            replay = _replay(cause, m)
            if replay is not None:
                replays[code] = replay
                suspicion = Suspicion(cause, (*evidence, *_replayed(replay, cause)))
        suspicions.append(suspicion)
        if missing and not suspicion.is_supported:
            not_checked.append(NotChecked(code, _reason(missing, run)))
    opinion = decide(suspicions, {n.code: n.reason for n in not_checked})
    findings = tuple(
        _finding(
            d,
            m,
            run,
            replays.get(d.suspicion.cause.code),
            d.suspicion.cause.limits(options.thresholds.get(d.suspicion.cause.code)),
        )
        for d in opinion.diagnoses
    )
    named = [f for f in findings if not causes[f.code].standalone]
    verdict, summary = _verdict(named, m, undecided=opinion.undecided)
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
        vital_signs=vital_signs(m, shown, named[0].fixes[0] if named and named[0].fixes else None),
    )


def suspected(m: Measurements) -> str:
    """Return the code of the cause that log, settings and script speak for before any replay, "" for none."""
    causes = load_rules().causes
    _, loops = _loops(m.run)
    with np.errstate(all="ignore"):
        opinion = decide([Suspicion(c, tuple(gather(c, m, loops, c.limits(None)))) for c in causes.values()])
    named = [d.suspicion.cause for d in opinion.diagnoses if not d.suspicion.cause.standalone]
    return named[0].code if named and not opinion.undecided else ""


def gather(cause: Cause, m: Measurements, loops: Sequence[TrainingLoop], limits: Limits) -> Iterable[Evidence]:
    """Yield all evidence on a cause; a rule on the logs is asked only when what the cause needs is there."""
    for log_rule, needs in cause.log_rules:
        if all(m.has(need) for need in needs):
            yield from log_rule(m, limits)
    for config_rule in cause.config_rules:
        yield from config_rule(m.run, limits)
    for code_rule in cause.code_rules:
        for loop in loops:
            yield from code_rule(loop)


def _loops(run: Run) -> tuple[Run, list[TrainingLoop]]:
    """Return the training loops of the run's scripts; a script that cannot be read is a damage, no error."""
    from traindoctor.code.loops import read_source, training_loops

    loops: list[TrainingLoop] = []
    damages: list[Damage] = []
    for file in run.code_files:
        try:
            loops += training_loops(read_source(locate(run.root) / file), file)
        except TraindoctorError as error:
            damages.append(Damage("unreadable-script", file, str(error)))
    return replace(run, damages=(*run.damages, *damages)), loops


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


def _finding(d: Diagnosis, m: Measurements, run: Run, replay: Replay | None, limits: Limits) -> Finding:
    cause = d.suspicion.cause
    evidence = tuple(sorted(d.suspicion.evidence, key=lambda e: (not e.supports, -e.weight)))
    assert cause.statement is not None, f"{cause.code} has no statement"
    statement: Statement = cause.statement(m, [e for e in evidence if e.supports])
    return Finding(
        code=cause.code,
        name=cause.name,
        severity=d.severity,
        confidence=d.confidence,
        title=statement.title,
        message=statement.message,
        segment=statement.segment,
        evidence=evidence,
        locations=tuple(e.location for e in evidence if e.location is not None),
        rivals=d.rivals,
        consequences=d.consequences,
        fixes=tuple(_fixes(cause, m, run, replay, evidence, limits)),
        refutation=cause.refutation,
    )


def _fixes(
    cause: Cause, m: Measurements, run: Run, replay: Replay | None, evidence: Sequence[Evidence], limits: Limits
) -> Iterable[Fix]:
    """Yield the fixes with their patches: those that the replay confirmed first, else those of the rule, not tried."""
    from traindoctor.code.loops import read_source
    from traindoctor.code.order import fix_patch
    from traindoctor.configs.patch import patch_for
    from traindoctor.replay.cure import tried_fixes

    fixes = list(tried_fixes(replay, m.optimizer)) if replay is not None and replay.reproduces else []
    if not fixes:
        fixes = [fix for rule in cause.fix_rules for fix in rule(m, limits)]
    place = next((e.location for e in evidence if e.location is not None and e.supports), None)
    for fix in fixes:
        patch = None
        if fix.settings:
            patch = patch_for(locate(run.root), run.settings, fix.settings, run.config_files)
        elif place is not None:
            patch = fix_patch(read_source(locate(run.root) / place.file), place.file, cause.code)
        yield replace(fix, patch=patch)


def _verdict(named: Sequence[Finding], m: Measurements, *, undecided: bool) -> tuple[Verdict, str]:
    if named:
        title = named[0].title
        if undecided:
            return "undecided", f"Something is wrong, but this log does not decide between {_and([f.name for f in named])}."
        return ("failed" if named[0].severity == "error" else "suspicious"), title
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
    still = loss.is_positive and loss.tail > 0.97 * loss.initial and loss.tail < 1.1 * loss.initial
    if (
        still
        and loss.n >= STILL_POINTS
        and loss.step[-1] - loss.step[0] >= STILL_STEPS
        and loss.initial > 0.5
        and not m.is_adversarial
    ):
        return "undecided", (
            f"The loss stayed near {loss.tail:.3g} from first to last step, and nothing in the log says why. "
            f"Next time log {_and(_would_settle(m))}: they tell a saddle, frozen weights, dead units and wrong labels apart."
        )
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
    named = [item.replace("optimizer.", "optimizer's ").replace("_", " ") for item in items]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
