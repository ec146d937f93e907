"""One term of the loss is so large that the optimizer sees no other.

## What it looks like
The total falls well, and nearly all of it is one term, from the start, tens to thousands of times its fellows. Of the others some
hardly fall, or much more slowly: seen only where the terms are logged one by one.

## Why it happens
Terms of different units were added up: pixels squared beside a cross-entropy, a sum beside a mean. What all share (the stem, the
clip of the gradient, the second moment) then follows the largest gradient alone.

## When it is wrong
Small terms are mostly meant to be small: regularisers, balancing and auxiliary losses need not fall. A term that is logged
without its weight may weigh little. Terms that are unequal and all fall are no fault.

## What repairs it
Weights that bring the terms to one size, targets that are standardised, or learned weights.

## References
Kendall et al. 2018, Multi-task learning using uncertainty to weigh losses, arXiv:1705.07115.
Chen et al. 2018, GradNorm, arXiv:1711.02257.
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
    from traindoctor.signals.terms import Dominance, Term

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD615",
    name="one-term-dominates",
    summary="one term of the loss is so large that the optimizer sees no other",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("most", 0.95, "share of the largest term, median over the first half", STUDY),
        Threshold("all", 0.99, "share of the largest term, median over the first half", STUDY),
        Threshold(
            "large", 30.0, "first level of the largest term", "above ln C of any vocabulary, and any standardised variance"
        ),
        Threshold("least", 0.01, "first level of a term that is meant to fall", "smaller ones are regularisers"),
        Threshold("stands", 0.7, "last over first level of a term that does not fall", STUDY),
        Threshold("slower", 4.0, "what is left of a term over what is left of the largest", STUDY),
        Threshold("rises", 1.3, "last over first level of a term that rises", STUDY),
    ),
    explains=("TD201",),
    experiment="log the gradient norm of each term by itself at one step",
    refutation="Gradients of the terms that are of one size.",
)


def _starved(found: Dominance, limits: Limits) -> list[Term]:
    """Return the terms of a usual size that stand, or fall far more slowly than the largest; what stands most first."""
    usual = [t for t in found.others if limits["least"] <= t.first <= found.largest.first / 10.0 and t.left < limits["rises"]]
    slow = [t for t in usual if t.left > limits["stands"] or t.left > limits["slower"] * found.largest.left]
    return sorted(slow, key=lambda t: -t.left)


@CAUSE.in_logs(needs=("loss_term",))
def dominates(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a term that is nearly all of the loss, and others that get nowhere beside it."""
    from traindoctor.signals.terms import dominance

    found = dominance(m)
    if found is None or m.is_adversarial:
        return
    largest = found.largest
    if largest.share < limits["most"] or largest.first < limits["large"]:
        if largest.share < 0.9:
            yield against(
                "share",
                largest.share,
                unit="share of the loss",
                weight=STRONG,
                source=largest.source,
                text=f"The largest term, {largest.tag}, is {largest.share:.0%} of the loss.",
            )
        return
    yield supports(
        "share",
        largest.share,
        unit="share of the loss",
        weight=STRONG if largest.share > limits["all"] else MODERATE + WEAK,
        source=largest.source,
        text=f"{largest.tag} is {largest.share:.1%} of the loss, and begins at {largest.first:.3g}.",
    )
    starved = _starved(found, limits)
    if starved:
        term = starved[0]
        yield supports(
            "starved",
            term.left,
            unit="last / first level",
            weight=STRONG if term.left > limits["stands"] else MODERATE + WEAK,
            source=term.source,
            text=f"Of {term.tag} {term.left:.0%} is left, of {largest.tag} {largest.left:.2g}.",
        )
    elif found.others:
        yield against(
            "others",
            len(found.others),
            unit="terms",
            weight=STRONG,
            source=largest.source,
            text="The other terms fall as well.",
        )


@CAUSE.fixes
def weigh(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the weight that brings the largest term to the size of the others."""
    from traindoctor.model import Fix
    from traindoctor.signals.terms import dominance

    found = dominance(m)
    if found is None or not found.others or not found.largest.first > 0.0:
        return
    weight = max(term.first for term in found.others) / found.largest.first
    yield Fix(
        f"Multiply {found.largest.tag} by {weight:.1g}",
        {"loss.weights": {found.largest.tag: float(f"{weight:.1g}")}},
        note="it then begins at the level of the largest of the others; standardised targets do the same",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment
    from traindoctor.signals.terms import dominance

    found = dominance(m)
    name = found.largest.tag if found is not None else "one term"
    step = m.run.primary["loss_term"].step
    return Statement(
        f"Nearly all of the loss was {name}: the optimizer saw no other term.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(int(step[0]), int(step[-1]) + 1, int(step[0])),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    import numpy as np

    from traindoctor.model import Run, Series

    def with_terms(**terms: Sequence[float]) -> Run:
        made = []
        for name, values in terms.items():
            value = np.array(values, dtype=np.float64)
            made.append(Series("loss_term", name, np.arange(value.size), value, np.full(value.size, np.nan), "example"))
        base = run_of(loss=[sum(row) for row in zip(*terms.values(), strict=True)])
        return replace(base, series=(*base.series, *made), primary={**base.primary, "loss_term": made[0]})

    big, flat = [2000.0 * 0.9**k + 5.0 for k in range(60)], [1.5 - 0.002 * k for k in range(60)]
    fall, small = [1.5 * 0.93**k + 0.01 for k in range(60)], [0.001] * 60
    valid = (
        Example("terms of one size", with_terms(box_loss=fall, cls_loss=[2.0 * v for v in fall])),
        Example("a regulariser that stands", with_terms(ce_loss=fall, reg_loss=small)),
        Example("a large term, and all fall", with_terms(box_loss=big, cls_loss=[2.0 * 0.85**k for k in range(60)])),
        Example("a small balancing term", with_terms(lm_loss=[8.0 * 0.97**k + 2.0 for k in range(60)], router_loss=[0.02] * 60)),
        Example("a divergence that grows", with_terms(rec_loss=big, kl_loss=[0.1 + 0.2 * k for k in range(60)])),
        Example("one term", with_terms(box_loss=big)),
        Example("three points", with_terms(box_loss=big[:3], cls_loss=flat[:3])),
    )
    invalid = (Example("a term of thousands beside one that stands", with_terms(box_loss=big, cls_loss=flat)),)
    return valid, invalid
