"""How steep a quadratic may be before an optimizer's iteration on it becomes unstable."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traindoctor.model import OptimizerSpec


def stability_limit(spec: OptimizerSpec) -> float:
    """Return the largest stable lr * lambda_max(P^-1 H): P is 1 for SGD, sqrt(v_hat) + eps for adaptive optimizers.

        SGD 2 · heavy ball 2 (1 + mu) · Nesterov 2 (1 + mu) / (1 + 2 mu) · Adam (2 + 2 beta1) / (1 - beta1)
        RMSprop 2 (1 + mu) · Adagrad 2

    Adam's first moment averages where SGD's buffer adds up, hence the factor 1 / (1 - beta1): 38 at beta1 = 0.9, and not
    the 2 of gradient descent. beta1 = 1 gives infinity: the parameters never move.

    Source: Cohen et al. 2022, Adaptive gradient methods at the edge of stability, arXiv:2207.14484, section 2 and
    appendix A; Cohen et al. 2021, arXiv:2103.00065, section 2 and appendix B for momentum and Nesterov.
    """
    if spec.is_adam:
        beta1 = 0.9 if spec.beta1 is None else spec.beta1
        return (2.0 + 2.0 * beta1) / (1.0 - beta1) if beta1 < 1.0 else float("inf")
    momentum = spec.momentum or 0.0
    if spec.nesterov:
        return 2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum)
    return 2.0 * (1.0 + momentum)
