"""A report read back: from what `--format json` or `jsonl` printed, or from our page, which holds the same object.

The curves come back as their summaries, the loss and what convicts in sixty points each. What is not as it must be is told
with its place; keys that are not known are passed over, since within one version of the schema fields are only added.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from traindoctor.errors import UnreadableInputError, did_you_mean
from traindoctor.mistake import Location, Severity
from traindoctor.model import (
    Across,
    CommonCause,
    Curve,
    Damage,
    Evidence,
    EvidenceKind,
    Finding,
    Fix,
    NotChecked,
    OptimizerSpec,
    Replay,
    ReplayDepth,
    ReplayResult,
    Report,
    Rival,
    Run,
    RunReport,
    Segment,
    Separation,
    Series,
    Setting,
    StepUnit,
    Stitch,
    Trial,
    TrialVerdict,
    Verdict,
    Whole,
)
from traindoctor.report import writing
from traindoctor.report.provenance import Input, Making, Provenance
from traindoctor.report.to_json import SCHEMA_VERSION

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from traindoctor.report.curve import Overview

#: What stands in JSON for the numbers that it cannot hold.
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
AGAIN = "traindoctor diagnose PATH --format json --output FILE"
_PAGE = re.compile(r"\s*(<!doctype html|<html)", re.IGNORECASE)
_FINDINGS = re.compile(r"<script\b(?=[^>]*\bid=\"findings\")[^>]*>")
GENERATOR = writing.GENERATOR.decode()
_LARGEST = 2**62
_LARGEST_FLOAT = sys.float_info.max


def read_report(path: str | os.PathLike[str]) -> Report:
    """Return the report in a file: the JSON or JSON lines of `diagnose`, or the HTML page of a run.

    Raises: UnreadableInputError for a file that cannot be read, is no report of ours, is cut off, or has a schema of another
    major version.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableInputError(str(path), f"cannot be read: {error.strerror or error}", *_ways_to(Path(path))) from error
    return parse_report(data, str(path))


def _ways_to(path: Path) -> tuple[str, ...]:
    """Return what to try where a path is a folder, or nothing is there."""
    try:
        if path.is_dir():
            return ("name the report in it", f"traindoctor diagnose {path}")
        return did_you_mean(path.name, [one.name for one in path.parent.iterdir()]) if not path.exists() else ()
    except OSError:
        return ()


def parse_report(data: bytes, name: str) -> Report:
    """Return the report in the bytes of a file; `name` is what errors call it.

    Raises: UnreadableInputError as `read_report` does.
    """
    try:
        text = data.decode(json.detect_encoding(data)).lstrip("\ufeff")  # a shell may have written UTF-16
    except UnicodeDecodeError as error:
        raise UnreadableInputError(name, "is no text, and so no report", AGAIN) from error
    if not text.strip():
        raise UnreadableInputError(name, "is empty", AGAIN)
    if _PAGE.match(text):
        return from_json(_parsed(_embedded(text, name), name), name)
    first, end = _first_value(text, name)
    if not text[end:].strip():
        return from_json(first, name)
    objects = [_parsed(line, f"{name}, line {i}") for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    return _of_lines(objects, name)


def from_json(stored: Mapping[str, Any], name: str = "report") -> Report:
    """Return the report that an object of `--format json` states, or a single line of `--format jsonl`.

    Raises: UnreadableInputError for an object that states none; `name` is what errors call it.
    """
    top = _checked(stored, name)
    if "verdict" in top.value and "runs" not in top.value:
        return _of_lines([stored], name)
    if "runs" not in top.value or any("verdict" not in one.value for one in top.parts("runs")):
        raise UnreadableInputError(name, "is what another command of traindoctor printed, not a diagnosis", AGAIN)
    return Report(
        runs=tuple(_run(one) for one in top.parts("runs")),
        version=top.part("tool").text("version"),
        problems=top.texts("problems"),
        names=top.words("rules"),
        across=_across(top.part("across")) if top.value.get("across") is not None else None,
    )


def _of_lines(objects: Sequence[Mapping[str, Any]], name: str) -> Report:
    """Return the report of runs that stand one a line; what several say together is not in them."""
    lines = [_checked(stored, name if len(objects) == 1 else f"{name}, line {i}") for i, stored in enumerate(objects, 1)]
    names = {code: words for line in lines for code, words in line.words("rules").items()}
    return Report(tuple(_run(line) for line in lines), lines[0].part("tool").text("version"), (), names)


# -- text to objects ------------------------------------------------------------------------------------------------------


def _embedded(page: str, name: str) -> str:
    """Return the findings that a page holds."""
    begin = _FINDINGS.search(page)
    if begin is None and GENERATOR in page and "</html>" not in page:
        raise _cut(name)
    if begin is None:
        raise UnreadableInputError(
            name, "is a page without findings", "the page of a run: an index of many has one for each beside it", AGAIN
        )
    end = page.find("</script>", begin.end())
    if end < 0:
        raise _cut(name)
    return page[begin.end() : end]


def _first_value(text: str, name: str) -> tuple[Any, int]:
    try:
        return json.JSONDecoder(parse_constant=_refused).raw_decode(text, len(text) - len(text.lstrip()))
    except json.JSONDecodeError as error:
        raise _no_json(error, text, name) from error
    except (RecursionError, ValueError) as error:
        raise UnreadableInputError(name, f"is no JSON that was written by traindoctor: {error}", AGAIN) from error


def _parsed(text: str, name: str) -> Any:
    value, end = _first_value(text, name)
    if text[end:].strip():
        raise UnreadableInputError(name, "holds more after its end", AGAIN)
    return value


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _no_json(error: json.JSONDecodeError, text: str, name: str) -> UnreadableInputError:
    if text.lstrip()[:1] != "{":
        return UnreadableInputError(name, "is not a report of traindoctor", AGAIN)
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
        return _cut(name)
    return UnreadableInputError(name, f"is no JSON: line {error.lineno}, column {error.colno}: {error.msg}", AGAIN)


def _cut(name: str) -> UnreadableInputError:
    return UnreadableInputError(name, "ends in the middle of the report: it was cut off", AGAIN)


def _checked(stored: object, name: str) -> Part:
    """Return the object as a part to read, where it is one of ours, of a version that is read."""
    tool = stored.get("tool") if isinstance(stored, dict) else None
    if not isinstance(stored, dict) or not isinstance(tool, dict) or tool.get("name") != "traindoctor":
        raise UnreadableInputError(name, "is not a report of traindoctor", AGAIN)
    version, ours = str(stored.get("schema_version")), SCHEMA_VERSION.partition(".")[0]
    if version.partition(".")[0] != ours:
        raise UnreadableInputError(
            name, f"has version {version} of the schema; this traindoctor reads {ours}.x", "the traindoctor that wrote it", AGAIN
        )
    if stored.get("kind") == "index":
        raise UnreadableInputError(name, "is the index of several runs", "the page of one of them, in the folder beside it")
    return Part(stored, "", name)


@dataclass(frozen=True, slots=True)
class Part:
    """An object of a stored report: `at` is its place in it, "runs[0].replay", and `name` that of the whole.

    Each method returns the value of a key; all raise UnreadableInputError where it is of another kind. A key that is
    missing has the value that stands for "nothing is known", since an older report may lack it; `required` ones may not.
    """

    value: Mapping[str, Any]
    at: str
    name: str

    def fault(self, key: str, what: str) -> UnreadableInputError:
        """Return the error of a key that is not as it must be."""
        return UnreadableInputError(self.name, f"{self._place(key)} {what}: the report was changed or is damaged", AGAIN)

    def _place(self, key: str) -> str:
        return f"{self.at}.{key}" if self.at else key

    def text(self, key: str) -> str:
        """Return a text, "" for null or none."""
        value = self.value.get(key)
        if not isinstance(value, str | None):
            raise self.fault(key, "is no text")
        return value or ""

    def required(self, key: str) -> str:
        """Return a text that must be there."""
        if key not in self.value:
            raise self.fault(key, "is missing")
        return self.text(key)

    def flag(self, key: str) -> bool:
        """Return a truth value that must be there."""
        value = self.value.get(key)
        if not isinstance(value, bool):
            raise self.fault(key, "is neither true nor false")
        return value

    def number(self, key: str) -> float:
        """Return a number, NaN for null or none."""
        value = self.optional(key)
        return math.nan if value is None else value

    def optional(self, key: str) -> float | None:
        """Return a number, None for null or none."""
        value = self.value.get(key)
        if isinstance(value, str) and value in NOT_FINITE:
            return NOT_FINITE[value]
        if isinstance(value, bool) or not isinstance(value, int | float | None) or abs(value or 0) > _LARGEST_FLOAT:
            raise self.fault(key, "is no number")
        return value  # an integer stays one: it is printed as it was

    def integer(self, key: str) -> int | None:
        """Return an integer of 62 bits, None for null or none."""
        value = self.value.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or abs(value) >= _LARGEST):
            raise self.fault(key, "is no integer")
        return value

    def count(self, key: str) -> int:
        """Return an integer, 0 for null or none."""
        return self.integer(key) or 0

    def one_of(self, key: str, kind: Any) -> Any:
        """Return one of the words of `kind`, a Literal."""
        value = self.value.get(key)
        if value not in get_args(kind):
            raise self.fault(key, f"is none of {', '.join(get_args(kind))}")
        return value

    def part(self, key: str) -> Part:
        """Return an object, an empty one for none."""
        value = self.value.get(key, {})
        if not isinstance(value, dict):
            raise self.fault(key, "is no object")
        return Part(value, self._place(key), self.name)

    def maybe(self, key: str) -> Part | None:
        """Return an object, None for null or none."""
        return None if self.value.get(key) is None else self.part(key)

    def words(self, key: str) -> dict[str, str]:
        """Return an object whose values are texts."""
        inner = self.part(key)
        return {one: inner.text(one) for one in inner.value}

    def numbers(self, key: str) -> dict[str, float]:
        """Return an object whose values are numbers."""
        inner = self.part(key)
        return {one: inner.number(one) for one in inner.value}

    def items(self, key: str) -> list[Any]:
        """Return a list, an empty one for none."""
        value = self.value.get(key, [])
        if not isinstance(value, list):
            raise self.fault(key, "is no list")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        items = self.items(key)
        return tuple(Part({str(i): one}, self._place(key), self.name).text(str(i)) for i, one in enumerate(items))

    def parts(self, key: str) -> list[Part]:
        """Return a list of objects."""
        made = []
        for i, one in enumerate(self.items(key)):
            if not isinstance(one, dict):
                raise self.fault(f"{key}[{i}]", "is no object")
            made.append(Part(one, f"{self._place(key)}[{i}]", self.name))
        return made


# -- objects to nouns -----------------------------------------------------------------------------------------------------


def _run(part: Part) -> RunReport:
    curves = {quantity: _curve(part.part("curve").part(quantity)) for quantity in part.part("curve").value}
    series = tuple(_series(tag, curves) for tag in part.parts("tags"))
    spoken = {s.quantity: s for s, tag in zip(series, part.parts("tags"), strict=True) if tag.value.get("primary") is True}
    roles = part.words("roles") or {quantity: s.tag for quantity, s in spoken.items()}
    run = Run(
        name=part.required("name"),
        path=part.text("path"),
        root="",
        series=series,
        primary={quantity: spoken[quantity] for quantity in roles if quantity in spoken},
        settings={key: Setting(_value(one.value.get("value")), one.text("origin")) for key, one in _each(part, "settings")},
        optimizer=_optimizer(part.maybe("optimizer")),
        damages=tuple(
            Damage(d.text("kind"), d.text("file"), d.text("detail"), d.integer("offset"), d.integer("step"))
            for d in part.parts("integrity")
        ),
        restarts=tuple(_integers(part, "restarts")),
        step_unit=part.one_of("step_unit", StepUnit),
        files=part.texts("files"),
        config_files=part.texts("config_files"),
        code_files=part.texts("code_files"),
        checkpoint_files=part.texts("checkpoint_files"),
        formats=part.words("formats"),
        stitches=tuple(
            Stitch(s.text("kind"), s.text("file"), s.text("detail"), s.integer("step")) for s in part.parts("stitching")
        ),
    )
    return RunReport(
        run=run,
        verdict=part.one_of("verdict", Verdict),
        summary=part.required("summary"),
        findings=tuple(_finding(f) for f in part.parts("findings")),
        checked=part.texts("checked"),
        not_checked=tuple(NotChecked(n.required("code"), n.text("reason")) for n in part.parts("not_checked")),
        gaps=part.texts("gaps"),
        replay=_replay(part.maybe("replay")),
        provenance=_provenance(part.maybe("provenance")),
    )


def _each(part: Part, key: str) -> Iterator[tuple[str, Part]]:
    inner = part.part(key)
    yield from ((one, inner.part(one)) for one in inner.value)


def _integers(part: Part, key: str) -> Iterator[int]:
    for i, one in enumerate(part.items(key)):
        value = Part({key: one}, f"{part.at}[{i}]" if part.at else "", part.name).integer(key)
        if value is None:
            raise part.fault(key, "holds what is no integer")
        yield value


def _value(stored: Any) -> Any:
    """Return a setting's value: what stands for a number that JSON cannot hold becomes it again."""
    if isinstance(stored, str):
        return NOT_FINITE.get(stored, stored)
    if isinstance(stored, list):
        return tuple(_value(one) for one in stored)
    return {key: _value(one) for key, one in stored.items()} if isinstance(stored, dict) else stored


def _curve(part: Part) -> Overview:
    from traindoctor.report.curve import Overview

    steps = list(_integers(part, "steps"))
    values = [Part({"values": one}, part.at, part.name).number("values") for one in part.items("values")]
    if len(steps) != len(values):
        raise part.fault("values", "are not as many as the steps")
    return Overview(np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64))


def _series(part: Part, curves: Mapping[str, Overview]) -> Series:
    quantity = part.text("quantity")
    curve = curves.get(quantity) if part.value.get("primary") is True else None
    step = np.zeros(0, dtype=np.int64) if curve is None else curve.step
    value = np.zeros(0) if curve is None else curve.value
    n, n_bad = part.count("points"), part.count("not_finite")
    n_nan = part.count("nan") if "nan" in part.value else n_bad
    whole = Whole(
        n=n,
        first_step=part.integer("first_step"),
        last_step=part.integer("last_step"),
        stride=max(1, part.count("stride")),
        first=part.number("first"),
        low=part.number("lowest"),
        middle=part.number("median"),
        high=part.number("highest"),
        last=part.number("last"),
        n_nan=n_nan,
        n_infinite=n_bad - n_nan,
        first_bad=part.integer("first_not_finite_step"),
        n_not_positive=part.count("not_positive"),
    )
    source = part.text("source")
    return Series(quantity, part.required("tag"), step, value, np.full(step.shape, np.nan), source, whole if n else None)


def _optimizer(part: Part | None) -> OptimizerSpec | None:
    if part is None:
        return None
    known = {f.name for f in fields(OptimizerSpec)} - {"origin"}
    for key in (odd for odd, one in part.value.items() if odd in known and isinstance(one, dict | list)):
        raise part.fault(key, "is no single value")
    values = {key: _value(one) for key, one in part.value.items() if key in known}
    betas = part.items("betas") if part.value.get("betas") is not None else [None, None]
    if len(betas) != 2:
        raise part.fault("betas", "are not two")
    values |= {"beta1": _value(betas[0]), "beta2": _value(betas[1]), "name": part.required("name")}
    return OptimizerSpec(**values, origin=part.words("origin"))


def _finding(part: Part) -> Finding:
    confidence = part.number("confidence")
    return Finding(
        code=part.required("code"),
        name=part.required("name"),
        severity=part.one_of("severity", Severity),
        confidence=confidence,
        title=part.required("title"),
        message=part.text("message"),
        segment=_segment(part.maybe("segment")),
        evidence=tuple(_evidence(e) for e in part.parts("evidence")),
        locations=tuple(_place(p) for p in part.parts("locations")),
        rivals=tuple(
            Rival(r.text("code"), r.text("name"), r.number("confidence"), r.text("why_not"), r.text("separating_experiment"))
            for r in part.parts("rivals")
        ),
        consequences=part.texts("consequences"),
        fixes=tuple(_fix(f) for f in part.parts("fixes")),
        refutation=part.text("refutation"),
    )


def _segment(part: Part | None) -> Segment | None:
    return None if part is None else Segment(part.count("start"), part.count("stop"), part.integer("onset"))


def _place(part: Part) -> Location:
    line, column, *rest = (part.count(key) for key in ("line", "column", "end_line", "end_column", "cell"))
    return Location(part.required("file"), line, column, *rest)


def _evidence(part: Part) -> Evidence:
    value = part.value.get("value")
    if not isinstance(value, str) or value in NOT_FINITE:
        value = part.optional("value")
    place = part.maybe("location")
    return Evidence(
        supports=part.flag("for"),
        kind=part.one_of("kind", EvidenceKind),
        name=part.text("name"),
        text=part.text("text"),
        weight=part.number("weight"),
        value=value,
        unit=part.text("unit"),
        source=part.text("source"),
        onset=part.integer("onset"),
        location=None if place is None else _place(place),
    )


def _fix(part: Part) -> Fix:
    replay = part.part("replay")
    patch = part.value.get("patch")
    return Fix(
        title=part.required("title"),
        settings={key: _value(one) for key, one in part.part("settings").value.items()},
        patch=None if patch is None else part.text("patch"),
        replay=ReplayResult(
            replay.one_of("depth", ReplayDepth),
            replay.one_of("verdict", TrialVerdict),
            replay.numbers("before"),
            replay.numbers("after"),
            replay.text("note"),
        ),
        note=part.text("note"),
    )


def _replay(part: Part | None) -> Replay | None:
    """Return a replay with its trials; its curves are not stored, and come back empty."""
    if part is None:
        return None
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
    return Replay(
        depth=part.one_of("depth", ReplayDepth),
        model=part.text("model"),
        segment=_segment(part.part("segment")) or Segment(0, 0),
        observed=Curve("observed", "observed", *nothing),
        reproduced=None,
        residual=None,
        error=part.number("error"),
        bound=part.number("bound"),
        reproduces=part.flag("reproduces"),
        refusal=part.text("refusal"),
        trials=tuple(
            Trial(
                title=t.text("title"),
                settings={key: _value(one) for key, one in t.part("settings").value.items()},
                verdict=t.one_of("verdict", TrialVerdict),
                tail_max=t.number("tail_loss_max"),
                slower=t.optional("slower"),
                loss=Curve(t.text("title"), "counterfactual", *nothing),
                note=t.text("note"),
            )
            for t in part.parts("trials")
        ),
    )


def _across(part: Part) -> Across:
    return Across(
        failed=part.texts("failed"),
        sound=part.texts("sound"),
        left_out=part.texts("left_out"),
        n_settings=part.count("settings_that_differ"),
        causes=tuple(
            CommonCause(
                cause.text("code"),
                cause.text("name"),
                cause.texts("runs"),
                tuple(_separation(s) for s in cause.parts("separated_by")),
                cause.text("text"),
            )
            for cause in part.parts("causes")
        ),
        text=part.text("text"),
    )


def _separation(part: Part) -> Separation:
    return Separation(
        key=part.text("setting"),
        rule=part.text("rule"),
        failed_inside=part.count("failed_inside"),
        n_inside=part.count("runs_inside"),
        failed_outside=part.count("failed_outside"),
        n_outside=part.count("runs_outside"),
        p_split=part.number("p_split"),
        p_setting=part.number("p_setting"),
        p_value=part.number("p_value"),
        text=part.text("text"),
        confounded=part.texts("confounded_with"),
    )


def _provenance(part: Part | None) -> Provenance | None:
    if part is None:
        return None
    rules = part.part("rules")
    making = Making(
        command=part.text("command"),
        rules=rules.text("sha256"),
        n_rules=rules.count("causes"),
        packs=rules.texts("packs"),
        thresholds=tuple((one.text("name"), one.text("value")) for one in part.parts("thresholds")),
        versions=tuple(part.words("versions").items()),
        shows_paths=part.flag("shows_paths"),
    )
    inputs = tuple(
        Input(
            one.text("path"),
            one.text("kind"),
            one.integer("bytes"),
            one.text("sha256"),
            one.integer("values"),
            one.count("notes"),
        )
        for one in part.parts("inputs")
    )
    return Provenance(making, inputs, part.text("folder"), part.count("inputs_left_out"))
