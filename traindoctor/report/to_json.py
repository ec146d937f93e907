"""A report as the object that `--format json` prints: the contract that `report.schema.json` in this package states."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from typing import TYPE_CHECKING, Any

from traindoctor.report.curve import curves_of
from traindoctor.report.fingerprint import fingerprint
from traindoctor.report.redaction import redacted
from traindoctor.report.wording import relative
from traindoctor.signals.thinning import whole_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.mistake import Location
    from traindoctor.model import (
        Across,
        Damage,
        Evidence,
        Finding,
        Fix,
        OptimizerSpec,
        Replay,
        Report,
        Run,
        RunReport,
        Series,
        Stitch,
    )
    from traindoctor.report.provenance import Provenance

SCHEMA_VERSION = "1.0"
#: Fields of an optimizer that have a key of their own, or stand under "betas"; the others are there where they are known.
_ALWAYS = frozenset(
    ("name", "lr", "beta1", "beta2", "eps", "momentum", "nesterov", "alpha", "weight_decay", "amsgrad", "dialect", "origin")
)


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as plain dicts, lists, strings and finite numbers; NaN and infinities are strings.

    Runs come in the order they have in the report, findings with the diagnosis first. Strings are as they were logged, but for
    secrets, which `redaction` replaces.
    """
    report = redacted(report)
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "traindoctor", "version": report.version},
        "problems": list(report.problems),
        "rules": dict(report.names),
        "runs": [_run(r) for r in report.runs],
        "across": None if report.across is None else across_object(report.across),
    }


def to_json_lines(report: Report) -> Iterator[dict[str, Any]]:
    """Yield one object a run, which stands for itself: it has the version of the schema and of the tool, and its rules' names."""
    for one in redacted(report).runs:
        codes = {*one.checked, *(n.code for n in one.not_checked)}
        codes |= {code for f in one.findings for code in (f.code, *f.consequences, *(r.code for r in f.rivals))}
        yield {
            "schema_version": SCHEMA_VERSION,
            "tool": {"name": "traindoctor", "version": report.version},
            "rules": {code: name for code, name in report.names.items() if code in codes},
            **_run(one),
        }


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what `to_json` returns."""
    text = resources.files("traindoctor.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def plain(value: object) -> Any:
    """Return a value that JSON can hold: NumPy numbers become Python's, NaN and infinities the strings "NaN", "Infinity"."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [plain(v) for v in items]
    if isinstance(value, int):
        return value
    item = getattr(value, "item", None)
    if not isinstance(value, float) and callable(item):
        return plain(item())
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return value
    return str(value)


def _run(report: RunReport) -> dict[str, Any]:
    run = report.run
    return {
        "name": run.name,
        "path": relative(run.path, run.root),
        "step_unit": run.step_unit,
        "optimizer": optimizer_object(run.optimizer),
        "settings": {k: {"value": plain(s.value), "origin": s.origin} for k, s in sorted(run.settings.items())},
        "verdict": report.verdict,
        "summary": report.summary,
        "integrity": [integrity_object(d, run.root) for d in run.damages],
        "stitching": [stitch_object(s, run.root) for s in run.stitches],
        "formats": {relative(file, run.root): name for file, name in run.formats.items()},
        "files": [relative(file, run.root) for file in run.files],
        "config_files": [relative(file, run.root) for file in run.config_files],
        "code_files": [relative(file, run.root) for file in run.code_files],
        "checkpoint_files": [relative(file, run.root) for file in run.checkpoint_files],
        "roles": {quantity: series.tag for quantity, series in run.primary.items()},
        "tags": [_tag(s, run.primary.get(s.quantity), run.root) for s in run.series],
        "curve": {
            quantity: {"steps": curve.step.tolist(), "values": [plain(v) for v in curve.value.tolist()]}
            for quantity, curve in curves_of(report).items()
        },
        "restarts": [int(s) for s in run.restarts],
        "checked": list(report.checked),
        "not_checked": [{"code": n.code, "reason": n.reason} for n in report.not_checked],
        "gaps": list(report.gaps),
        "replay": None if report.replay is None else replay_object(report.replay),
        "findings": [_finding(f, run) for f in report.findings],
        "provenance": None if report.provenance is None else provenance_object(report.provenance),
    }


def across_object(across: Across) -> dict[str, Any]:
    """Return what several runs say together."""
    return {
        "failed": list(across.failed),
        "sound": list(across.sound),
        "left_out": list(across.left_out),
        "settings_that_differ": across.n_settings,
        "text": across.text,
        "causes": [
            {
                "code": cause.code or None,
                "name": cause.name,
                "runs": list(cause.runs),
                "text": cause.text,
                "separated_by": [
                    {
                        "setting": s.key,
                        "rule": s.rule,
                        "failed_inside": s.failed_inside,
                        "runs_inside": s.n_inside,
                        "failed_outside": s.failed_outside,
                        "runs_outside": s.n_outside,
                        "p_split": plain(s.p_split),
                        "p_setting": plain(s.p_setting),
                        "p_value": plain(s.p_value),
                        "confounded_with": list(s.confounded),
                        "text": s.text,
                    }
                    for s in cause.separations
                ],
            }
            for cause in across.causes
        ],
    }


def integrity_object(damage: Damage, root: str) -> dict[str, Any]:
    """Return what was lost or is doubtful in a file."""
    return {
        "kind": damage.kind,
        "file": relative(damage.file, root),
        "detail": damage.detail,
        "offset": damage.offset,
        "step": damage.step,
    }


def stitch_object(stitch: Stitch, root: str) -> dict[str, Any]:
    """Return how a file was put together with others into a run."""
    return {"kind": stitch.kind, "file": relative(stitch.file, root), "step": stitch.step, "detail": stitch.detail}


def optimizer_object(spec: OptimizerSpec | None) -> dict[str, Any] | None:
    """Return the optimizer of a run, None when it is not known."""
    if spec is None:
        return None
    betas = None if spec.beta1 is None and spec.beta2 is None else [plain(spec.beta1), plain(spec.beta2)]
    return {
        "name": spec.name,
        "lr": plain(spec.lr),
        "eps": plain(spec.eps),
        "betas": betas,
        "momentum": plain(spec.momentum),
        "nesterov": spec.nesterov,
        "alpha": plain(spec.alpha),
        "weight_decay": plain(spec.weight_decay),
        "amsgrad": spec.amsgrad,
        "dialect": spec.dialect,
        **{key: plain(value) for key, value in _of_few(spec) if value is not None},
        "origin": dict(sorted(spec.origin.items())),
    }


def _of_few(spec: OptimizerSpec) -> Iterator[tuple[str, object]]:
    """Yield what only a few optimizers have: the decay of Adafactor, the steps of Muon."""
    yield from ((f.name, getattr(spec, f.name)) for f in fields(spec) if f.name not in _ALWAYS)


def _tag(series: Series, primary: Series | None, root: str) -> dict[str, Any]:
    whole = whole_of(series)
    return {
        "tag": series.tag,
        "quantity": series.quantity or None,
        "primary": primary is not None and (primary.tag, primary.source) == (series.tag, series.source),
        "source": relative(series.source, root),
        "points": whole.n,
        "first_step": whole.first_step,
        "last_step": whole.last_step,
        "not_finite": whole.n_nan + whole.n_infinite,
        "nan": whole.n_nan,
        "infinite": whole.n_infinite,
        "first_not_finite_step": whole.first_bad,
        "not_positive": whole.n_not_positive,
        "stride": whole.stride,
        "first": plain(whole.first),
        "lowest": plain(whole.low),
        "median": plain(whole.middle),
        "highest": plain(whole.high),
        "last": plain(whole.last),
    }


def replay_object(replay: Replay) -> dict[str, Any]:
    """Return a replay with its trials, without its curves."""
    return {
        "depth": replay.depth,
        "model": replay.model,
        "segment": {"start": replay.segment.start, "stop": replay.segment.stop, "onset": replay.segment.onset},
        "error": plain(replay.error),
        "bound": plain(replay.bound),
        "unit": "decades",
        "reproduces": replay.reproduces,
        "refusal": replay.refusal,
        "trials": [
            {
                "title": t.title,
                "settings": plain(t.settings),
                "verdict": t.verdict,
                "tail_loss_max": plain(t.tail_max),
                "slower": plain(t.slower),
                "note": t.note,
            }
            for t in replay.trials
        ],
    }


def provenance_object(provenance: Provenance) -> dict[str, Any]:
    """Return where the report of a run comes from."""
    making = provenance.making
    return {
        "command": making.command,
        "rules": {"sha256": making.rules, "causes": making.n_rules, "packs": list(making.packs)},
        "thresholds": [{"name": name, "value": value} for name, value in making.thresholds],
        "versions": dict(making.versions),
        "shows_paths": making.shows_paths,
        "folder": provenance.folder,
        "inputs": [
            {
                "path": one.path,
                "kind": one.kind,
                "bytes": one.n_bytes,
                "sha256": one.sha256,
                "values": one.n_values,
                "notes": one.n_notes,
            }
            for one in provenance.inputs
        ],
        "inputs_left_out": provenance.n_left_out,
    }


def _finding(finding: Finding, run: Run) -> dict[str, Any]:
    segment, root = finding.segment, run.root
    return {
        "code": finding.code,
        "name": finding.name,
        "fingerprint": fingerprint(run, finding),
        "severity": finding.severity,
        "confidence": plain(finding.confidence),
        "title": finding.title,
        "message": finding.message,
        "segment": None if segment is None else {"start": segment.start, "stop": segment.stop, "onset": segment.onset},
        "evidence": [_evidence(e, root) for e in finding.evidence],
        "locations": [_place(p, root) for p in finding.locations],
        "rivals": [
            {
                "code": r.code,
                "name": r.name,
                "confidence": plain(r.confidence),
                "why_not": r.why_not,
                "separating_experiment": r.separating_experiment,
            }
            for r in finding.rivals
        ],
        "consequences": list(finding.consequences),
        "refutation": finding.refutation,
        "fixes": [_fix(f) for f in finding.fixes],
    }


def _evidence(evidence: Evidence, root: str) -> dict[str, Any]:
    place = evidence.location
    source = evidence.source or (f"{relative(place.file, root)}:{place.line}" if place else "")
    return {
        "for": evidence.supports,
        "kind": evidence.kind,
        "name": evidence.name,
        "value": plain(evidence.value),
        "unit": evidence.unit,
        "source": source,
        "text": evidence.text,
        "weight": plain(evidence.weight),
        "onset": evidence.onset,
        "location": None if place is None else _place(place, root),
    }


def _place(place: Location, root: str) -> dict[str, Any]:
    return {
        "file": relative(place.file, root),
        "line": place.line,
        "column": place.column,
        "end_line": place.end_line or None,
        "end_column": place.end_column or None,
        "cell": place.cell or None,
    }


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "title": fix.title,
        "settings": plain(fix.settings),
        "patch": fix.patch,
        "note": fix.note,
        "replay": {
            "depth": fix.replay.depth,
            "verdict": fix.replay.verdict,
            "before": plain(fix.replay.before),
            "after": plain(fix.replay.after),
            "note": fix.replay.note,
        },
    }
