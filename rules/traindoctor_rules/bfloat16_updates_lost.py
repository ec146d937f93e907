"""Weights are kept in bfloat16, and most updates are too small for it: they round away.

## What it looks like
Weights in bfloat16 throughout, no copy in float32; a small learning rate; a loss that hardly falls, or comes to rest early; a
weight norm that stays the same to two or three digits while gradients are not small and the rate is not 0.

## Why it happens
bfloat16 has 8 significant bits. A weight w changes only by an update above 2^-9 to 2^-8 of it, 0.002 to 0.004; all smaller ones
are lost at every step, they do not add up. A typical update of Adam is 0.0001 to 0.01 of a weight: at the edge from the start,
and beyond it once a schedule lowers the rate. Weight decay, lr * decay of a weight, is lost nearly always.

## How it is told
The settings say where weights are kept; without them a loss whose every value fits bfloat16 tells that the whole model is in
it. The weights show the rest. Under SGD the update is known, lr times the gradient: where update ratios are logged they are
held against it.

## When it is wrong
Large rates train in bfloat16: a weight norm that moves speaks against it. Stochastic rounding, Kahan summation and optimizers
with copies in float32 lose nothing. Without a word on the format a rate that is too low (TD202) looks the same.

## What repairs it
Weights in float32 and bfloat16 for the operations alone (mixed precision), or stochastic rounding.

## References
Kalamkar et al. 2019, A study of BFLOAT16 for deep learning training, arXiv:1905.12322, section 3. Zamirai et al. 2020,
Revisiting BFloat16 training, arXiv:2010.06192 (nearest rounding cancels small updates; stochastic rounding, Kahan summation).
Micikevicius et al. 2018, arXiv:1710.03740, section 3.1 (a copy of the weights in float32).
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
    code="TD409",
    name="bfloat16-updates-lost",
    summary="weights are kept in bfloat16, and most of their updates round away",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("still", 0.05, "relative change of the weight norm over the run", STUDY),
        Threshold("moved", 0.1, "relative change of the weight norm over the run", STUDY),
        Threshold("kept", 0.2, "late over early gradient norm that is not small", STUDY),
        Threshold("left", 0.8, "tail loss over initial loss of a run that hardly learned", STUDY),
        Threshold("slow", 0.25, "fall of the loss over the last third over that of the first", STUDY),
        Threshold("small", 5e-4, "learning rate of an optimizer with steps of its size", "2^-8 of a weight of 0.1"),
        Threshold(
            "large", 1e-3, "learning rate of an optimizer with steps of its size", "2^-8 of a weight of 0.25: few are larger"
        ),
        Threshold("update", 0.5, "measured update over lr times the gradient, under SGD", "definition: half of it is lost"),
        Threshold("lost", 0.9, "share of the weights that the next update leaves as they are", "definition: nearly all"),
        Threshold("arrives", 0.5, "share of the weights that the next update leaves as they are", "definition: most move"),
        Threshold("same", 0.8, "share of the weights that are the same in two checkpoints", "definition: nearly all"),
    ),
    explains=("TD202", "TD410"),
    look_alikes=("TD202", "TD311"),
    experiment="count the weights that one step changes: torch.ne(before, after).float().mean()",
    refutation="A step that changes nearly all weights.",
)


@CAUSE.in_logs(needs=("loss",))
def weights_in_bfloat16(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield what settings, or the logged numbers, say of the format; any other format rules the cause out."""
    from traindoctor.signals.precision import format_of, kept_in

    del limits
    kept = kept_in(m.run)
    if kept == "brain":
        yield supports(
            "precision",
            str(m.setting("precision")),
            unit="",
            kind="config",
            weight=MODERATE,
            source=m.origin("precision"),
            text="The settings keep the weights in bfloat16, and name no copy in float32.",
        )
    elif kept:
        text = "The settings keep the weights in another format than bfloat16."
        yield against("precision", kept, unit="", kind="config", weight=PROOF, source=m.origin("precision"), text=text)
        return
    if not m.is_adversarial and format_of(m.loss.value) == "bfloat16":
        yield supports(
            "fits",
            m.loss.n,
            unit="values",
            weight=WEAK if kept else MODERATE,
            source=m.loss.source,
            text=f"Each of {m.loss.n:,} losses fits bfloat16 to its last bit: the model computes in it, without autocast.",
        )


def _is_in_bfloat16(m: Measurements) -> bool:
    """Whether anything says that weights are in bfloat16."""
    from traindoctor.signals.precision import format_of, kept_in

    kept = kept_in(m.run)
    return not m.is_adversarial and (kept == "brain" or (not kept and format_of(m.loss.value) == "bfloat16"))


@CAUSE.in_logs(needs=("loss",))
def hardly_learns(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that hardly falls, or comes to rest early, at a rate whose updates bfloat16 loses."""
    loss = m.loss
    if not _is_in_bfloat16(m) or loss.n < 12 or not loss.is_positive or loss.first_not_finite() is not None:
        return
    left = loss.tail / loss.initial if loss.initial > 0.0 else 0.0
    if left > limits["left"]:
        yield supports(
            "left",
            left,
            unit="tail / initial loss",
            weight=MODERATE,
            onset=int(loss.step[0]),
            source=loss.source,
            text=f"The loss has hardly fallen: {loss.tail:.3g} at the end, {loss.initial:.3g} at the start.",
        )
    elif left < limits["left"] / 4.0 and not loss.progress_left < limits["slow"]:
        yield against(
            "learns",
            left,
            unit="tail / initial loss",
            weight=MODERATE,
            source=loss.source,
            text="The loss falls well, and goes on falling.",
        )
    spec, lr = m.run.optimizer, m.peak_lr
    if spec is not None and spec.is_adaptive and lr and lr < limits["small"]:
        yield supports(
            "rate",
            lr,
            unit="learning rate",
            weight=WEAK,
            source=m.lr_source,
            text=f"An update of about {lr:.2g} is lost in every weight above {lr * 512:.2g}.",
        )
    elif spec is not None and spec.is_adaptive and lr and lr >= limits["large"]:
        yield against(
            "rate",
            lr,
            unit="learning rate",
            weight=STRONG,
            source=m.lr_source,
            text=f"Updates of about {lr:.2g} arrive in every weight below {lr * 256:.2g}.",
        )


@CAUSE.in_logs(needs=("loss", "weight_norm"))
def weights_stay(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a weight norm that hardly moves, though gradients and rate would move it."""
    from traindoctor.signals.precision import stillness

    if not _is_in_bfloat16(m):
        return
    weight = m.weight_norm
    if weight.is_constant:
        yield against(
            "constant",
            0.0,
            weight=STRONG,
            source=weight.source,
            text="Not one digit of the weight norm moves: rounding leaves the largest updates.",
        )
        return
    still = stillness(weight)
    if still is None:
        return
    grad_kept = not m.has("grad_norm") or m.grad_norm.tail > limits["kept"] * m.grad_norm.initial
    if still.moved < limits["still"] and grad_kept:
        yield supports(
            "still",
            still.moved,
            unit="relative change",
            weight=STRONG,
            source=weight.source,
            text=f"Over the run the weight norm moves by {still.moved:.2g} of itself"
            + (", while the gradient stays as large as it was." if m.has("grad_norm") else "."),
        )
    elif still.moved > limits["moved"]:
        yield against(
            "moved",
            still.moved,
            unit="relative change",
            weight=STRONG,
            source=weight.source,
            text=f"The weight norm moves by {still.moved:.0%}: updates arrive.",
        )


@CAUSE.in_logs(needs=("loss", "optimizer.lr"))
def updates_fall_short(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield measured updates that are smaller than plain SGD makes them, lr times the gradient, layer by layer."""
    from traindoctor.signals.precision import share_that_arrives

    if m.optimizer.name != "sgd" or m.optimizer.momentum or not _is_in_bfloat16(m):
        return
    share = share_that_arrives(m)
    if share < limits["update"]:
        yield supports(
            "update",
            share,
            unit="of lr times the gradient",
            weight=PROOF,
            source=m.layers.source("update_ratio"),
            text=f"SGD moves a layer by lr times its gradient; of that {share:.0%} arrives.",
        )
    elif share == share:
        yield against(
            "update",
            share,
            unit="of lr times the gradient",
            weight=STRONG,
            source=m.layers.source("update_ratio"),
            text="The layers move by lr times their gradients: updates arrive.",
        )


@CAUSE.in_state
def rounded_away(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the share of the weights that a step leaves as they are, by the moments, and as seen between two checkpoints."""
    last, before = state.last, state.before
    if "loss" not in m.run.primary or len(last.optimizers) != 1 or not last.weight_dtype:
        return
    optimizer = last.optimizers[0]
    if last.weight_dtype != "bfloat16" or optimizer.second_dtype not in ("", "bfloat16"):
        kept = (
            last.weight_dtype if last.weight_dtype != "bfloat16" else f"{optimizer.second_dtype} beside the weights in bfloat16"
        )
        yield against(
            "kept_in",
            kept,
            unit="",
            weight=PROOF,
            kind="state",
            source=last.file,
            text=f"{last.at}: what the optimizer steps on is kept in {kept}.",
        )
        return
    share = optimizer.share("rounded_away")
    if share is None:
        return
    if share >= limits["lost"]:
        yield supports(
            "lost",
            share,
            unit="of the weights",
            weight=STRONG,
            kind="state",
            source=last.file,
            text=f"{last.at}: weights and moments are in bfloat16, and lr m / √v is below half a spacing of {share:.0%} "
            "of the weights.",
        )
        if before is not None and state.unmoved is not None and state.unmoved >= limits["same"]:
            yield supports(
                "same",
                state.unmoved,
                unit="of the weights",
                weight=STRONG,
                kind="state",
                onset=before.step,
                source=last.file,
                text=f"{state.unmoved:.0%} of the weights are to the last bit what they were in {before.at}.",
            )
    elif share <= limits["arrives"]:
        yield against(
            "lost",
            share,
            unit="of the weights",
            weight=PROOF,
            kind="state",
            source=last.file,
            text=f"{last.at}: the next update moves {1.0 - share:.0%} of the weights.",
        )


@CAUSE.fixes
def copy_in_float32(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the copy of the weights in float32, and what helps without it."""
    from traindoctor.model import Fix

    del m, limits
    yield Fix(
        "Keep the weights in float32, and bfloat16 for the operations (mixed precision)",
        {"precision": "bf16-mixed"},
        note="or an optimizer with stochastic rounding or Kahan summation, where memory forbids the copy",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    first, last = int(m.loss.step[0]), int(m.loss.step[-1])
    return Statement(
        "Training hardly moved: the weights were kept in bfloat16, where updates below a 500th of a weight round away.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(first, last + 1, first),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.checkpoints.state import Moments
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adamw", lr=1e-5, beta1=0.9, beta2=0.95, eps=1e-8)
    stuck = [2.3 - 0.0005 * k + 0.01 * ((k * 7) % 11) for k in range(200)]
    falls = [0.1 + 2.2 * 0.98**k for k in range(200)]
    moves, stays = [10.0 + 0.02 * k for k in range(200)], [10.0 + 1e-5 * k for k in range(200)]
    even = [0.5] * 200
    exact = [2.0 + ((k * 37) % 64) / 64.0 for k in range(200)]
    valid = (
        Example("bfloat16 that learns", run_of(adam, precision="bf16-true", loss=falls, weight_norm=moves)),
        Example("mixed precision", run_of(adam, precision="bf16-mixed", loss=stuck, weight_norm=stays, grad_norm=even)),
        Example("float32", run_of(adam, precision="32", loss=exact, weight_norm=stays, grad_norm=even)),
        Example("format not known", run_of(adam, loss=stuck, weight_norm=stays, grad_norm=even)),
        Example("weights that never move at all", run_of(adam, precision="bf16-true", loss=stuck, weight_norm=[10.0] * 200)),
        Example("gradients that vanish", run_of(adam, precision="bf16-true", loss=falls, weight_norm=stays, grad_norm=falls)),
        Example("six points", run_of(adam, precision="bf16-true", loss=stuck[:6], weight_norm=stays[:6])),
    )
    invalid = (
        Example("weights stay, loss too", run_of(adam, precision="bf16-true", loss=stuck, weight_norm=stays, grad_norm=even)),
        Example("told by the numbers", run_of(adam, loss=exact, weight_norm=stays, grad_norm=even)),
        Example("loss and settings alone", run_of(adam, precision="torch.bfloat16", loss=stuck)),
    )

    def brain(share: float, second: str = "bfloat16") -> State:
        """Return two checkpoints of weights in bfloat16 of which so many are left as they are."""
        moments = Moments(0.1, rounded_away=share)
        made = [checkpoint_of(n, dtype="bfloat16", second=second, moments=moments) for n in (500, 1000)]
        return state_of(*made, same=share)

    return (
        (
            *valid,
            Example("moves by its moments", run_of(adam, precision="bf16-true", loss=stuck, weight_norm=stays), state=brain(0.4)),
            Example("float32 beside it", run_of(adam, loss=stuck), state=brain(0.99, "float32")),
        ),
        (*invalid, Example("by moments and weights", run_of(adam, loss=stuck), state=brain(0.99))),
    )
