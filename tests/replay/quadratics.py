"""Noisy quadratics that are really trained, by the recurrences of `traindoctor.optim`: the truth for a replay."""

from dataclasses import dataclass, field

import numpy as np

from traindoctor.model import Run, Series, Setting
from traindoctor.optim import adam, sgd


@dataclass(frozen=True)
class Quadratic:
    """Coordinates of given curvatures, (d,), in a rotated basis. `start`: weight of each mode, `noise`: standard deviation of the
    gradient of each, at a batch of 1 unit. `floor`: loss that no training removes."""

    curvature: np.ndarray
    start: np.ndarray
    noise: np.ndarray
    floor: float = 0.0
    seed: int = 0

    @property
    def basis(self):
        d = self.curvature.size
        return np.linalg.qr(np.random.default_rng(self.seed).standard_normal((d, d)))[0]


@dataclass(frozen=True)
class Training:
    """What is trained: `lr` at each step, (n_steps,). `thrown`: step -> weights are moved by this share of the start.
    `accumulates`: gradients are never cleared. `forgets`: steps before which Adam's moments are zeroed, the step count kept."""

    spec: object
    lr: np.ndarray
    clip_norm: float = np.inf
    batch: float = 1.0
    thrown: dict = field(default_factory=dict)
    accumulates: bool = False
    forgets: tuple = ()


def _start(spec, shape):
    return adam.start(shape) if spec.is_adam else sgd.start(shape)


def _step(spec, grad, state, lr):
    if spec.is_adam:
        return adam.step(grad, state, lr=lr, beta1=spec.beta1, beta2=spec.beta2, eps=spec.eps, amsgrad=bool(spec.amsgrad))
    return sgd.step(grad, state, lr=lr, momentum=spec.momentum or 0.0, nesterov=bool(spec.nesterov))


def train(problem, training, *, n_seeds=1, seed=0):
    """Return loss and gradient norm before each step, both (n_seeds, n_steps)."""
    rng = np.random.default_rng(seed)
    basis, d = problem.basis, problem.curvature.size
    weight = np.tile(problem.start @ basis, (n_seeds, 1))
    state, summed = _start(training.spec, weight.shape), np.zeros_like(weight)
    n = training.lr.size
    loss, norm = np.empty((n_seeds, n)), np.empty((n_seeds, n))
    for t in range(n):
        if t in training.forgets:
            state = _start(training.spec, weight.shape)._replace(t=t)
        if t in training.thrown:
            weight = weight + training.thrown[t] * (problem.start @ basis)
        modes = weight @ basis.T
        loss[:, t] = problem.floor + 0.5 * (modes**2 * problem.curvature).sum(1)
        noise = rng.standard_normal((n_seeds, d)) * problem.noise / np.sqrt(training.batch)
        grad = (modes * problem.curvature + noise) @ basis
        summed = summed + grad if training.accumulates else grad
        norm[:, t] = np.linalg.norm(summed, axis=1)
        held = np.minimum(1.0, training.clip_norm / np.maximum(norm[:, t], 1e-300))[:, None]
        update, state = _step(training.spec, summed * held, state, training.lr[t])
        weight = weight + update
    return loss, norm


def log_of(spec, loss, grad_norm=None, *, every=1, lr=None, restarts=(), step_unit="step", **settings):
    """Return a run that logged every `every` steps."""
    step = np.arange(0, len(loss), every)
    series = [_series("loss", step, np.asarray(loss)[step])]
    if grad_norm is not None:
        series.append(_series("grad_norm", step, np.asarray(grad_norm)[step]))
    if lr is not None:
        series.append(_series("learning_rate", step, np.asarray(lr)[step]))
    return Run(
        name="quadratic",
        path="quadratic",
        root="",
        series=tuple(series),
        primary={s.quantity: s for s in series},
        settings={key.replace("__", "."): Setting(value, "test") for key, value in settings.items()},
        optimizer=spec,
        restarts=tuple(restarts),
        step_unit=step_unit,
    )


def _series(quantity, step, value):
    return Series(quantity, quantity, step.astype(np.int64), value.astype(np.float64), np.full(step.size, np.nan), "test")
