"""The inputs are far larger than the initial weights were made for.

## What it looks like
The very first loss, before any update, is many times ln C, and the first gradient norm many times what it is later. Both fall
within a few steps; then training is slow, or unstable, or stops at a poor level.

## Why it happens
Pixels from 0 to 255 in place of 0 to 1, a column in millimetres beside one in metres, dates in seconds, features far from
zero. Initial weights are drawn so that inputs of mean 0 and variance 1 keep their size through the layers. Larger ones make
large scores, sure and wrong. Where the units of the columns differ, the loss surface is a narrow valley, and one rate does
not fit all directions.

## How it is told
By the first point of the log: no update has been made, so that neither rate nor optimizer has a part in it. An initialisation
that is out of scale makes the same start: the two are told apart by the inputs' mean and deviation, which take one line to
print.

## When it is wrong
Losses that are sums, or have units of their own: regression has no ln C. Vocabularies of 100,000 words begin near 12. A log
whose first point comes late.

## What repairs it
Subtract the mean and divide by the standard deviation of each column, of the training part, and use the same numbers
everywhere; or a normalisation layer first.

## References
LeCun et al. 1998, Efficient backprop, section 4.3: inputs of mean 0 and like variance converge faster.
He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852: initial weights keep the variance of normalised inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    MODERATE,
    STRONG,
    WEAK,
    Cause,
    Example,
    Examples,
    Limits,
    Statement,
    Threshold,
    against,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements
    from traindoctor.signals.start import Start

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD510",
    name="inputs-not-normalised",
    summary="the inputs are far larger than the initial weights were made for",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("sum_falls", 30.0, "first loss over that at a tenth of the run", f"{STUDY}: losses that are sums 2.2 to 7.6"),
        Threshold("start", 6.0, "first loss of a classifier, nats", "ln 400; sound runs of the study at most 5.6"),
        Threshold(
            "falls", 4.0, "first loss over that at a tenth of the run", f"{STUDY}: faulty 6.7 to 91; large vocabularies below 4"
        ),
        Threshold(
            "falls_far", 2.0, "as falls, where the first loss is above any vocabulary", "arithmetic: it then ends below ln 700"
        ),
        Threshold("above_guess", 2.5, "first loss over the ln C at which it stands at the end", f"{STUDY}: faulty 3.1 to 84"),
        Threshold("vocabulary", 13.0, "first loss, nats", "ln 440,000: more classes than any vocabulary has"),
        Threshold(
            "later", 4.0, "loss at a tenth of the run, nats", f"{STUDY}: 0.15 to 3.0; losses that are sums over a batch 19 to 70"
        ),
        Threshold(
            "unmoved", 0.02, "largest change of the weight norm over its first value", "as for initialisation-out-of-scale"
        ),
        Threshold("few", 10.0, "classes", "ln 10 and ln 11 lie 4 % apart, as for inputs-ignored"),
        Threshold("rate", 20.0, "learning rate over the usual one", "a rate alone loses a loss within steps there"),
        Threshold("gradient", 8.0, "first gradient norm over its median later", f"{STUDY}: faulty 8.4 to 630"),
    ),
    explains=("TD201", "TD401", "TD509", "TD612", "TD617"),
    look_alikes=("TD614", "TD203"),
    experiment="print mean and standard deviation of the inputs, column by column, as the model gets them",
    refutation="Inputs of mean 0 and standard deviation 1 in every column.",
)


@CAUSE.in_logs(needs=("loss",))
def huge_start(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a first loss far above that of a guess, how fast it falls, and the first gradient."""
    from traindoctor.signals.levels import known_classes

    start = m.start
    if start is None or m.is_adversarial or m.run.step_unit != "step":
        return
    # of many classes any level is near some ln C, and a sum over pixels ends at any level
    error = m.loss.noise * m.loss.tail
    told = start.classes is not None and (start.classes <= limits["few"] or known_classes(m.loss.tail, error))
    stands = told and start.loss > limits["above_guess"] * m.loss.tail
    if not stands and not _falls_from_above(start, limits):
        return
    if stands:
        yield supports(
            "ends_at_guess",
            start.loss / m.loss.tail,
            unit="times ln C",
            weight=STRONG,
            source=m.loss.source,
            text=f"The loss came to stand at {m.loss.tail:.4g}, ln {start.classes}, the cost of a guess; it had begun "
            f"{start.loss / m.loss.tail:.3g} times as high, before any update.",
        )
    yield supports(
        "start",
        start.loss,
        unit="nats",
        weight=WEAK if stands else STRONG,
        onset=int(m.loss.step[0]),
        source=m.loss.source,
        text=f"The loss is {start.loss:.3g} before the first update; a guess among C classes costs ln C, which is 2.3 for ten.",
    )
    yield supports(
        "falls_at_once",
        start.over_later,
        unit="times the loss at a tenth of the run",
        weight=MODERATE,
        source=m.loss.source,
        text=f"It is down to {start.loss / start.over_later:.3g} at a tenth of the run: most of it was scale, not ignorance.",
    )
    if start.gradient > limits["gradient"]:
        yield supports(
            "gradient",
            start.gradient,
            unit="times its median later",
            weight=MODERATE,
            source=m.grad_norm.source,
            text=f"The first gradient norm is {start.gradient:.3g} times its median later.",
        )
    if m.has("weight_norm") and m.weight_norm.n >= 4 and m.weight_norm.relative_change < limits["unmoved"]:
        yield against(
            "weights",
            m.weight_norm.relative_change,
            unit="relative change",
            weight=MODERATE,
            source=m.weight_norm.source,
            text="The weight norm hardly moves against what it was at the start: the weights themselves were large.",
        )
    for key in ("batch_size", "gradient.accumulation_steps"):
        classes = start.classes_over(m.setting(key))
        if classes is not None and not stands and start.over_later < limits["sum_falls"]:
            yield against(
                "sum",
                start.loss,
                unit="nats",
                weight=STRONG,
                source=m.origin(key),
                text=f"Over {key} of {m.setting(key)} it is ln {classes}: the loss may be a sum where a mean was meant.",
            )
    if m.rate_ratio is not None and m.rate_ratio > limits["rate"]:
        yield against(
            "rate",
            m.rate_ratio,
            unit="times the usual rate",
            weight=STRONG,
            source=m.lr_source,
            text="The rate is so high that the loss may be lost within the first point, where that is a mean of several.",
        )


def _falls_from_above(start: Start, limits: Limits) -> bool:
    """Return whether a classifier begins above any usual number of classes, and is soon at a loss that is no sum over a batch."""
    falls = limits["falls_far"] if start.loss > limits["vocabulary"] else limits["falls"]
    high = start.is_classifier and start.loss >= limits["start"] and start.over_later >= falls
    return high and start.loss <= limits["later"] * start.over_later


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield to standardise the inputs."""
    from traindoctor.model import Fix

    yield Fix(
        "Standardise each input column: subtract its mean, divide by its standard deviation",
        note="with the numbers of the training part; pixels at least over 255",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    first = int(m.loss.step[0])
    return Statement(
        f"The first loss was {m.loss.value[0]:.3g}, before any update: the inputs are out of scale.",
        "A network with usual initial weights begins near ln C when its inputs have mean 0 and variance 1.",
        Segment(first, int(m.loss.step[-1]) + 1, first),
    )


@CAUSE.examples
def examples() -> Examples:
    """Give inputs out of scale; a sound classifier, a regression in its own unit, a large vocabulary, a divergence."""
    import numpy as np

    draw = np.random.default_rng(0)
    n = 300
    step = np.arange(n)
    noise = 1.0 + 0.05 * draw.standard_normal(n)
    right = 0.5 + 0.4 * step / n
    crash = 30.0 * np.exp(-step / 4.0) + 0.6
    norm = 40.0 * np.exp(-step / 4.0) + 1.0
    valid = (
        Example("a sound classifier", run_of(loss=(0.1 + 2.2 * np.exp(-step / 60.0)) * noise, accuracy=right)),
        Example("a regression in its own unit", run_of(loss=crash * noise, grad_norm=norm)),
        Example("a large vocabulary", run_of(loss=(3.0 + 8.0 * np.exp(-step / 60.0)) * noise, accuracy=right)),
        Example("a divergence after a usual start", run_of(loss=2.3 + 30.0 * (step > 3) * np.exp(-step / 30.0), accuracy=right)),
    )
    invalid = (
        Example("pixels of 0 to 255", run_of(loss=crash * noise, grad_norm=norm, accuracy=right)),
        Example("pixels of 0 to 255, no norm", run_of(loss=crash * noise, accuracy=right)),
    )
    return valid, invalid
