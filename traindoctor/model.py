"""The nouns that every layer speaks: frozen, built by hand in a test, and free of heavy imports.

Arrays are NumPy arrays. NumPy itself is imported by whoever makes one, so that `traindoctor --help` stays fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from traindoctor.code.events import LoopEvent, TrainingLoop
from traindoctor.mistake import Location, Severity

__all__ = ["Location", "LoopEvent", "Severity", "TrainingLoop"]  # beside what is defined here

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from traindoctor.report.provenance import Provenance

    FloatArray: TypeAlias = NDArray[np.float64]
    IntArray: TypeAlias = NDArray[np.int64]
    #: A setting of one run, or of many candidates along leading axes.
    FloatSetting: TypeAlias = float | NDArray[np.float64]
    BoolSetting: TypeAlias = bool | NDArray[np.bool_]

Verdict = Literal["failed", "suspicious", "healthy", "undecided"]
EvidenceKind = Literal["log", "config", "code", "state", "replay"]
ReplayDepth = Literal["open", "closed", "exact", "none"]
TrialVerdict = Literal["repairs", "postpones", "no effect", "worse", "not tried"]
#: Worst first.
VERDICTS: tuple[Verdict, ...] = ("failed", "suspicious", "undecided", "healthy")
StepUnit = Literal["step", "epoch", "row"]
DamageFamily = Literal["lost", "hidden-nan", "steps", "averaged", "constant", "quantised", "noted"]


# -- what was read ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """What all points of a series say, kept where the points themselves were thinned out.

    `stride`: usual distance of two steps, at least 1. `first`, `last`: values in file order, NaN of an empty series. `low`,
    `middle`, `high`: lowest, median and highest finite value, NaN where there is none. `first_bad`: step of the first NaN or
    infinity. `n_not_positive`: values that are zero or below.
    """

    n: int
    first_step: int | None
    last_step: int | None
    stride: int
    first: float
    low: float
    middle: float
    high: float
    last: float
    n_nan: int
    n_infinite: int
    first_bad: int | None
    n_not_positive: int


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One quantity of one run, in file order. NaN and infinities are data and stay.

    `step`: (n,) int64. `wall_time`: (n,) float64, seconds since the epoch, NaN where the log has none. `value`: (n,)
    float64. `quantity`: our name ("loss", "grad_norm", ...), or "" for a tag without a role. `tag`: as logged.
    `source`: the file, relative to the directory that was given. `whole`: what all points said, where a report of many runs
    has thinned them out; else None.
    """

    quantity: str
    tag: str
    step: IntArray
    value: FloatArray
    wall_time: FloatArray
    source: str = ""
    whole: Whole | None = None

    def __len__(self) -> int:
        return int(self.step.size)

    def finite(self) -> Series:
        """Return the points whose value is finite, as a Series; the same object when all are."""
        import numpy as np

        keep = np.isfinite(self.value)
        if keep.all():
            return self
        return Series(self.quantity, self.tag, self.step[keep], self.value[keep], self.wall_time[keep], self.source)


#: The quantiles that are kept of a logged distribution.
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """A distribution that was logged over the steps, in file order: the gradient or the weights of a layer.

    `step`: (n,) int64. `wall_time`: (n,) float64. `count`, `total`, `sum_squares`: (n,) float64, number of values, their
    sum, the sum of their squares; NaN where the log does not hold it. `quantile`: (n, len(QUANTILES)) float64, by linear
    interpolation within a bucket.
    """

    tag: str
    step: IntArray
    wall_time: FloatArray
    count: FloatArray
    total: FloatArray
    sum_squares: FloatArray
    quantile: FloatArray
    source: str = ""

    def __len__(self) -> int:
        return int(self.step.size)


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps `start <= step < stop`; `onset` is the step at which the change was made out."""

    start: int
    stop: int
    onset: int | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it stands: "config.yaml:12", "default of PyTorch", "first value of tag lr"."""

    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """Name and hyperparameters of one parameter group, with the origin of each value.

    `name` is lower case ("adam", "adamw", "sgd", "rmsprop", "adagrad", ...). What an optimizer does not have, and what
    is not known, is None. `dialect`: "torch", "keras" (epsilon-hat form), "optax", "paper". `origin`: field -> place.

    `alpha` is also Adadelta's rho and the power of ASGD's rate. `decoupled`: whether weight_decay stays out of the moments,
    where an optimizer leaves the choice. `eps2` to `scale_parameter` are Adafactor's, `eta_minus` to `step_max` Rprop's,
    `ns_steps` and `adjust_lr` Muon's. What each does stands with its recurrence in `optim/`.
    """

    name: str
    lr: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    alpha: float | None = None
    weight_decay: float | None = None
    amsgrad: bool | None = None
    dialect: str = "torch"
    decoupled: bool | None = None
    dampening: float | None = None
    centered: bool | None = None
    eps_root: float | None = None
    momentum_decay: float | None = None
    lr_decay: float | None = None
    initial_accumulator: float | None = None
    lambd: float | None = None
    eta_minus: float | None = None
    eta_plus: float | None = None
    step_min: float | None = None
    step_max: float | None = None
    eps2: float | None = None
    beta2_decay: float | None = None
    clip_threshold: float | None = None
    relative_step: bool | None = None
    scale_parameter: bool | None = None
    ns_steps: int | None = None
    adjust_lr: str | None = None
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_adaptive(self) -> bool:
        """Whether the update is divided by a running root mean square of the gradient."""
        return self.name in ADAPTIVE

    @property
    def is_adam(self) -> bool:
        """Whether first and second moment follow Adam's recurrences."""
        return self.name in ADAM_FAMILY


ADAM_FAMILY = frozenset({"adam", "adamw", "amsgrad", "nadam", "radam"})
ADAPTIVE = ADAM_FAMILY | {"rmsprop", "adagrad"}


@dataclass(frozen=True, slots=True)
class Damage:
    """What was lost or is doubtful in a file: the rest was read.

    `kind`: kebab-case ("truncated", "corrupt-record", "ragged-row", "duplicate-steps", "steps-go-back", ...).
    `offset`: byte offset in the file where that is known. `step`: the first step it concerns, where it concerns a series.
    """

    kind: str
    file: str
    detail: str
    offset: int | None = None
    step: int | None = None

    @property
    def family(self) -> DamageFamily:
        """Which of the integrity findings speaks of it."""
        return next((family for family, kinds in DAMAGE_FAMILIES.items() if self.kind in kinds), "lost")


#: Kinds of damage by the finding that speaks of them; every other kind is something that was lost. What is only
#: noted is told in the list of damages alone: settings that the training ran with, pictures and words beside the numbers.
DAMAGE_FAMILIES: Mapping[DamageFamily, frozenset[str]] = {
    "hidden-nan": frozenset({"hidden-nan", "blank-nan", "zero-for-nan"}),
    "steps": frozenset({"duplicate-steps", "steps-go-back", "no-step", "no-steps", "rewritten"}),
    "averaged": frozenset({"averaged", "sampled"}),
    "constant": frozenset({"constant-tail"}),
    "quantised": frozenset({"quantised"}),
    "noted": frozenset(
        {
            "number-as-text", "several-documents", "several-commands", "duplicate-key", "missing-base", "settings-change",
            "left-out", "lost-elsewhere", "deleted-run", "other-lines", "comment-line", "doubtful-loss", "steps-of-epochs",
            "steps-from-epochs", "fractional-steps", "appended-runs", "repeated-header", "checkpoint-not-read",
        }
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stitch:
    """How files, or parts of one, were put together into a run: nothing is joined, split or set aside unsaid.

    `kind`: kebab-case ("joined", "resumed", "began-again", "leftover", "attempts", "rank", "validation", "checkpoint",
    "same-run", "copy", "hyperparameters").
    `step`: where it begins, None when it has no place.
    """

    kind: str
    file: str
    detail: str
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: every series that was logged, its settings, and what is missing or damaged.

    `series`: in file order, all tags. `primary`: for each quantity the one series that speaks for it. `settings`: the
    one vocabulary of settings ("optimizer.lr", "schedule.warmup_steps", "batch_size", ...). `optimizer`: what the
    settings say of it, defaults of the framework filled in; None when nothing names one. `restarts`: first steps of a
    resumed or restarted process. `root`: the directory that paths in this object are relative to. `formats`: file ->
    name of the format it was read as.
    """

    name: str
    path: str
    root: str
    series: tuple[Series, ...]
    primary: Mapping[str, Series]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    optimizer: OptimizerSpec | None = None
    damages: tuple[Damage, ...] = ()
    restarts: tuple[int, ...] = ()
    step_unit: StepUnit = "step"
    files: tuple[str, ...] = ()
    config_files: tuple[str, ...] = ()
    code_files: tuple[str, ...] = ()
    checkpoint_files: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)
    histograms: tuple[Histogram, ...] = ()
    stitches: tuple[Stitch, ...] = ()


# -- what was concluded -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evidence:
    """For or against a cause: one measured number with unit and source, or a place in a file.

    `weight`: how much it says, in nats of log-odds, never negative; `supports` gives the sign.
    `onset`: the step at which it begins, where it has one.
    """

    supports: bool
    kind: EvidenceKind
    name: str
    text: str
    weight: float
    value: float | str | None = None
    unit: str = "1"
    source: str = ""
    onset: int | None = None
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class Rival:
    """Another cause that was considered, why it is not the first, and what would tell the two apart."""

    code: str
    name: str
    confidence: float
    why_not: str
    separating_experiment: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What the replay said of one change of settings; `before` and `after` are named figures, e.g. tail_loss_max."""

    depth: ReplayDepth
    verdict: TrialVerdict
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


NOT_TRIED = ReplayResult("none", "not tried")


@dataclass(frozen=True, slots=True)
class Fix:
    """A change of settings, or of code, its patch, and what the replay said of it; never applied unasked.

    `settings`: in the one vocabulary. `patch`: unified diff of the user's own file, or None. `title`: an imperative
    with old and new value. `note`: price, caveat, or why it could not be sized.
    """

    title: str
    settings: Mapping[str, object] = field(default_factory=dict)
    patch: str | None = None
    replay: ReplayResult = NOT_TRIED
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause made out in a run. `consequences`: codes of findings folded under this one.

    `run`: name of the run, as `Report.findings` gives it; "" in the findings of a `RunReport`.
    """

    code: str
    name: str
    severity: Severity
    confidence: float
    title: str
    message: str
    segment: Segment | None = None
    evidence: tuple[Evidence, ...] = ()
    locations: tuple[Location, ...] = ()
    rivals: tuple[Rival, ...] = ()
    consequences: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    refutation: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A named line of a figure: `step` (n,) int64, `value` (n,) float64, and optionally the spread around it.

    `role`: "observed", "reproduced", "counterfactual", "limit" or "forecast". `whole`: as that of a Series. `low`, `high`: (n,)
    the interval about each value, None where there is none; `interval`: which one that is, in words.
    """

    name: str
    role: str
    step: IntArray
    value: FloatArray
    whole: Whole | None = None
    low: FloatArray | None = None
    high: FloatArray | None = None
    interval: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One candidate change tried on the replay, from the start of the log.

    `tail_max`: highest loss above the floor in the last sixth of the run. `slower`: steps until the loss comes within
    the run's own best, over those of the recorded settings; None when it never does. `loss`: the simulated curve.
    `tail_interval`: 5th and 95th percentile of the tail over the posterior draws; `sureness`: share of the draws that give
    this verdict. Both None where nothing was drawn.
    """

    title: str
    settings: Mapping[str, object]
    verdict: TrialVerdict
    tail_max: float
    slower: float | None
    loss: Curve
    note: str = ""
    tail_interval: tuple[float, float] | None = None
    sureness: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """A cause that was simulated on the run, and how well it explains the log.

    `code`: of the cause, "" for a healthy run. `log_likelihood`: in nats, of the logged loss (and gradient norm) at the best
    fit, less what its free numbers cost. `share`: its posterior among the causes that were simulated, 0 to 1. `error`: median
    distance to the logged loss in decades. `curve`: its loss at the logged steps. `note`: what was fitted, or why it was not.
    """

    code: str
    name: str
    log_likelihood: float
    share: float
    error: float
    curve: Curve | None
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The recurrence run again over a segment, against what was logged.

    `reproduces`: whether the error is within `bound`; without it no counterfactual is claimed. `error` and `residual`
    are in decades (log10 of reproduced over observed loss); `error` is the median over the segment. `refusal`: why
    nothing is claimed, empty when it reproduces. `trials`: the recorded settings first. `hypotheses`: the causes that
    were simulated, the likeliest first.
    """

    depth: ReplayDepth
    model: str
    segment: Segment
    observed: Curve
    reproduced: Curve | None
    residual: Curve | None
    error: float
    bound: float
    reproduces: bool
    refusal: str = ""
    trials: tuple[Trial, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class VitalSign:
    """One small figure of the optimizer's state over the run: observed, and with the first fix where it was tried.

    `limit`: the value that theory gives as the bound of health, with its name; None when theory gives none.
    `limit_is_bound`: False for a value to compare with, which may be crossed without harm.
    """

    name: str
    explanation: str
    curves: tuple[Curve, ...]
    log_scale: bool
    limit: float | None = None
    limit_name: str = ""
    unit: str = "1"
    limit_is_bound: bool = True


@dataclass(frozen=True, slots=True)
class NotChecked:
    """A rule that stayed silent because it could not look, with the reason."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """What is said of one run; `findings` is ordered, the first is the diagnosis.

    `provenance`: the files it rests on and how it was made, None where nobody asked for that.
    """

    run: Run
    verdict: Verdict
    summary: str
    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    not_checked: tuple[NotChecked, ...]
    gaps: tuple[str, ...] = ()
    replay: Replay | None = None
    vital_signs: tuple[VitalSign, ...] = ()
    provenance: Provenance | None = None

    def __repr__(self) -> str:
        return f"<RunReport: {self.run.name!r}, {self.verdict}, {len(self.findings)} findings>"


@dataclass(frozen=True, slots=True)
class Separation:
    """A setting that separates the runs that failed from those that are sound.

    `key`: of the setting. `rule`: which of its values stand on the failing side: ">= 0.03", "= adam". `failed_inside` of
    `n_inside` runs on that side failed, `failed_outside` of `n_outside` on the other. `p_split`: Fisher's exact test of this
    split, two-sided. `p_setting`: with the choice of the best split allowed for, by permutation. `p_value`: after Holm's
    correction for all settings that were tried. `confounded`: settings that the runs cannot tell from this one.
    """

    key: str
    rule: str
    failed_inside: int
    n_inside: int
    failed_outside: int
    n_outside: int
    p_split: float
    p_setting: float
    p_value: float
    text: str
    confounded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommonCause:
    """The runs of a sweep whose first cause is one, and which settings set them apart from the sound ones.

    `code`: of the cause, "" for runs that failed for several causes, none of which has enough runs of its own.
    """

    code: str
    name: str
    runs: tuple[str, ...]
    separations: tuple[Separation, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Across:
    """What several runs say together. `left_out`: runs that are neither failed nor sound. `n_settings`: settings that differ."""

    failed: tuple[str, ...]
    sound: tuple[str, ...]
    left_out: tuple[str, ...]
    n_settings: int
    causes: tuple[CommonCause, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What is said of all runs, in the order of the paths that were given, those under one path by name.

    `problems`: packs that failed to load.

    `names`: code -> name of every cause that was loaded, so that codes can be shown with their names. `across`: what the runs
    say together, None for a single one.

    It prints as the verdict of the terminal, and shows itself in a notebook. What renders it is imported when it is asked for.
    """

    runs: tuple[RunReport, ...]
    version: str
    problems: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    across: Across | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the runs: failed, suspicious, undecided, healthy; "undecided" where there is no run."""
        return min((run.verdict for run in self.runs), key=VERDICTS.index, default="undecided")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, each with the name of its run in `.run`: the worst run first, in each run the diagnosis first."""
        from traindoctor.report.view import diagnosis_first, in_order

        return tuple(replace(finding, run=one.run.name) for one in in_order(self) for finding in diagnosis_first(one).findings)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row a finding, and one for each run without any; `report/frame.py` states the columns."""
        from traindoctor.report.frame import frame_of

        return frame_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as the object of `--format json`: dicts, lists, strings and finite numbers."""
        from traindoctor.report.to_json import to_json

        return to_json(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the text of `--format json`, written to `path` too where one is given.

        Raises: UnreadableInputError when the place cannot be written.
        """
        from traindoctor.report.saving import json_of, write

        return write(json_of(self), path)

    def to_html(self, path: str | os.PathLike[str] | None = None, *, open_in_browser: bool = False) -> str:
        """Return the report as one HTML page, written to `path` too where one is given.

        Of several runs it is their index; where it is written, each run has a page in the folder `<stem>-runs` beside it.
        `open_in_browser` shows the written page.

        Raises: UnreadableInputError when the place cannot be written; ConfigError for a page that is to be opened and has no
        place; TraindoctorError when a page would be larger than one may be.
        """
        from traindoctor.report.saving import html_of

        return html_of(self, path, open_in_browser=open_in_browser)

    def to_markdown(self) -> str:
        """Return the text of `--format markdown`."""
        from traindoctor.report.markdown import render_markdown

        return render_markdown(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report in the form that the suffix names: .html, .json, .jsonl, .md, .sarif or .txt.

        Raises: ConfigError for another suffix, UnreadableInputError when the place cannot be written.
        """
        from traindoctor.report.saving import save

        save(self, path)

    def show(self, height: int = 720) -> None:
        """Show the whole page in a notebook, in a sandboxed frame of `height` pixels.

        Raises: ConfigError outside of a notebook.
        """
        from traindoctor.report.notebook import show

        show(self, height)

    def __str__(self) -> str:
        from traindoctor.report.text import render_text

        return render_text(self).rstrip("\n")

    def __repr__(self) -> str:
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        n = sum(len(run.findings) for run in self.runs)
        return f"<Report: {runs}, {self.verdict}, {n} {'finding' if n == 1 else 'findings'}>"

    def _repr_html_(self) -> str:
        from traindoctor.report.notebook import card

        return card(self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()
