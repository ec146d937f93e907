"""The training set is learned by heart, softmax is saturated, and an adaptive optimizer throws the weights out again and again.

## What it looks like
The loss falls below 1e-5. Then it shoots up within a few steps, often to the size of its start, comes down again, and does so
several times. With each flight the weight norm takes a step up; in between it hardly moves.

## Why it happens
A cross-entropy has no minimum: it falls for ever as the logits grow. The gradients of a saturated softmax vanish, v decays, and
the effective rate lr / sqrt(v) grows until the step is unstable: the mechanism of TD101, on a loss that can always be fitted
again. In low precision 1 - p rounds to 0, the gradient is exactly 0, and v vanishes the faster.

## When it is wrong
A bad batch (TD507) throws the loss up at the same place of each epoch, and the weight norm does not keep the step. A regression
that leaves its floor stays above it (TD101). Training accuracy of 1 and a held-out loss of interest only before that: stop
there.

## What repairs it
Stop when the training set is learned; else weight decay or label smoothing, which give the loss a minimum, an eps of the size of
sqrt(v), or a learning rate that decays. Logits in float32.

## References
Thilak et al. 2022, The slingshot mechanism, arXiv:2206.04817, section 3 and figure 1. Cohen et al. 2022, arXiv:2207.14484 (the
limit). Prieto et al. 2025, Grokking at the edge of numerical stability, arXiv:2501.04697 (softmax collapse).
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

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD411",
    name="saturated-softmax-slingshot",
    summary="a training set known by heart saturates softmax, and the loss shoots up again and again",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("steps_up", 0.5, "share of the flights with which the weight norm moves", "benchmarks/study, tuning part"),
        Threshold(
            "grown", 1.05, "weight norm at the end over that when the loss was first saturated", "benchmarks/study, tuning part"
        ),
        Threshold("calm", 0.2, "share of the run spent below a thousandth", "definition: the set is known by heart"),
    ),
    explains=("TD101", "TD102", "TD201", "TD319", "TD507"),
    look_alikes=("TD101",),
    experiment="log the smallest probability of a right label: 1 - 1e-7 and more before each flight",
    refutation="The same flights under SGD.",
)


@CAUSE.in_logs(needs=("loss",))
def flies_up(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the flights of a loss that was almost 0."""
    from traindoctor.signals.precision import SATURATED, slingshots

    if m.is_adversarial or m.loss.n < 24:
        return
    loss, spec = m.loss, m.run.optimizer
    flights = slingshots(loss)
    calm = float((loss.value < SATURATED).mean())
    if not flights.size or calm < limits["calm"]:
        return
    first = int(flights[0])
    yield supports(
        "flights",
        int(flights.size),
        unit="times",
        weight=STRONG if flights.size >= 2 else MODERATE,
        onset=first,
        source=loss.source,
        text=f"The loss is almost 0, and shoots up at step {first:,}"
        + (f", and {flights.size - 1} more times." if flights.size > 1 else "."),
    )
    if spec is not None and not spec.is_adaptive:
        yield against(
            "optimizer",
            spec.name,
            unit="",
            kind="config",
            weight=PROOF,
            source=m.origin("optimizer.name"),
            text=f"{spec.name} has no second moment that could vanish with the gradients.",
        )
    zeros = int((loss.value == 0.0).sum())
    if zeros or m.has("accuracy|val_accuracy"):
        yield supports(
            "classes",
            zeros,
            unit="losses of exactly 0",
            weight=MODERATE,
            source=loss.source,
            text=f"{zeros:,} losses are exactly 0: the probability of every right label rounds to 1."
            if zeros
            else "An accuracy is logged: the loss is one of classes, and has no minimum.",
        )


@CAUSE.in_logs(needs=("loss", "weight_norm"))
def weights_step_up(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a weight norm that takes a step with each flight."""
    from traindoctor.signals.precision import SATURATED, jumps_with, slingshots

    flights = slingshots(m.loss)
    if not flights.size or m.is_adversarial:
        return
    weight, loss = m.weight_norm, m.loss
    share = jumps_with(weight, flights, 4.0 * max(weight.stride, loss.stride))
    quiet = int(loss.step[int((loss.value < SATURATED).argmax())])
    then = weight.before(quiet + 1)
    grown = weight.tail / float(then[-1]) if then.size and then[-1] > 0.0 else float("nan")
    if share >= limits["steps_up"] and grown > limits["grown"]:
        yield supports(
            "steps_up",
            grown,
            unit="times",
            weight=STRONG,
            source=weight.source,
            text=f"The weight norm takes a step with {share:.0%} of the flights, and ends {grown:.2g} times as large.",
        )
    elif share == share and share < limits["steps_up"] / 2.0:
        yield against(
            "stays",
            share,
            unit="of the flights",
            weight=MODERATE,
            source=weight.source,
            text="The weight norm does not move where the loss shoots up.",
        )


@CAUSE.fixes
def hold_the_logits(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the end of the training, and what keeps it calm."""
    from traindoctor.model import Fix
    from traindoctor.signals.precision import SATURATED

    del limits
    if m.run.optimizer is None or m.run.optimizer.is_adam:
        yield Fix("Turn amsgrad on", {"optimizer.amsgrad": True}, note="v then keeps the size of the gradients before saturation")
    yield Fix("Let the learning rate decay to 0 over the run", {"schedule.name": "cosine"})
    known = m.loss.step[m.loss.value < SATURATED]
    if known.size:
        yield Fix(
            f"Stop at step {int(known[0]):,}",
            {"steps": int(known[0])},
            note="the training set is learned there; more teaches nothing",
        )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    return Statement(
        f"Training was thrown out at {m.name_of(onset)}: softmax was saturated, gradients vanished until steps were too large.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.loss.step[-1]) + 1, onset),
    )


def _flights() -> tuple[list[float], list[float]]:
    """Return a loss with two flights, and the weight norm that goes with it."""
    loss, weight = [], []
    norm = 8.0
    for k in range(600):
        since = min((k - at for at in (300, 450) if k >= at), default=k)
        loss.append(max(1e-9, 2.5 * 10.0 ** (-since / 15.0)))
        norm += 1.5 if k in (300, 301, 450, 451) else 0.05 * 0.97**k
        weight.append(norm)
    return loss, weight


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8)
    sgd = OptimizerSpec("sgd", lr=0.1)
    loss, weight = _flights()
    calm = [max(1e-9, 2.5 * 10.0 ** (-k / 15.0)) for k in range(600)]
    valid = (
        Example("learned by heart, and calm", run_of(adam, loss=calm, weight_norm=weight)),
        Example("SGD", run_of(sgd, loss=loss, weight_norm=weight)),
        Example("one flight, loss alone", run_of(adam, loss=loss[:440])),
        Example("two flights of a regression, perhaps", run_of(adam, loss=loss)),
        Example("a regression that leaves its floor", run_of(adam, loss=[*calm[:300], *[1e-4] * 300])),
        Example("zeros", run_of(adam, loss=[0.0] * 100)),
        Example("ten points", run_of(adam, loss=loss[::60])),
    )
    invalid = (
        Example("two flights, with weights", run_of(adam, loss=loss, weight_norm=weight)),
        Example("two flights of a loss of classes", run_of(adam, loss=loss, val_accuracy=[0.9] * 20)),
        Example("two flights from exactly 0", run_of(adam, loss=[0.0 if v <= 1e-9 else v for v in loss])),
    )
    return valid, invalid
