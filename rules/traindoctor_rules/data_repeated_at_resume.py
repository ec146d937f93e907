"""A restart began the data anew: the run sees again what it has seen, and other data never or late.

## What it looks like
After a restart the loss repeats, batch for batch, the pattern of an earlier stretch. The training loss steps down, since that
data is known, and later up again to a plateau when new data come: a spike that is none. The held-out loss gains nothing
meanwhile, and rises where a job that is stopped often begins at the same batch each time.

## Why it happens
A checkpoint holds weights and optimizer, but not the position in the data. With a fixed seed each process draws the same order
from its beginning.

## How it is told
Each batch has a difficulty of its own. Without its slow part the loss behind the restart is laid on every earlier stretch;
where the same batches come in the same order the two agree far beyond chance. Data that are never shuffled agree at every
epoch, not at the restart alone (TD501).

## When it is wrong
A restart at the end of an epoch with a fixed seed repeats an order and harms little. A log that holds every k-th step shows the
repetition only if the restart fell on a multiple of k.

## What repairs it
Save the position: a stateful loader (`StatefulDataLoader`), `skip_first_batches` of Accelerate, a sampler seeded by epoch and
step.

## References
Bekman, Machine Learning Engineering, "Understanding training loss patterns": a resumed run that reads again what it has seen.
PyTorch, torchdata documentation, StatefulDataLoader. Accelerate documentation, "Checkpointing": skip_first_batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
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

    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD806",
    name="data-repeated-at-resume",
    summary="a restart began the data anew: the run sees again what it has seen",
    explanation=__doc__,
    severity="warning",
    explains=("TD704", "TD805"),
    thresholds=(
        Threshold("alike", 0.3, "correlation of two stretches without their slow parts", "benchmarks/study, tuning part"),
        Threshold(
            "everywhere", 0.5, "of that correlation, at the same distance before the restart", "definition: data in one order"
        ),
    ),
    experiment="print the indices of the first batch after the restart, and look for them in the first epoch",
    refutation="A first batch after the restart that the run had not seen in this epoch.",
)


@CAUSE.in_logs(needs=("loss",))
def repeats_itself(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the earlier stretch that comes again from a restart on."""
    from traindoctor.signals.boundaries import boundaries, repetition

    if m.is_adversarial:
        return
    marked = boundaries(m.run)
    ends = [*(b.step for b in marked[1:]), None]
    found = [r for b, end in zip(marked, ends, strict=False) if (r := repetition(m.loss, b.step, end, marked[0].step))]
    again = [r for r in found if r.correlation > max(limits["alike"], r.chance)]
    if not again:
        return
    best = max(again, key=lambda r: r.correlation - r.chance)
    if best.before > limits["everywhere"] * best.correlation:
        yield against(
            "everywhere",
            best.before,
            unit="correlation",
            weight=PROOF,
            source=m.loss.source,
            text="The same pattern comes again at this distance before any restart: the data never change their order.",
        )
        return
    yield supports(
        "repeats",
        best.correlation,
        unit="correlation",
        weight=PROOF,
        onset=best.start,
        source=m.loss.source,
        text=f"From the restart at step {best.start:,} on, {best.n:,} losses repeat the pattern of those from step "
        f"{best.earlier:,} on: correlation {best.correlation:.2f}, where chance reaches {best.chance:.2f} at most.",
    )
    if len(again) > 1:
        yield supports(
            "again",
            len(again),
            unit="restarts",
            weight=STRONG,
            source=m.loss.source,
            text=f"{len(again)} of {len(found)} restarts do so.",
        )


@CAUSE.in_logs(needs=("loss", "val_loss"))
def known_data_teach_nothing(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a held-out loss that rises over the restarts while the training loss falls, where a repetition was seen."""
    if not any(e.supports for e in repeats_itself(m, limits)):
        return
    val, loss = m.series("val_loss"), m.loss
    if val.n >= 4 and val.is_positive and val.tail > 1.1 * val.best and loss.tail < loss.initial:
        yield supports(
            "val_loss",
            val.tail / val.best,
            unit="times its best",
            weight=MODERATE,
            source=val.source,
            text=f"The validation loss ends at {val.tail:.3g} after {val.best:.3g}, though the training loss falls.",
        )


@CAUSE.fixes
def keep_the_place(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the position that is to be saved."""
    from traindoctor.model import Fix

    del m, limits
    yield Fix(
        "Save the position in the data with the checkpoint, and skip the batches that were seen",
        note="StatefulDataLoader.state_dict(), accelerator.skip_first_batches(loader, n), or a sampler seeded by epoch and step",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    return Statement(
        f"The restart at {m.name_of(onset)} began the data anew: the run saw again what it had seen.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.loss.step[-1]) + 1, onset),
    )


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1] that does not repeat soon."""
    return ((k * k * 40503 + k * 2654435761) % 8191) / 4095.5 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)

    def resumed(run: Run, *steps: int) -> Run:
        return replace(run, restarts=steps)

    def losses(difficulty: list[int]) -> list[float]:
        return [(0.5 + 2.0 * 0.99**k) * (1.0 + 0.2 * _wave(d)) for k, d in enumerate(difficulty)]

    on, again = list(range(300)), [*range(180), *range(120)]
    valid = (
        Example("goes on where it was", resumed(run_of(adam, loss=losses(on)), 180)),
        Example("not resumed", run_of(adam, loss=losses(again))),
        Example("one order of the data in every epoch", resumed(run_of(adam, loss=losses([k % 60 for k in range(300)])), 180)),
        Example("a smooth descent", resumed(run_of(adam, loss=[2.0 * 0.99**k for k in range(300)]), 180)),
        Example("too short", resumed(run_of(adam, loss=losses(again)[:190]), 180)),
        Example("constant", resumed(run_of(adam, loss=[1.0] * 300), 180)),
    )
    invalid = (
        Example("begins anew", resumed(run_of(adam, loss=losses(again)), 180)),
        Example("begins anew twice", resumed(run_of(adam, loss=losses([*range(100)] * 3)), 100, 200)),
    )
    return valid, invalid
