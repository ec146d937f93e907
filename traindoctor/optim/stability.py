"""How steep a quadratic may be before an optimizer's iteration on it becomes unstable.

With the preconditioner P held, every optimizer with at most one momentum buffer is the linear iteration

    b <- memory * b + fed * g                 g = (lambda + coupled decay) * w,  in units of P
    w <- (1 - shrink) * w - lr * (buffered * b + direct * g)

of two numbers a mode. With s = lr * lambda(P^-1 H) its matrix and characteristic polynomial are

    [ memory                fed * s                                          ]
    [ -buffered * memory    1 - shrink - (buffered * fed + direct) * s       ]

    z^2 - T z + D,   T = memory + 1 - shrink - (buffered * fed + direct) * s,   D = memory * (1 - shrink - direct * s)

and it is stable while (Jury's conditions) 1 - T + D > 0, 1 + T + D > 0 and |D| < 1. The first and, for memory < 1, D < 1
hold for every s > 0. The second is

    s < (1 + memory) * (2 - shrink) / (buffered * fed + direct * (1 + memory))

where a root crosses -1: the weight changes its sign each step. The last, D > -1, fails later or not at all: it matters
with direct > 0 alone, and there it allows the larger s, since (1 + memory - memory**2 * shrink) > 0.

                memory   fed             buffered   direct      limit without decay
    SGD         0        1               1          0           2
    heavy ball  mu       1 - dampening   1          0           2 (1 + mu) / (1 - dampening)
    Nesterov    mu       1 - dampening   mu         1           2 (1 + mu) / (1 + mu + (1 - dampening) mu)
    Adam        beta1    1 - beta1       1          0           2 (1 + beta1) / (1 - beta1)
    NAdam       beta1    1 - beta1       beta1      1 - beta1   2 (1 + beta1) / ((1 - beta1) (1 + 2 beta1))

RMSprop with momentum is the heavy ball; Adagrad, Adadelta and Adafactor have no momentum; RAdam (once rectified), AMSGrad,
Adamax, LAMB and StableAdamW are Adam's, each with its own P. LAMB and LARS multiply the rate by a trust ratio: the limit
holds for that rate. Sign methods (Lion, signSGD, Rprop) and orthogonalised ones (Muon) take steps of one length whatever the
gradient's: on a quadratic they neither settle nor diverge, but swing by a few lr, and have no such limit.

Weight decay. A coupled one is added to the gradient, so that it adds to the curvature: lr * (lambda + decay) / P has to stay
below the limit. A decoupled one shrinks the weight by lr * decay a step: the factor 2 becomes 2 - lr * decay.

Source: Cohen et al. 2022, Adaptive gradient methods at the edge of stability, arXiv:2207.14484, section 2 and appendix A; Cohen
et al. 2021, arXiv:2103.00065, section 2 and appendix B for momentum and Nesterov; Jury 1964, Theory and application of the
z-transform method, chapter 3. NAdam and the decays: worked out here, checked against the recurrences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.optim.optimizer import optimizer_of

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, OptimizerSpec

#: Optimizers whose step has one length whatever the gradient's: there is no curvature at which they diverge.
SIGN_LIKE = frozenset({"lion", "signsgd", "signum", "rprop", "muon"})
#: Optimizers that scale Adam's iteration, and those without a momentum buffer.
_LIKE_ADAM = frozenset({"adam", "adamw", "amsgrad", "radam", "adamax", "lamb", "stableadamw"})
_PLAIN = frozenset({"adagrad", "adadelta", "adafactor"})


class Iteration(NamedTuple):
    """The linear iteration of a mode, see the head of this file."""

    memory: float
    fed: float
    buffered: float
    direct: float
    shrink: float


def iteration(spec: OptimizerSpec, *, shrink: float = 0.0) -> Iteration:
    """Return the iteration of an optimizer long after its bias correction has gone.

    An optimizer that is not known counts as SGD with its momentum.
    """
    if spec.name in _LIKE_ADAM or spec.name == "nadam":
        beta1 = 0.9 if spec.beta1 is None else spec.beta1
        looks_ahead = spec.name == "nadam"
        return Iteration(beta1, 1.0 - beta1, beta1 if looks_ahead else 1.0, (1.0 - beta1) * looks_ahead, shrink)
    momentum = 0.0 if spec.name in _PLAIN else spec.momentum or 0.0
    fed = 1.0 - (spec.dampening or 0.0) if momentum else 1.0
    return Iteration(momentum, fed, momentum, 1.0, shrink) if spec.nesterov else Iteration(momentum, fed, 1.0, 0.0, shrink)


def _decays(spec: OptimizerSpec, lr: float | None) -> tuple[float, float]:
    """Return by what share the weight shrinks a step, and lr times the decay that enters the gradient."""
    if lr is None or not spec.weight_decay:
        return 0.0, 0.0
    own = optimizer_of(spec)
    return lr * (float(own.beside) + float(own.settings.get("weight_decay", 0.0))), lr * float(own.coupled)


def stability_limit(spec: OptimizerSpec, *, lr: float | None = None, denominator: float = 1.0) -> float:
    """Return the largest stable lr * lambda_max(P^-1 H): P is 1 for SGD, sqrt(v_hat) + eps for adaptive optimizers.

        SGD 2 · heavy ball 2 (1 + mu) · Nesterov 2 (1 + mu) / (1 + 2 mu) · Adam (2 + 2 beta1) / (1 - beta1)
        NAdam Adam's over (1 + 2 beta1) · RMSprop 2 (1 + mu) · Adagrad, Adadelta, Adafactor 2 · sign methods infinity

    Adam's first moment averages where SGD's buffer adds up, hence the factor 1 / (1 - beta1): 38 at beta1 = 0.9, and not
    the 2 of gradient descent. beta1 = 1 gives infinity: the parameters never move.

    With `lr` the spec's weight decay is honoured: H is the Hessian of the loss without the decay, and `denominator` the P
    that a coupled decay is divided by (1 for SGD). Without `lr` the decay is left out: it moves the limit of SGD and AdamW
    by about lr * decay, seldom more than 1e-4.

    Derivation and source: the head of this file.
    """
    if spec.name in SIGN_LIKE:
        return float("inf")
    shrink, coupled = _decays(spec, lr)
    it = iteration(spec, shrink=shrink)
    reached = it.buffered * it.fed + it.direct * (1.0 + it.memory)
    return (1.0 + it.memory) * (2.0 - shrink) / reached - coupled / denominator if reached > 0.0 else float("inf")


def spectral_radius(spec: OptimizerSpec, product: FloatArray, *, lr: float | None = None, denominator: float = 1.0) -> FloatArray:
    """Return by what factor a mode shrinks or grows a step, in the long run, at each lr * lambda(P^-1 H).

    `product`: any shape, float64. Returns the same shape: below 1 where the mode is stable; NaN for a sign method, whose
    iteration is not linear. `lr`, `denominator` as in `stability_limit`.
    """
    if spec.name in SIGN_LIKE:
        return np.full(np.shape(product), np.nan)
    shrink, coupled = _decays(spec, lr)
    it = iteration(spec, shrink=shrink)
    s = np.asarray(product, dtype=np.float64) + coupled / denominator
    trace = it.memory + 1.0 - shrink - (it.buffered * it.fed + it.direct) * s
    determinant = it.memory * (1.0 - shrink - it.direct * s)
    root = np.sqrt((trace * trace / 4.0 - determinant).astype(np.complex128))
    return np.asarray(np.maximum(np.abs(trace / 2.0 + root), np.abs(trace / 2.0 - root)))
