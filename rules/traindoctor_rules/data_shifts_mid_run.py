"""From one step on the training data are others: harder, noisier, or prepared in another way.

## What it looks like
The training loss steps up from one point to the next, and goes on from the higher level. No spike comes before it, the learning
rate does not change, and the held-out loss, whose data are the same as ever, hardly moves.

## Why it happens
Shards were mixed within themselves and not with each other; a new source begins; a stream came to its end and starts again with
another filter; an augmentation or a label fix was switched on; a mixture has weights that were set by hand and change.

## How it is told
An instability grows over steps, shoots far above the level at which it stays, its gradient norm leads, and the held-out loss
goes with it. Lost optimizer state or a
changed rate stands at a boundary that the log shows. A curriculum steps up as well, on purpose: there the loss falls from the
new level, and the held-out loss with it.

## When it is wrong
Changes of data that are meant. A loss that is computed in another way from one step on. Where neither gradient norm nor held-
out loss is logged, the step alone is seen. One within the last eight points is not judged.

## What repairs it
Mix the whole set before it is cut into shards, or draw from all sources in each batch. Log which source or shard each batch is
from, and compare the step with where a new one begins.

## References
Hall et al. 2025, Marin 32B retrospective (marin.community): a linear congruential shuffle left long stretches of one kind, seen
as
a phase shift of the training loss while evaluations stayed.
Bengio et al. 2009, Curriculum learning, ICML: the change that is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    MODERATE,
    PROOF,
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

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD508",
    name="data-shifts-mid-run",
    summary="from one step on the training data are others",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("fine", 30, "logged points", "with fewer, the first one is often a mean over an epoch"),
        Threshold("hot", 20.0, "learning rate over the usual one", f"{STUDY}: rates of 80 times the usual one step up alike"),
        Threshold(
            "clear", 4.5, "size over the spread of such differences elsewhere", f"{STUDY}: faulty 4.5 to 40, sound below 4.1"
        ),
        Threshold("size", 0.3, "log of the level after over the level before", f"{STUDY}: faulty 0.40 to 4.4"),
        Threshold("sudden", 0.85, "share of the size within two points", f"{STUDY}: faulty 0.93 to 1.5, sound at most 0.84"),
        Threshold("least_kept", 0.6, "share of the size that is left at the end", f"{STUDY}: faulty 0.77 to 1.03"),
        Threshold("most_kept", 1.3, "the same; above it the loss goes on rising", f"{STUDY}: missing zero_grad 1.4 to 2.6"),
        Threshold(
            "floor",
            1e-3,
            "level before over the first loss",
            f"{STUDY}: below it lie exact fits, which leave their floor by themselves",
        ),
        Threshold("points", 8, "logged points after the step", "with fewer nobody knows whether it stays"),
        Threshold(
            "overshoot",
            4.0,
            "highest of the ten points after the step over the level there",
            f"{STUDY}: faulty at most 2.6; an instability of a public log 46",
        ),
        Threshold("climb", 3, "points that rise in a row ahead of the largest rise", "by chance one in 24, and then by little"),
        Threshold("climbed", 0.7, "log of the last of these over the first", f"{STUDY}: faulty at most 0.36"),
        Threshold(
            "lost", 0.85, "level after over the first loss", f"{STUDY}: faulty classifiers at most 0.82, units that die 0.99"
        ),
        Threshold("led", 5.0, "gradient norm before the step over its median", f"{STUDY}: faulty at most 3.8"),
        Threshold(
            "held_out",
            0.55,
            "rise of the held-out loss over that of the training loss",
            f"{STUDY}: faulty 0 to 0.43, units that die from 0.75",
        ),
        Threshold("hardly", 0.25, "the same", f"{STUDY}: half of the faulty ones are below"),
        Threshold(
            "better",
            -0.08,
            "log of the held-out loss after over before",
            f"{STUDY}: curricula -0.11 to -1.6, faulty from -0.04 on",
        ),
        Threshold("long", 0.3, "share of the run after the step", "longer than lost state takes to come back"),
        Threshold("lowest", 0.02, "level after over the first loss", "below it dropout makes steps: sound runs to 0.015"),
        Threshold("rate", 0.1, "log of the learning rate after over before", "definition: the rate was changed"),
    ),
    look_alikes=("TD201", "TD219", "TD805", "TD612"),
    experiment="log the source or shard of each batch, or evaluate a checkpoint from before the step on batches from after it",
    refutation="A checkpoint from before the step that has the low loss on batches from after it.",
)


@CAUSE.in_logs(needs=("loss",))
def steps_up(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the step up, that it stays, and what held-out loss, gradient and rate did there."""
    shift = m.shift
    if shift is None or m.is_adversarial or shift.before < limits["floor"] * m.loss.value[0]:
        return
    if (
        shift.points < limits["points"]
        or shift.clear < limits["clear"]
        or shift.size < limits["size"]
        or shift.sudden < limits["sudden"]
    ):
        return
    if not limits["least_kept"] <= shift.kept <= limits["most_kept"] or shift.after < limits["lowest"] * m.loss.value[0]:
        return
    where = m.name_of(shift.step)
    yield supports(
        "step_up",
        shift.after / shift.before,
        unit="times the level before",
        weight=STRONG,
        onset=shift.step,
        source=m.loss.source,
        text=f"The training loss steps from {shift.before:.3g} to {shift.after:.3g} at {where}, within two logged points.",
    )
    yield supports(
        "stays",
        shift.kept,
        unit="of the step left at the end",
        weight=STRONG if shift.left > limits["long"] else MODERATE,
        source=m.loss.source,
        text=f"It goes on from there for {shift.left:.0%} of the run: it neither comes back nor grows further.",
    )
    if shift.overshoot > limits["overshoot"]:
        yield against(
            "overshoot",
            shift.overshoot,
            unit="times the level after",
            weight=STRONG,
            source=m.loss.source,
            text="It first goes far above where it stays: a blow-up that comes down again, not other data.",
        )
    if shift.climb >= limits["climb"] and shift.climbed > limits["climbed"]:
        yield against(
            "climb",
            shift.climb,
            unit="points",
            weight=STRONG,
            source=m.loss.source,
            text=f"The loss rises over {shift.climb} points ahead of the step: it grew by itself, other data come at once.",
        )
    again = shift.after / float(m.loss.value[0])
    if again > limits["lost"]:
        near = again < 1.0 / limits["lost"] and m.loss.n >= limits["fine"]  # the mean over a first epoch is no start
        yield against(
            "lost",
            again,
            unit="of the first loss",
            weight=PROOF if near else STRONG if m.loss.n >= limits["fine"] else MODERATE,
            source=m.loss.source,
            text="It is back where it began, or above: what was learned is lost, which other data do not do at once.",
        )
    yield from _beside(m, limits)


def _beside(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield what else moved at the step, or did not."""
    shift, seen = m.shift, m.beside_shift
    assert shift is not None
    assert seen is not None
    if abs(seen.rate) > limits["rate"]:
        yield against(
            "rate",
            seen.rate,
            unit="log",
            weight=STRONG,
            source=m.lr_source,
            text="The learning rate changes at the same step.",
        )
    elif abs(seen.rate) <= limits["rate"]:
        yield supports(
            "rate", seen.rate, unit="log", weight=WEAK, source=m.lr_source, text="The learning rate does not change there."
        )
    if m.rate_ratio is not None and m.rate_ratio > limits["hot"]:
        yield against(
            "hot",
            m.rate_ratio,
            unit="times the usual rate",
            weight=STRONG,
            source=m.lr_source,
            text="At so high a learning rate a part of what was learned is lost at once, now and then.",
        )
    if seen.batch == seen.batch and abs(seen.batch) > limits["rate"]:
        yield against(
            "batch",
            seen.batch,
            unit="log",
            weight=PROOF,
            source=m.series("batch_size").source,
            text="The batch size changes at the same step.",
        )
    reach = 2.0 * m.loss.stride + 1.0
    if any(abs(r - shift.step) <= reach for r in m.run.restarts):
        yield against(
            "restart",
            shift.step,
            unit="step",
            weight=STRONG,
            source=m.loss.source,
            text="The run was resumed there: what begins at a boundary has its cause at the boundary.",
        )
    if seen.gradient_led > limits["led"]:
        yield against(
            "gradient_led",
            seen.gradient_led,
            unit="times its median",
            weight=STRONG,
            source=m.grad_norm.source,
            text="The gradient norm jumped before the loss did: an instability, or a single bad batch.",
        )
    elif seen.gradient_led <= limits["led"]:
        yield supports(
            "gradient_led",
            seen.gradient_led,
            unit="times its median",
            weight=WEAK,
            source=m.grad_norm.source,
            text="The gradient norm gave no sign before the step.",
        )
    if seen.validation < limits["better"]:
        yield against(
            "held_out",
            seen.validation,
            unit="log",
            weight=STRONG,
            source=m.series("val_loss").source,
            text="The held-out loss falls with it: data that were added on purpose would do that.",
        )
    elif seen.held_share < limits["held_out"]:
        yield supports(
            "held_out",
            seen.held_share,
            unit="of the step",
            weight=STRONG if seen.held_share < limits["hardly"] else MODERATE,
            source=m.series("val_loss").source,
            text="The held-out loss, of the same data as before, moves far less.",
        )
    elif seen.held_share >= limits["held_out"]:
        yield against(
            "held_out",
            seen.held_share,
            unit="of the step",
            weight=PROOF,
            source=m.series("val_loss").source,
            text="The held-out loss steps up as well: it is the model that changed.",
        )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield to mix the sources."""
    from traindoctor.model import Fix

    shift = m.shift
    yield Fix(
        "Draw each batch from all sources, mixed before they are cut into shards",
        note=f"see what the batches are from before and after {m.name_of(shift.step)}" if shift is not None else "",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    shift = m.shift
    assert shift is not None
    return Statement(
        f"The training data changed at {m.name_of(shift.step)}: the loss stepped up and stayed.",
        f"The training loss went from {shift.before:.3g} to {shift.after:.3g} at once, and nothing in the optimizer did.",
        Segment(shift.step, int(m.loss.step[-1]) + 1, shift.step),
    )


@CAUSE.examples
def examples() -> Examples:
    """Give a new source of data; a sound run, a spike, a divergence, a raised rate, a curriculum that is learned."""
    import numpy as np

    draw = np.random.default_rng(0)
    n = 500
    step = np.arange(n)
    loss = (0.2 + 2.0 * np.exp(-step / 60.0)) * (1.0 + 0.05 * draw.standard_normal(n))
    late = step >= 280
    held = loss[::20] * 1.1
    grown = loss * np.exp(np.maximum(step - 280, 0) / 25.0)
    raised = np.where(late, 1e-2, 1e-3)
    learned = np.where(late, loss + 1.2 * np.exp(-(step - 280.0) / 60.0), loss)
    valid = (
        Example("a sound run", run_of(loss=loss)),
        Example("a step near the end", run_of(loss=(loss * np.where(step >= 430, 4.0, 1.0))[::10], every=10)),
        Example(
            "an instability", run_of(loss=loss * np.where(late, 4.0 + 100.0 * np.exp(-np.maximum(step - 280, 0) / 3.0), 1.0))
        ),
        Example("one spike", run_of(loss=np.where(step == 280, 3.0, loss))),
        Example("a divergence", run_of(loss=grown)),
        Example("a rate that is raised", run_of(loss=loss * np.where(late, 4.0, 1.0), learning_rate=raised)),
        Example("a curriculum that is learned", run_of(loss=learned)),
    )
    invalid = (
        Example("a new source", run_of(loss=loss * np.where(late, 4.0, 1.0), learning_rate=np.full(n, 1e-3))),
        Example("a new source, norms", run_of(loss=loss * np.where(late, 4.0, 1.0), grad_norm=1.0 + 0.1 * draw.random(n))),
        Example("a new source, few points", run_of(loss=(loss * np.where(late, 4.0, 1.0))[::10], val_loss=held[::2], every=10)),
    )
    return valid, invalid
