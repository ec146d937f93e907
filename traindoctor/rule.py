"""What a rule file imports: a Cause, its thresholds, its evidence functions and its examples.

A rule is a cause: one code, one file, whatever the evidence. It reads measurements, it does not compute them, and so
imports nothing heavy. The weights of evidence are nats of log-odds with four names; the differential adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from traindoctor.checkpoints.state import State
    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.mistake import Location, Mistake, Severity
    from traindoctor.model import Damage, DamageFamily, Evidence, EvidenceKind, Fix, OptimizerSpec, Run, Segment, TrainingLoop
    from traindoctor.signals.measurements import Measurements

#: The interface a rule pack is written for; a pack states its own as `API` in its `__init__.py`.
API = 1

#: Weights of evidence in nats: a likelihood ratio of about 400, 20, 4.5 and 2. They are the only weights in use, so that a
#: sum can be followed by hand.
PROOF = 6.0
STRONG = 3.0
MODERATE = 1.5
WEAK = 0.7

#: Log-odds of a cause before any evidence: one run in twenty, so that one strong piece alone only draws.
PRIOR = -3.0

Limits: TypeAlias = Mapping[str, float]
LogRule: TypeAlias = "Callable[[Measurements, Limits], Iterator[Evidence]]"
ConfigRule: TypeAlias = "Callable[[Run, Limits], Iterator[Evidence]]"
CodeRule: TypeAlias = "Callable[[TrainingLoop], Iterator[Evidence]]"
StateRule: TypeAlias = "Callable[[State, Measurements, Limits], Iterator[Evidence]]"
FixRule: TypeAlias = "Callable[[Measurements, Limits], Iterator[Fix]]"
ScriptRule: TypeAlias = "Callable[[Script, Limits], Iterator[Mistake]]"
FileRule: TypeAlias = "Callable[[ConfigFile, Limits], Iterator[Mistake]]"


class Threshold(NamedTuple):
    """A number that decides, with its unit and where it comes from (a paper and its place, or a study)."""

    name: str
    value: float
    unit: str
    source: str


class Example(NamedTuple):
    """A run on which a cause must stay silent (valid) or speak (invalid).

    `loops` where the script is the evidence, `state` where a checkpoint is.
    """

    name: str
    run: Run
    loops: tuple[TrainingLoop, ...] = ()
    state: State | None = None


#: Runs on which a cause must stay silent, and on which it must speak.
Examples: TypeAlias = "tuple[tuple[Example, ...], tuple[Example, ...]]"


class Sample(NamedTuple):
    """A script or config on which a cause must stay silent (valid) or speak (invalid), each line marked `# <-` once.

    `file`: its name, whose ending says how it is read. `line`: where it must speak, for a format without comments; 0 where
    the marks say it. `others`: files beside it, by their relative path. `fixed`: the whole text after every repair that is
    offered, safe or not, where the sample is to show it.
    """

    name: str
    text: str
    file: str = "train.py"
    line: int = 0
    others: Mapping[str, str] = {}
    fixed: str = ""


class Statement(NamedTuple):
    """What the report says first of a cause: a title of at most 25 words, past tense, and one or two sentences."""

    title: str
    message: str
    segment: Segment | None = None


#: How a cause is put to the test: which replay model can simulate it, or none.
ReplayModel = Literal["", "second-moment-collapse", "divergence"]
#: What of a run a cause accounts for.
Concern = Literal["course", "validation", "speed"]


class Cause:
    """A rule: one cause, with everything that is known of it in one file.

    `explains`: codes of the findings that are consequences of this one and fold under it. `look_alikes`: codes
    that a reader would think of, named as rivals whenever this cause is. `experiment`: the cheapest
    observation that separates this cause from its rivals. `standalone`: the cause does not compete with the others (an
    integrity finding, or one that is decided by a value and not by a curve). `concerns`: what of a run it accounts for, of
    "course" (how the training went), "validation" (what held-out data say) and "speed"; causes that concern different things
    do not compete. `valid_code`, `invalid_code`: scripts and configs on which it is silent, and speaks.
    """

    def __init__(
        self,
        code: str,
        name: str,
        summary: str,
        explanation: str,
        severity: Severity = "error",
        thresholds: tuple[Threshold, ...] = (),
        explains: tuple[str, ...] = (),
        look_alikes: tuple[str, ...] = (),
        experiment: str = "",
        refutation: str = "",
        standalone: bool = False,
        replay_model: ReplayModel = "",
        concerns: tuple[Concern, ...] = ("course",),
    ) -> None:
        self.code = code
        self.name = name
        self.summary = summary
        self.explanation = explanation
        self.severity = severity
        self.thresholds = thresholds
        self.explains = explains
        self.look_alikes = look_alikes
        self.experiment = experiment
        self.refutation = refutation
        self.standalone = standalone
        self.replay_model: ReplayModel = replay_model
        self.concerns: tuple[Concern, ...] = concerns
        self.make_examples: Callable[[], Examples] = lambda: ((), ())
        self.valid_code: tuple[Sample, ...] = ()
        self.invalid_code: tuple[Sample, ...] = ()
        self.log_rules: list[tuple[LogRule, tuple[str, ...]]] = []
        self.config_rules: list[ConfigRule] = []
        self.code_rules: list[CodeRule] = []
        self.state_rules: list[StateRule] = []
        self.script_rules: list[tuple[ScriptRule, tuple[str, ...]]] = []
        self.file_rules: list[FileRule] = []
        self.fix_rules: list[FixRule] = []
        self.statement: Callable[[Measurements, Sequence[Evidence]], Statement] | None = None

    @property
    def looks_at(self) -> tuple[str, ...]:
        """The kinds of input that the cause is looked for in: "log", "settings", "script", "checkpoint"."""
        kinds: tuple[tuple[str, Sequence[object]], ...] = (
            ("log", self.log_rules),
            ("settings", [*self.config_rules, *self.file_rules]),
            ("script", [*self.code_rules, *self.script_rules]),
            ("checkpoint", self.state_rules),
        )
        return tuple(kind for kind, rules in kinds if rules)

    def examples(self, make: Callable[[], Examples]) -> Callable[[], Examples]:
        """Register the runs that are its tests; they are made when they are asked for, since making one imports NumPy."""
        self.make_examples = make
        return make

    def in_logs(self, *, needs: tuple[str, ...] = ()) -> Callable[[LogRule], LogRule]:
        """Register evidence from the logs; `needs` names quantities ("loss") or settings ("optimizer.beta2").

        When one is missing the function is not called. The first function registered is the one that the cause rests on:
        when it cannot be called the report says so, with what was missing. "a|b" asks for one of two.
        """

        def register(rule: LogRule) -> LogRule:
            self.log_rules.append((rule, needs))
            return rule

        return register

    def in_config(self, rule: ConfigRule) -> ConfigRule:
        """Register evidence from the settings alone."""
        self.config_rules.append(rule)
        return rule

    def in_code(self, rule: CodeRule) -> CodeRule:
        """Register evidence from a training loop."""
        self.code_rules.append(rule)
        return rule

    def in_state(self, rule: StateRule) -> StateRule:
        """Register evidence from the checkpoints of a run, called where there is one, with what the log says beside it."""
        self.state_rules.append(rule)
        return rule

    def in_script(self, *words: str) -> Callable[[ScriptRule], ScriptRule]:
        """Register what `check` looks for in a training script, and `diagnose` in the script beside a log.

        The function is called where all of `words` stand in the text of the script ("a|b": one of two).
        """

        def register(rule: ScriptRule) -> ScriptRule:
            self.script_rules.append((rule, words))
            return rule

        return register

    def in_file(self, rule: FileRule) -> FileRule:
        """Register what `check` looks for in a config file, and `diagnose` in the config beside a log."""
        self.file_rules.append(rule)
        return rule

    def fixes(self, rule: FixRule) -> FixRule:
        """Register the candidate changes; the replay sizes and tries them."""
        self.fix_rules.append(rule)
        return rule

    def says(
        self, rule: Callable[[Measurements, Sequence[Evidence]], Statement]
    ) -> Callable[[Measurements, Sequence[Evidence]], Statement]:
        """Register the sentence of the verdict."""
        self.statement = rule
        return rule

    def limits(self, overrides: Limits | None = None) -> Limits:
        """Return the thresholds by name, with the user's overrides."""
        return {t.name: t.value for t in self.thresholds} | dict(overrides or {})


def supports(
    name: str,
    value: float | str | None,
    *,
    text: str,
    weight: float,
    unit: str = "1",
    source: str = "",
    onset: int | None = None,
    kind: EvidenceKind = "log",
    location: Location | None = None,
) -> Evidence:
    """Return evidence for a cause."""
    from traindoctor.model import Evidence

    return Evidence(True, kind, name, text, weight, value, unit, source, onset, location)


def against(
    name: str,
    value: float | str | None,
    *,
    text: str,
    weight: float,
    unit: str = "1",
    source: str = "",
    kind: EvidenceKind = "log",
    location: Location | None = None,
) -> Evidence:
    """Return evidence against a cause."""
    from traindoctor.model import Evidence

    return Evidence(False, kind, name, text, weight, value, unit, source, None, location)


def proven(name: str, place: Location, text: str) -> Evidence:
    """Return evidence that a place in the script proves the cause."""
    where = f"{place.file}:{place.line}"
    return supports(name, where, unit="", weight=PROOF + STRONG, kind="code", source=where, location=place, text=text)


def disproven(name: str, place: Location, text: str) -> Evidence:
    """Return evidence that a place in the script rules the cause out."""
    where = f"{place.file}:{place.line}"
    return against(name, where, unit="", weight=PROOF, kind="code", source=where, text=text)


def damages_of(m: Measurements, family: DamageFamily) -> Iterator[Evidence]:
    """Yield the damages of one family that were met while the run was read."""
    for damage in m.run.damages:
        if damage.family == family:
            place = damage.file if damage.offset is None else f"{damage.file}, byte {damage.offset:,}"
            text = damage.detail if damage.detail.endswith(".") else f"{damage.detail}."
            yield supports(damage.kind, damage.file, unit="", weight=PROOF, source=place, onset=damage.step, text=text)


def early_rise(m: Measurements, limits: Limits, when: str) -> Iterator[Evidence]:
    """Yield what a loss that rises in the first tenth of a run, at the peak of the rate, says of its warmup.

    `when`: how the rate came to its peak. `limits`: "overshoot", "violent", "left", "far", "recovered", "grad". Nothing where the
    run has no such rise, or ends well.
    """
    start, rate, loss = m.beginning, m.learning_rate, m.loss
    if start is None:
        return
    first = float(loss.value[0])
    if not start.sure or start.overshoot < limits["overshoot"] or loss.tail < limits["left"] * first or loss.rebound is not None:
        return
    yield supports(
        "overshoot",
        start.overshoot,
        unit="times the first loss",
        weight=STRONG if start.overshoot >= limits["violent"] else MODERATE + WEAK,
        onset=start.at,
        source=loss.source,
        text=f"The loss rises from {first:.3g} to {start.overshoot * first:.3g} at {m.name_of(start.at)}, {when}.",
    )
    if start.grad > limits["grad"]:
        yield supports(
            "gradient",
            start.grad,
            unit="times the first norm",
            weight=WEAK,
            source=m.grad_norm.source,
            text=f"The gradient norm grows to {start.grad:.3g} times its first value meanwhile.",
        )
    if m.rate_ratio is not None and m.rate_ratio > limits["far"]:
        yield against("rate", m.rate_ratio, unit="times the usual rate", weight=STRONG, kind="config", source=m.lr_source,
                      text=f"The rate is {m.rate_ratio:.0f} times the usual one: too high throughout.")  # fmt: skip
    if loss.best < limits["recovered"] * first and loss.first_not_finite() is None:
        calm = m.lr_at(loss.step)[int(loss.smooth.argmin())] >= 0.3 * rate.highest
        yield supports(
            "recovered",
            loss.best / first,
            unit="of the first loss",
            weight=MODERATE + WEAK if calm else MODERATE,
            source=loss.source,
            text=f"Later it gets down to {loss.best:.3g}"
            + (", at much the same rate: only the start was too violent." if calm else ", and ends at " + f"{loss.tail:.3g}."),
        )
    elif loss.tail > first:
        yield against("never_recovered", loss.tail / first, unit="of the first loss", weight=STRONG, source=loss.source,
                      text="The loss never gets below its start: the rate is too high for the whole run.")  # fmt: skip


def damaged(damage: Damage) -> Run:
    """Return a Run with a loss and this damage, for examples."""
    from dataclasses import replace

    return replace(run_of(loss=[1.0, 0.5]), damages=(damage,))


def run_of(
    optimizer: OptimizerSpec | None = None, *, every: int = 1, precision: str | None = None, **quantities: Iterable[float]
) -> Run:
    """Return a Run made by hand, for examples: `run_of(OptimizerSpec("sgd", lr=0.1), loss=[3.0, 2.0])`.

    `quantities`: values by quantity, one every `every` steps from step 0; those of a layer as "grad_norm/fc1".
    """
    import numpy as np

    from traindoctor.model import Run, Series, Setting

    made = []
    for quantity, values in quantities.items():
        value = np.asarray(list(values), dtype=np.float64)
        step = np.arange(value.size, dtype=np.int64) * every
        of, _, layer = quantity.partition("/")
        made.append(Series(f"{of}_layer" if layer else of, quantity, step, value, np.full(value.size, np.nan), "example"))
    settings = {} if precision is None else {"precision": Setting(precision, "example")}
    return Run(
        name="example",
        path="example",
        root="",
        series=tuple(made),
        primary={s.quantity: s for s in made},
        settings=settings,
        optimizer=optimizer,
    )
