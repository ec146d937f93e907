"""The second moment forgets a rare feature between two of its gradients, or never learns its size: spikes on rare batches.

## What it looks like
Isolated jumps of the gradient norm to many times what the second moment remembers, each followed within a few steps by a jump of
the loss, in a model with embeddings or other parameters that most batches leave alone.

## Why it happens
A row of an embedding that is used once in k batches has a gradient of zero in the others. Dense Adam still shrinks its moments at
each of them: with k far above 1 / (1 - beta2) both are gone when the next gradient comes, and the step is
(1 - beta1) / sqrt(1 - beta2) times the learning rate, 3.2 for the defaults. With a beta2 above 0.999 the moment of a frequent row
lags behind a gradient that grows.

## When it is wrong
The global norm cannot say which parameters a spike belongs to. Bad batches (TD507) and heavy tails without a clip (TD319)
look the same in it, so that a log ends with these candidates unless the settings are out of the usual.

## What repairs it
`torch.optim.SparseAdam` for the embedding, a beta2 of 0.98 to 0.99, a clip at the 90th percentile of the norm.

## References
Kingma and Ba 2015, arXiv:1412.6980, section 2.1 (sparse gradients: the size of a step for (1 - beta1) > sqrt(1 - beta2)).
PyTorch documentation, torch.optim.SparseAdam. Shazeer and Stern 2018, Adafactor, arXiv:1804.04235, section 5 (out-of-date
moments).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traindoctor.rule import (
    MODERATE,
    PROOF,
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

CAUSE = Cause(
    code="TD111",
    name="beta2-too-high-for-rare-gradients",
    summary="the second moment is out of date when a rare gradient comes",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("beta2", 0.9995, "beta2", "twice the memory of the default"),
        Threshold(
            "out_of_date", 25.0, "g^2 over the second moment at a spike", "arXiv:1804.04235, section 5: updates clipped at 1"
        ),
        Threshold("least", 3.0, "spikes", "definition: two may be chance"),
    ),
    look_alikes=("TD507", "TD319", "TD101"),
    experiment="log the ids of the batches that spike, and the norm of the embedding's gradient",
    refutation="Spikes in layers that every batch uses.",
)


@CAUSE.in_logs(needs=("loss", "grad_norm", "optimizer.beta2"))
def surprises(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield gradients far beyond what the second moment remembers, with what the loss does after them."""
    import numpy as np

    spec = m.optimizer
    if not spec.is_adam or spec.beta2 is None or not 0.0 < spec.beta2 < 1.0 or m.is_adversarial or m.grad_norm.n < 50:
        return
    ratio, step = m.second_moment.ratio, m.grad_norm.step
    late = step > step[0] + 3.0 / (1.0 - min(spec.beta2, 0.99))
    isolated = late & (ratio > limits["out_of_date"])
    n = int(isolated.sum())
    source = f"{m.grad_norm.source}, replayed"
    if n < limits["least"]:
        yield against("surprises", n, unit="spikes", weight=PROOF, source=source, text="The second moment is never out of date.")
        return
    if isolated.mean() > 0.05:
        return  # not rare
    first = step[isolated]
    spiked = sum(bool(np.any((m.loss.spikes >= s) & (m.loss.spikes <= s + 8 * max(1.0, m.loss.stride)))) for s in first)
    yield supports(
        "surprises",
        n,
        unit="spikes",
        weight=MODERATE if spiked >= 0.5 * n else WEAK,
        onset=int(first[0]),
        source=source,
        text=f"{n} times the squared gradient was more than {limits['out_of_date']:.0f} times what the second moment remembered"
        + (f"; the loss jumped after {spiked} of them." if spiked else "."),
    )
    if spec.beta2 > limits["beta2"]:
        yield supports(
            "beta2",
            spec.beta2,
            weight=MODERATE,
            kind="config",
            source=m.origin("optimizer.beta2"),
            text=f"beta2 is {spec.beta2:g}: the second moment needs {1.0 / (1.0 - spec.beta2):,.0f} steps to follow.",
        )
    if any(word in s.tag.lower() for s in m.run.series for word in ("embed", "token", "vocab")):
        yield supports(
            "embedding", "embedding", unit="", weight=WEAK, text="The model has an embedding, whose rows are rarely used."
        )


@CAUSE.fixes
def lower(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a shorter memory."""
    from traindoctor.model import Fix

    yield Fix("Lower beta2 to 0.99", {"optimizer.betas": [m.optimizer.beta1 or 0.9, 0.99]})
    yield Fix("Give the embedding to torch.optim.SparseAdam, with nn.Embedding(sparse=True)")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next(e.onset for e in evidence if e.onset is not None)
    return Statement(
        "Rare gradients met a second moment that had forgotten them.",
        " ".join(e.text for e in evidence[:2]),
        Segment(onset, int(m.loss.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return even gradients, and rare large ones under a long memory."""
    import numpy as np

    from traindoctor.model import OptimizerSpec

    rng = np.random.default_rng(0)
    grad = 0.3 * np.exp(0.2 * rng.normal(size=2000))
    loss = 2.0 * np.exp(-np.arange(2000) / 500.0) + 0.5 + 0.02 * rng.normal(size=2000)
    rare, jumps = grad.copy(), loss.copy()
    for at in (700, 1130, 1290, 1777, 1902):
        rare[at] *= 30.0
        jumps[at + 1 : at + 4] += 1.5
    long = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.9999, eps=1e-8)
    usual = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    valid = (
        Example("even", run_of(long, loss=loss, grad_norm=grad)),
        Example("rare at the default", run_of(usual, loss=jumps, grad_norm=rare)),
        Example("not Adam", run_of(OptimizerSpec("sgd", lr=0.1), loss=jumps, grad_norm=rare)),
    )
    words: dict[str, Any] = {"grad_norm/embed.weight": rare, "grad_norm/head.weight": grad}
    return valid, (Example("rare under a long memory", run_of(long, loss=jumps, grad_norm=rare, **words)),)
