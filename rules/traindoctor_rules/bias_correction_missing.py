"""Adam's moments start at zero and are not corrected for it: the first hundreds of updates are up to six times too large.

## What it looks like
A loss that rises or stumbles in the first steps and recovers over some hundreds; update norms that rise over the first dozen
steps and then fall like one over the square root of the step. With warmup it is hidden.

## Why it happens
Both moments start at 0, the second far more slowly: without the corrections 1 - beta1^t and 1 - beta2^t the update is (1 -
beta1^t) / sqrt(1 - beta2^t) times what it should be: 3.16 times at the first step for 0.9 and 0.999, 6.6 times at the
twelfth, more than 1.5 times until the 587th.

## When it is wrong
The loss alone cannot tell it from a first learning rate that is too high (TD201) or a missing warmup (TD203): only the size
of the updates shows the transient. BERT's original optimizer left the correction out on purpose, with warmup in its place.

## What repairs it
The library's own Adam; in an optimizer of one's own the two corrections, with the step counted from 1 and restored at a resume.
Warmup over 2 / (1 - beta2) steps does nearly the same.

## References
Kingma and Ba 2015, Adam, arXiv:1412.6980, section 3 and algorithm 1.
Zhang et al. 2021, Revisiting few-sample BERT fine-tuning, arXiv:2006.05987, section 4 (BERTAdam without bias correction).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traindoctor.rule import (
    MODERATE,
    PROOF,
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
    code="TD112",
    name="bias-correction-missing",
    summary="moments that start at zero are not corrected, and the first updates are several times too large",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("growth", 1.3, "largest over first update", "arXiv:1412.6980, algorithm 1: at most 1 with, up to 2.1 without"),
        Threshold(
            "exact", 0.04, "of the size of the first update", "the gain moves by the learning rate between update and norm"
        ),
        Threshold("overshoot", 1.3, "highest early level over the initial one", "benchmarks/study, tuning part"),
    ),
    explains=("TD201", "TD203"),
    look_alikes=("TD201", "TD203"),
    experiment="log the norm of the update for the first fifty steps: it must not rise at a constant learning rate",
    refutation="An update norm over learning rate that is largest at the very first step.",
)


@CAUSE.in_logs(needs=("optimizer.beta2", "update_norm|layers"))
def grows(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield how the size of the updates goes over the first steps."""
    from traindoctor.signals.moments import early_growth, update_norms

    updates = update_norms(m)
    if updates is None or not m.optimizer.is_adam:
        return
    step, value, source = updates
    growth = early_growth(step, value, m.lr_at(step))
    if growth > limits["growth"]:
        yield supports(
            "growth",
            growth,
            unit="times the first update",
            weight=PROOF,
            onset=int(step[0]),
            source=source,
            text=f"The updates grew to {growth:.1f} times the first one. The first update of a corrected Adam moves every weight "
            "by the full learning rate, and none that follow move them by more.",
        )
    elif growth == growth:
        yield against(
            "growth",
            growth,
            unit="times the first update",
            weight=MODERATE,
            source=source,
            text="No later update is larger than the first one, as it should be.",
        )


@CAUSE.in_logs(needs=("layers", "optimizer.beta2"))
def first_step(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the first update of the gains of norms, whose size is known."""
    import numpy as np

    from traindoctor.signals.moments import correction_factor, first_updates_of_gains

    beta1, beta2 = m.optimizer.beta1, m.optimizer.beta2
    seen = first_updates_of_gains(m)
    if not m.optimizer.is_adam or seen.size < 2 or beta1 is None or beta2 is None:
        return
    if not (0.0 < beta1 < 1.0 and 0.0 < beta2 < 1.0):
        return
    expected, size = float(correction_factor(np.zeros(1, dtype=np.int64), beta1, beta2)[0]), float(np.median(seen))
    source = m.layers.source("update_ratio")
    if abs(expected - 1.0) < 4.0 * limits["exact"]:
        return  # corrected or not, the first step is the same
    if abs(size / expected - 1.0) < limits["exact"]:
        yield supports(
            "first",
            size,
            unit="learning rates",
            weight=PROOF,
            onset=0,
            source=source,
            text=f"The first update moved the gains of {seen.size} norms by {size:.2f} times the learning rate: 1 with corrected "
            f"moments, {expected:.2f} without.",
        )
    elif abs(size - 1.0) < limits["exact"]:
        yield against(
            "first",
            size,
            unit="learning rates",
            weight=PROOF,
            source=source,
            text="The first update moved the gains of the norms by the learning rate, as corrected moments do.",
        )


@CAUSE.in_logs(needs=("loss", "optimizer.beta2"))
def stumbles(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that rises first and then recovers, which many causes have."""
    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 20 or not m.optimizer.is_adam or loss.step[0] > 20:
        return
    early = float(max(loss.smooth[: max(3, loss.n // 10)]))
    if early > limits["overshoot"] * loss.initial and loss.tail < loss.initial:
        yield supports(
            "overshoot",
            early / loss.initial,
            unit="times the initial loss",
            weight=MODERATE,
            source=loss.source,
            text=f"The loss first rises from {loss.initial:.3g} to {early:.3g}, and recovers.",
        )


@CAUSE.fixes
def correct(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the correction, or a warmup as long as the transient."""
    from traindoctor.model import Fix

    yield Fix(
        "Divide the moments by 1 - beta1^t and 1 - beta2^t, t counted from 1, or take torch.optim.Adam",
        note="where the optimizer cannot be changed, a linear warmup over 2 / (1 - beta2) steps does nearly the same",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = int(2.0 / (1.0 - (m.optimizer.beta2 or 0.999)))
    return Statement(
        "The first updates were several times too large: Adam's moments were not corrected for their start at zero.",
        " ".join(e.text for e in evidence[:2]),
        Segment(0, steps, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return the updates of Adam on noisy gradients, with and without the corrections."""
    import numpy as np

    from traindoctor.model import OptimizerSpec, Run

    n, loss = 400, np.geomspace(2.3, 0.3, 400)
    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)

    def trained(scale: float, *, corrected: bool) -> Run:
        """Return a run whose gradients, a third of them noise, shrink to `scale`."""
        rng = np.random.default_rng(0)
        mean, m, v = rng.normal(size=50), np.zeros(50), np.zeros(50)
        norms, updates = [], []
        for t in range(1, n + 1):
            grad = scale ** (t / n) * (mean + 0.5 * rng.normal(size=50))
            m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
            first, second = (1.0 - 0.9**t, 1.0 - 0.999**t) if corrected else (1.0, 1.0)
            norms.append(float(np.linalg.norm(grad)))
            updates.append(1e-3 * float(np.linalg.norm(m / first / np.sqrt(v / second))))
        return run_of(spec, loss=loss, grad_norm=norms, update_norm=updates)

    sound = trained(1.0, corrected=True)
    short = run_of(spec, loss=loss[:6], grad_norm=[1.0] * 6, update_norm=[1e-3] * 6)
    valid: tuple[Example, ...] = (
        Example("corrected", sound),
        Example("gradients vanish", trained(0.05, corrected=True)),
        Example("no update norm", run_of(spec, loss=loss, grad_norm=sound.primary["grad_norm"].value)),
        Example("a few points", short),
    )
    gains: dict[str, Any] = {f"weight_norm/norm{k}.weight": [5.0] * 8 for k in (1, 2)}

    def first(size: float) -> Run:
        ratios: dict[str, Any] = {f"update_ratio/norm{k}.weight": [1e-3 * size] + [4e-4] * 7 for k in (1, 2)}
        return run_of(spec, loss=loss[:8], **gains, **ratios)

    valid += (Example("gains move by the learning rate", first(1.0)),)
    invalid = (
        Example("uncorrected", trained(1.0, corrected=False)),
        Example("gains move by three learning rates", first(3.162)),
    )
    return valid, invalid
