"""A beta of Adam is 1, so that a bias correction is 0.

## What it looks like
The loss is NaN from the first step on, or does not move at all, to the last bit.

## Why it happens
Adam divides the moments by 1 - beta1^t and 1 - beta2^t, which are 0. With beta1 = 1 the first update is 0/0 in every dialect.
With beta2 = 1 it is 0/0 in the form of the paper (PyTorch); in the epsilon-hat form (TensorFlow 1, Keras) the step size
lr * sqrt(1 - beta2^t) / (1 - beta1^t) is 0, and the parameters stay where they are: frozen, not NaN.

## When it is wrong
Never: PyTorch refuses such a value when the optimizer is built; only optimizers that do not check it get this far.

## What repairs it
A beta below 1. Where "never forget" was meant, amsgrad or Adagrad does that.

## References
Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1 (beta in [0, 1)) and section 2 (the epsilon-hat form).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import PROOF, STRONG, Cause, Example, Examples, Limits, Statement, run_of, supports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD104",
    name="beta-of-one",
    summary="a beta of 1 makes Adam's bias correction 0: NaN, or parameters that never move",
    explanation=__doc__,
    explains=("TD401", "TD202", "TD302", "TD201"),
    experiment="print the first update; it is NaN or exactly 0",
    refutation="A first update that is finite and not zero.",
)


@CAUSE.in_config
def value_of_one(run: Run, limits: Limits) -> Iterator[Evidence]:
    """Yield each beta that is 1 or more, with what it does in the run's dialect."""
    spec = run.optimizer
    if spec is None or not spec.is_adam:
        return
    for name, value in (("beta1", spec.beta1), ("beta2", spec.beta2)):
        if value is not None and value >= 1.0:
            frozen = name == "beta2" and spec.dialect == "keras"
            effect = (
                "the step size lr·√(1-beta2^t)/(1-beta1^t) is 0 and nothing moves"
                if frozen
                else "the first update is 0/0, NaN from the first step on"
            )
            yield supports(
                name,
                value,
                weight=PROOF,
                kind="config",
                source=spec.origin.get(name, ""),
                text=f"{name} = {value:g} makes the bias correction 1 - {name}^t zero: {effect}.",
            )


@CAUSE.in_logs(needs=("loss",))
def never_moved(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield that the loss does as the setting makes it do: NaN after the first value, or constant to the last bit."""
    spec = m.run.optimizer
    if spec is None or not spec.is_adam or max(spec.beta1 or 0.0, spec.beta2 or 0.0) < 1.0:
        return
    if m.loss.is_constant:
        yield supports(
            "constant",
            m.loss.initial,
            unit="loss",
            weight=STRONG,
            onset=0,
            source=m.loss.source,
            text="The loss never moves, to the last bit.",
        )
    elif m.loss.n_not_finite:
        first = m.loss.first_not_finite()
        yield supports(
            "not_finite",
            first,
            unit="step",
            weight=STRONG,
            onset=first,
            source=m.loss.source,
            text=f"The loss is NaN from step {first} on.",
        )


@CAUSE.fixes
def below_one(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the defaults in place of the betas that are 1."""
    from traindoctor.model import Fix

    beta1, beta2 = m.optimizer.beta1 or 0.0, m.optimizer.beta2 or 0.0
    betas = [beta1 if beta1 < 1.0 else 0.9, beta2 if beta2 < 1.0 else 0.999]
    yield Fix(f"Set betas to {betas[0]:g} and {betas[1]:g}", {"optimizer.betas": betas}, note="betas must lie in [0, 1)")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    first = evidence[0]
    last = max((int(s.step[-1]) for s in m.run.primary.values() if len(s)), default=0)
    return Statement(
        f"Training failed from the first step: {first.name} = {first.value} makes Adam's bias correction zero.",
        first.text,
        Segment(0, last + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    nan = float("nan")
    valid = (
        Example("betas below 1", run_of(OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999), loss=[3.0, 2.0, 1.0])),
        Example("beta1 of 0 is fine", run_of(OptimizerSpec("adam", lr=1e-3, beta1=0.0, beta2=0.99), loss=[3.0, 2.0, 1.0])),
        Example("undamped momentum is another matter", run_of(OptimizerSpec("sgd", lr=1e-3, momentum=1.0), loss=[3.0, 2.0, 1.0])),
        Example("NaN for another reason", run_of(OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999), loss=[3.0, nan, nan])),
    )
    invalid = (
        Example("NaN at beta1 of 1", run_of(OptimizerSpec("adam", lr=5e-3, beta1=1.0, beta2=0.999), loss=[16.0, *[nan] * 9])),
        Example(
            "frozen at beta2 of 1", run_of(OptimizerSpec("adam", lr=5e-3, beta1=0.9, beta2=1.0, dialect="keras"), loss=[16.0] * 9)
        ),
    )
    return valid, invalid
