"""A small noisy quadratic model that is trained with the run's own optimizer, fitted so that it reproduces the log.

The idea. Near the end of its descent a run sits on a valley floor whose steep directions are a few modes of curvature
about lambda = ||g||^2 / (2 (L - L*)). What the log recorded up to its best point is taken as given: the loss and the
gradient of the descent, the *recorded* part. Whether the valley floor is stable is simulated, the *free* part: a few
modes in `N_COORDINATES` coordinates, trained by the optimizer's own recurrence, coordinate by coordinate. Both parts feed
the second moment. The coordinates differ in the gradient energy that they saw (squares of Gaussian numbers, as for a
gradient of random direction), which matters: coordinates with a small second moment become unstable first, and are calmed
one after the other by the gradients that they cause. That is why the disturbed loss climbs over thousands of steps.

Three numbers are fitted: `noise`, so that the simulated floor is as high as the logged one, `scale`, which stands for
the unknown number of parameters and sets the step at which the loss leaves its floor, and `unevenness`, how far the
coordinates differ, which sets how fast and how high it climbs.

A change of settings also changes how fast the descent goes. Each candidate therefore passes through the recorded part at
a pace of its own, the ratio of effective learning rates (its own over the recorded one at the same place of the descent).

What it is not: a model of a loss surface with several valleys, of mini-batch noise that dominates the loss, or of modes
whose curvature changes over the run. It has to reproduce the segment before anything is concluded from it.

Source: the noisy quadratic model of Zhang et al. 2019, arXiv:1907.04164, with coordinates of unequal second moment; the
stability limit it runs into is that of Cohen et al. 2022, arXiv:2207.14484.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.optim import adagrad, adam, rmsprop, sgd
from traindoctor.signals.second_moment import second_moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec
    from traindoctor.replay.candidates import Candidate

N_COORDINATES = 128
N_MODES = 8
#: Curvature of the flattest simulated mode over the steepest: the spread of the Hessian of a least-squares problem with 16
#: times as many features as rows (Marchenko and Pastur 1967).
MODE_SPREAD = 0.55
#: Steps simulated one by one; of a longer log only the second moment is replayed before the last so many steps.
MAX_FINE_STEPS = 8_000
N_COARSE_STEPS = 500

State = adam.State | rmsprop.State | adagrad.State | sgd.State


@dataclass(frozen=True, slots=True)
class Recording:
    """What the log gives the replay, at the logged steps of the run up to the end of the segment.

    `step` (n,) int64; `loss`, `grad_norm`, `lr` (n,) float64, finite and positive. `quiet`: first step of the valley floor,
    at which the recorded part stands still. `floor`: loss there (L*). `noise`: gradient norm there. `curvature`: lambda.
    `absolute`: False where the gradient norm was derived from the loss (g^2 = 2 lambda (L - L*) with lambda = 1), so that
    an eps has no meaning.
    """

    step: IntArray
    loss: FloatArray
    grad_norm: FloatArray
    lr: FloatArray
    spec: OptimizerSpec
    quiet: int
    floor: float
    noise: float
    curvature: float
    absolute: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """The fitted numbers, one for all candidates or (n_candidates,) of the first three.

    `noise`: norm of the fresh part of the gradient noise on the floor. `seed`: of the model's random directions.
    `scale`: root of the number of parameters that one coordinate stands for. `unevenness`: gradient energy of a
    coordinate goes as |z|**(2 * unevenness), z normal: 1 for one gradient of random direction, 0 when all coordinates
    are alike.
    """

    scale: FloatArray
    unevenness: FloatArray
    noise: FloatArray | float
    seed: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """Simulated curves: `step` (n_steps,), `loss` (n_steps, n_candidates).

    `descended`: (n_candidates,) the step at which each reached the valley floor, infinity when it did not.
    """

    step: IntArray
    loss: FloatArray
    descended: FloatArray


class _Optimizers:
    """The optimizers of all candidates, settings as columns, so that one array step serves them all."""

    def __init__(self, specs: Sequence[OptimizerSpec], scale: FloatArray) -> None:
        def column(name: str, default: float) -> FloatArray:
            values = [getattr(s, name) for s in specs]
            return np.array([[default if v is None else float(v)] for v in values])

        first = specs[0]
        self.family = "adam" if first.is_adam else first.name if first.is_adaptive else "sgd"
        self.epsilon_hat = first.dialect == "keras"
        self.eps = column("eps", 1e-10 if self.family == "adagrad" else 1e-8) * scale if first.is_adaptive else 0.0 * scale
        self.beta1 = column("beta1", 0.9)
        self.decay = column("alpha", 0.99) if self.family == "rmsprop" else column("beta2", 0.999)
        self.momentum = column("momentum", 0.0)
        self.nesterov = column("nesterov", 0.0) > 0
        self.amsgrad = column("amsgrad", 0.0) > 0
        self.any_amsgrad = bool(self.amsgrad.any())

    def gather(self, energy: FloatArray, squared: FloatArray, n_steps: int) -> FloatArray:
        """Return the second moment after `n_steps` steps under a constant squared gradient."""
        if self.family == "adagrad":
            return energy + n_steps * squared
        decay = self.decay**n_steps
        after = decay * energy + (1.0 - decay) * squared
        return np.where(self.amsgrad, np.maximum(energy, after), after)

    def denominator(self, energy: FloatArray, t: int) -> FloatArray:
        """Return sqrt(v_hat) + eps, root mean square over the coordinates, from the sum `energy` of v; 1 for SGD."""
        if self.family == "sgd":
            return np.ones_like(energy)
        bias = 1.0 - self.decay ** max(t, 1) if self.family == "adam" else 1.0
        return np.sqrt(energy / bias / N_COORDINATES) + self.eps

    def start(self, n: int, t: int, second: FloatArray) -> State:
        """Return the state after `t` steps whose second moment is `second`, (n, N_COORDINATES)."""
        zero = np.zeros((n, N_COORDINATES))
        if self.family == "adam":
            return adam.State(t, zero, second, second)
        if self.family == "rmsprop":
            return rmsprop.State(t, second, zero)
        if self.family == "adagrad":
            return adagrad.State(t, second)
        return sgd.State(t, zero)

    def step(self, grad: FloatArray, state: State, lr: FloatArray, grad_sq: FloatArray) -> tuple[FloatArray, State]:
        """Return the update and the next state."""
        if isinstance(state, adam.State):
            return adam.step(
                grad,
                state,
                lr=lr,
                beta1=self.beta1,
                beta2=self.decay,
                eps=self.eps,
                amsgrad=self.amsgrad if self.any_amsgrad else False,
                epsilon_hat=self.epsilon_hat,
                grad_sq=grad_sq,
            )
        if isinstance(state, rmsprop.State):
            return rmsprop.step(grad, state, lr=lr, alpha=self.decay, eps=self.eps, momentum=self.momentum, grad_sq=grad_sq)
        if isinstance(state, adagrad.State):
            return adagrad.step(grad, state, lr=lr, eps=self.eps, grad_sq=grad_sq)
        return sgd.step(grad, state, lr=lr, momentum=self.momentum, nesterov=self.nesterov)

    def energy(self, state: State) -> FloatArray:
        """Return the sum of the second moment over the coordinates, (n, 1); 0 for SGD."""
        if isinstance(state, adam.State):
            return np.asarray(state.v_max.sum(1, keepdims=True))
        if isinstance(state, rmsprop.State):
            return np.asarray(state.v.sum(1, keepdims=True))
        if isinstance(state, adagrad.State):
            return np.asarray(state.total.sum(1, keepdims=True))
        return np.zeros_like(self.eps)


def _normal_quantiles(rng: np.random.Generator) -> FloatArray:
    """Return the mid-quantiles of a normal distribution, one a coordinate, in random order."""
    normal = NormalDist()
    return rng.permutation([normal.inv_cdf((j + 0.5) / N_COORDINATES) for j in range(N_COORDINATES)])


def simulate(
    recording: Recording,
    candidates: Sequence[Candidate],
    fit: Fit,
    *,
    begin: int = 0,
    stop: int,
) -> Simulation:
    """Return the loss of every candidate over the steps up to `stop`, all in one pass.

    Before `begin` only the second moment and the pace of
    the descent are followed, coarsely; the same holds before the last `MAX_FINE_STEPS` steps. All candidates share one
    optimizer family. A candidate that overflows gives NaN from there on.
    """
    rng = np.random.default_rng(fit.seed)
    n = len(candidates)
    root = np.broadcast_to(fit.scale, (n,))[:, None]
    modes = np.linalg.qr(rng.standard_normal((N_COORDINATES, N_MODES)))[0].T
    curvatures = recording.curvature * np.linspace(1.0, MODE_SPREAD, N_MODES)
    uneven = np.broadcast_to(fit.unevenness, (n,))[:, None]
    share = np.abs(_normal_quantiles(rng)) ** (2.0 * uneven)
    share /= share.sum(1, keepdims=True)

    # the recorded part, at each step of the descent
    grid = np.arange(min(recording.quiet, stop) + 1)
    recorded_loss = np.exp(np.interp(grid, recording.step, np.log(np.maximum(recording.loss, recording.floor))))
    recorded_grad = np.exp(np.interp(grid, recording.step, np.log(np.maximum(recording.grad_norm, recording.noise))))
    recorded_loss[-1], recorded_grad[-1] = recording.floor, recording.noise
    base = _Optimizers([recording.spec] * n, root)
    recorded_root = np.sqrt(second_moment(recorded_grad, grid, recording.spec) / N_COORDINATES)
    lr = np.interp(np.arange(stop), recording.step, recording.lr)
    rates = np.stack([c.rate(np.arange(stop, dtype=np.float64), stop, lr) for c in candidates], axis=1)
    clip = np.array([[c.clip_norm] for c in candidates])
    louder = np.broadcast_to(fit.noise, (n,))[:, None] * np.sqrt([[c.noise_factor] for c in candidates])

    optimizers = _Optimizers([c.spec for c in candidates], root)
    place = np.zeros((n, 1))
    energy = np.zeros((n, 1))
    descended = np.full(n, np.inf)

    def descend(t: int, n_steps: int) -> None:
        at = place[:, 0].astype(np.int64)
        held = np.minimum(1.0, clip / recorded_grad[at][:, None])
        speed = held * rates[t][:, None] / optimizers.denominator(energy, t + 1)
        pace = lr[at][:, None] / (recorded_root[at][:, None] + base.eps if base.family != "sgd" else 1.0)
        ahead = np.nan_to_num(n_steps * speed / pace, nan=0.0, posinf=grid[-1])  # 0/0: neither moves
        place[:] = np.minimum(place + ahead, grid[-1])
        descended[(place[:, 0] >= grid[-1]) & np.isinf(descended)] = t + n_steps

    begin = max(begin, stop - MAX_FINE_STEPS)
    stride = max(1, -(-begin // N_COARSE_STEPS))
    with np.errstate(divide="ignore", invalid="ignore"):
        for t in range(0, begin, stride):
            squared = np.minimum(recorded_grad[place.astype(np.int64)], clip) ** 2
            energy = optimizers.gather(energy, squared, min(stride, begin - t))
            descend(t, min(stride, begin - t))

    state = optimizers.start(n, begin, energy * share)
    weight = np.zeros((n, N_COORDINATES))
    kicks = rng.standard_normal((stop - begin, N_MODES)) / np.sqrt(N_MODES)
    loss = np.empty((stop - begin, n))
    clipped = np.flatnonzero(np.isfinite(clip[:, 0]))
    along = weight @ modes.T
    on_the_way = True
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for t in range(begin, stop):
            if on_the_way:  # once all have arrived the recorded part stands still
                at = place[:, 0].astype(np.int64)
                recorded = recorded_grad[at][:, None]
                beside, above = recorded**2 * share, recorded_loss[at]
                on_the_way = bool(np.isinf(descended).any())
            grad = (along * curvatures + louder * kicks[t - begin]) @ modes
            fed = grad * grad + beside
            if clipped.size:
                norm = np.sqrt((grad[clipped] ** 2).sum(1, keepdims=True) + recorded[clipped] ** 2)
                shrink = np.minimum(1.0, clip[clipped] / norm)
                grad[clipped] *= shrink
                fed[clipped] *= shrink**2
            update, state = optimizers.step(grad, state, rates[t][:, None] * root, fed)
            weight += update
            along = weight @ modes.T
            loss[t - begin] = 0.5 * (along**2 * curvatures).sum(1) + above
            if on_the_way:
                energy = optimizers.energy(state)
                descend(t, 1)
    return Simulation(np.arange(begin, stop, dtype=np.int64), loss, descended)
