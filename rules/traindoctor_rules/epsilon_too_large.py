"""Adam's eps dominates sqrt(v): the update no longer adapts, and Adam has become slow SGD.

## What it looks like
A clean, slow, nearly linear fall of the loss, without spikes, at a learning rate that is usual for Adam. The update's size
follows the gradient's, as in SGD, with the tiny rate lr / eps.

## Why it happens
The update is lr * m / (sqrt(v) + eps). Adam is scale-free while eps is far below sqrt(v); with eps above it, the step is lr / eps
times the gradient. Values of 0.1 or 1 that were right for one network (Inception on ImageNet, in the epsilon-hat form) do not
transfer.

## When it is wrong
eps above sqrt(v) late in a run, when gradients have vanished, is what keeps the second moment from collapsing (TD101).

## What repairs it
eps back to 1e-8 (1e-7 in Keras). A larger learning rate does the same for the dominated coordinates.

## References
Kingma and Ba 2015, arXiv:1412.6980, section 2.1. TensorFlow, tf.keras.optimizers.Adam, note on epsilon.
Wortsman et al. 2023, Small-scale proxies for large-scale Transformer training instabilities, arXiv:2309.14322, section 3.4.
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

    from traindoctor.checkpoints.state import State
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD103",
    name="epsilon-too-large",
    summary="eps dominates sqrt(v): Adam has become slow SGD",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold(
            "share",
            1.0,
            "eps over rms sqrt(v_hat), median over the run",
            "arXiv:2309.14322: below, the update is damped by less than half",
        ),
        Threshold("parameters", 1000.0, "assumed where the number is not known", "fewer is rare; more only raises the share"),
        Threshold("large", 1e-2, "eps that no framework and no published recipe for a network uses unasked", STUDY),
        Threshold("pace", 0.3, "late over early pace of a fall that goes on", STUDY),
        Threshold("left", 0.15, "tail loss over initial loss", STUDY),
        Threshold(
            "covered", 0.5, "share of elements with sqrt(v_hat) below eps, in the typical parameter", "definition: most of them"
        ),
        Threshold(
            "clear", 0.1, "share of elements with sqrt(v_hat) below ten times eps", "eps damps the others by a tenth at most"
        ),
    ),
    look_alikes=("TD202",),
    experiment="a short run with eps a hundred times smaller: it falls faster if eps dominates, and the same if not",
    refutation="A run with eps 1e-8 that falls no faster.",
    explains=("TD202",),
)


@CAUSE.in_logs(needs=("loss", "optimizer.eps"))
def dominates(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield eps against the second moment, and whether the fall is slow."""
    eps = m.optimizer.eps
    if eps is None or not m.optimizer.is_adaptive or eps < 1e-4:
        return
    if m.has("grad_norm"):
        total = sorted(m.second_moment.total)
        n = m.n_parameters or limits["parameters"]
        share = eps / max((total[len(total) // 2] / n) ** 0.5, 1e-300)
        known = "" if m.n_parameters else f", if the model has {n:,.0f} parameters or more"
        if share > limits["share"]:
            yield supports(
                "share",
                share,
                unit="eps / √v̂",
                weight=STRONG,
                source=f"{m.grad_norm.source}, replayed",
                text=f"eps is {share:.3g} times rms √v̂{known}: the update follows the gradient, not its sign.",
            )
        else:
            yield against(
                "share",
                share,
                unit="eps / √v̂",
                weight=STRONG,
                source=f"{m.grad_norm.source}, replayed",
                text="√v̂ is larger than eps: Adam still adapts.",
            )
    elif eps >= limits["large"]:
        yield supports(
            "eps",
            eps,
            weight=STRONG if eps >= 10.0 * limits["large"] else MODERATE,
            kind="config",
            source=m.origin("optimizer.eps"),
            text="eps is a million times the default or more.",
        )
    if m.loss.is_positive and m.loss.n >= 4:
        left = m.loss.tail / m.loss.initial
        falling = m.loss.progress_left
        if left > limits["left"]:
            weight = STRONG if left > 2.0 * limits["left"] else MODERATE
            yield supports(
                "left",
                left,
                unit="tail / initial loss",
                weight=weight,
                source=m.loss.source,
                text=f"At the end {left:.0%} of the loss is still there.",
            )
            if falling == falling and falling > limits["pace"]:
                yield supports(
                    "falling",
                    falling,
                    unit="late / early pace",
                    weight=WEAK,
                    source=m.loss.source,
                    text="It falls at a nearly constant pace.",
                )
        else:
            yield against(
                "left", left, unit="tail / initial loss", weight=STRONG, source=m.loss.source, text="The run got down well."
            )
    peak = m.peak_lr
    if eps >= limits["large"] and peak is not None and peak / eps < 1e-2:
        yield supports(
            "sgd_rate",
            peak / eps,
            weight=MODERATE,
            kind="config",
            source=m.origin("optimizer.eps"),
            text=f"Under eps the update is SGD with the rate lr/eps = {peak / eps:.1g}.",
        )


@CAUSE.in_state
def covers_the_second_moment(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the share of the parameters whose second moment lies under eps, where the loss is still high."""
    last = state.last
    if len(last.optimizers) != 1 or "loss" not in m.run.primary or not m.loss.is_positive or m.loss.n < 4:
        return
    if m.run.optimizer is None or m.run.optimizer.eps is None:
        return  # an optimizer that is not known
    optimizer = last.optimizers[0]
    below, near, eps = optimizer.typical("below_eps"), optimizer.typical("near_eps"), optimizer.number("eps")
    if below is None or near is None or eps is None:
        return
    left = m.loss.tail / m.loss.initial
    if below >= limits["covered"] and left > limits["left"]:
        yield supports(
            "covered",
            below,
            unit="of a parameter's elements",
            weight=WEAK if m.has("grad_norm") else STRONG,
            kind="state",
            source=last.file,
            text=f"{last.at}: √v̂ is below eps = {eps:g} in {below:.0%} of the elements of the typical parameter.",
        )
    elif near <= limits["clear"]:
        yield against(
            "covered",
            near,
            unit="of a parameter's elements",
            weight=PROOF,
            kind="state",
            source=last.file,
            text=f"{last.at}: √v̂ is above ten times eps = {eps:g} in {1.0 - near:.0%} of the elements of the typical parameter.",
        )


@CAUSE.fixes
def smaller(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the framework's default."""
    from traindoctor.model import Fix

    default = 1e-7 if m.optimizer.dialect == "keras" else 1e-8
    yield Fix(
        f"Lower eps from {m.optimizer.eps:g} to {default:g}",
        {"optimizer.eps": default},
        note="the framework's default; Adam is then free of the gradient's scale",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    return Statement(
        f"Training was slow from the first step: eps = {m.optimizer.eps:g} dominated the second "
        "moment, and Adam worked as SGD with a tiny rate.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(int(m.loss.step[0]), int(m.loss.step[-1]) + 1, int(m.loss.step[0])),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.checkpoints.state import Moments
    from traindoctor.model import OptimizerSpec

    large = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1.0)
    slow = [2.3 - 0.002 * k for k in range(200)]
    valid = (
        Example(
            "default eps, slow for another reason",
            run_of(OptimizerSpec("adam", lr=1e-7, beta1=0.9, beta2=0.999, eps=1e-8), loss=slow),
        ),
        Example(
            "large eps that does no harm",
            run_of(large, loss=[2.3 * 0.9**k for k in range(200)], grad_norm=[2.0 * 0.95**k for k in range(200)]),
        ),
        Example("eps of 1 under gradients of a thousand", run_of(large, loss=slow, grad_norm=[1000.0] * 200)),
        Example("SGD has none", run_of(OptimizerSpec("sgd", lr=1e-3), loss=slow, grad_norm=[0.5] * 200)),
    )
    invalid = (
        Example("eps of 1, small gradients", run_of(large, loss=slow, grad_norm=[0.5] * 200)),
        Example("eps of 1, loss alone", run_of(large, loss=slow)),
    )

    def covered(share: float) -> State:
        """Return a state of which such a share lies under eps."""
        return state_of(checkpoint_of(200, moments=Moments(0.1, share, share), settings={"eps": 1.0}))

    return (
        (
            *valid,
            Example("above it in the checkpoint", run_of(large, loss=slow), state=covered(0.0)),
            Example("under it, once all is learnt", run_of(loss=[2.3 * 0.9**k for k in range(200)]), state=covered(1.0)),
        ),
        (*invalid, Example("in the checkpoint, whatever the settings", run_of(large, loss=slow), state=covered(1.0))),
    )
