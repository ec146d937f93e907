"""A noisy quadratic with as many modes as a log supports: fitted to loss and gradient norm, then asked "what if".

Given the denominators sqrt(v_hat) + eps that the log itself shows (open loop), the mean loss of a noisy quadratic is *linear*
in the energies that its modes start with, in the noise that each of them is fed, and in its floor:

    L(t)     = L* + sum_k energy_k * init_k(t) + sum_k noise_k * response_k(t)
    ||g||^2  =      sum_k 2 lambda_k * (loss of mode k at t) + (noise of the gradient at t)

So the spectrum is not guessed: a ladder of curvatures is laid out, from the flattest that could matter within the run to the
steepest that the stability limit allows (or, for dynamics of instability, beyond it), and non-negative least squares
finds which rungs the log needs. The same noise that keeps the loss above L* stands in the gradient norm, which decides how
much of the floor is noise. One number is searched for: `root`, the root of the number of parameters, which turns the
optimizer's sqrt(v_hat) and eps into the units of the gradient norm.

What was fitted is then run closed loop: the second moment is driven by the simulated gradient, with the settings of each
candidate. The posterior is drawn by the weighted likelihood bootstrap: each draw fits again with random weights of the
points, so that what the log leaves open differs between draws.

Sources: Zhang et al. 2019, arXiv:1907.04164 (model); Lawson and Hanson 1974, ch. 23 (non-negative least squares);
Newton and Raftery 1994, J. R. Statist. Soc. B 56, 3 (weighted likelihood bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from traindoctor.replay.modes import Linear, Moments, advance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec

#: Stretches into which a log is cut: the model is followed, and compared, at their ends.
N_STRETCHES = 240
#: Rungs of the ladder of curvatures per decade.
PER_DECADE = 4
#: A mode that moves by less than this over the whole run is part of the floor.
STILL = 0.3
#: Further rungs about an oscillation that is seen, and how far to either side.
N_NEAR, NEAR = 41, 0.25
#: How far beyond the limit modes are laid out that sit on it.
BEYOND = 30.0
#: Decades by which even a good model misses a log: the quadratic is a stand-in. Added to the noise of the data.
MODEL_ERROR = 0.05
#: The same for the squared gradient norm, of which a quadratic with noise of one strength is a rougher model.
GRAD_MODEL_ERROR = 0.3
#: Values of `root` that are searched, decades.
ROOTS = 10.0 ** np.arange(0.0, 5.1, 0.5)


@dataclass(frozen=True, slots=True)
class Observation:
    """A log on stretches. `edge` (n + 1,) int64: stretch i is steps edge[i] <= step < edge[i + 1], step 0 the first logged.

    `loss` (n,): mean of what was logged in the stretch. `place` (n,): where in the stretch that was, 0 its start, 1 its end.
    `grad_sq` (n,) or None: mean squared norm of the gradient that enters the optimizer. `lr` (n,). `sigma` (n,): standard error
    of log loss, nats; `grad_sigma` (n,): of log grad_sq.
    """

    edge: IntArray
    loss: FloatArray
    place: FloatArray
    lr: FloatArray
    grad_sq: FloatArray | None
    sigma: FloatArray
    grad_sigma: FloatArray
    spec: OptimizerSpec

    @property
    def n_steps(self) -> IntArray:
        """Length of each stretch, (n,) int64."""
        return np.diff(self.edge)


def observe(step: IntArray, loss: FloatArray, lr: FloatArray, grad_norm: FloatArray | None, spec: OptimizerSpec) -> Observation:
    """Return the log on stretches; all arrays (n,) at the logged steps, `step` increasing, loss positive."""
    step = step - step[0]
    n_steps = int(step[-1]) + (max(1, int(np.median(np.diff(step)))) if step.size > 1 else 1)
    edge = _edges(n_steps, step)
    where = np.searchsorted(edge, step, side="right") - 1
    n = edge.size - 1
    count = np.maximum(np.bincount(where, minlength=n), 1)

    def mean(value: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(where, value, minlength=n) / count)

    def error(value: FloatArray) -> FloatArray:
        rough = np.abs(np.diff(np.log(np.maximum(value, 1e-300)))) / 1.128  # mean |difference| of two normals, 2 / sqrt(pi)
        if rough.size == 0:
            return np.full(n, MODEL_ERROR)
        width = max(1, rough.size // 20)
        local = np.convolve(np.pad(rough, width, mode="edge"), np.ones(width) / width, mode="same")[width:-width]
        return mean(np.append(local, local[-1])) / np.sqrt(count)

    place = (mean(step.astype(np.float64)) - edge[:-1]) / np.diff(edge)
    squared = None if grad_norm is None else mean(grad_norm**2)
    grad_sigma = np.zeros(n) if grad_norm is None else 2.0 * error(grad_norm)
    return Observation(edge, mean(loss), place, mean(lr), squared, error(loss), grad_sigma, spec)


def _edges(n_steps: int, step: IntArray) -> IntArray:
    """Return the edges of at most `N_STRETCHES` stretches, at logged steps: short ones first, where descents are fast.

    Half of them have equal lengths in the logarithm of the step, half in the step.
    """
    wanted = np.concatenate((np.geomspace(1, n_steps, N_STRETCHES // 2 + 1), np.linspace(0, n_steps, N_STRETCHES // 2 + 1)))
    begins = np.append(step, n_steps)
    chosen = begins[np.minimum(np.searchsorted(begins, np.sort(wanted)), begins.size - 1)]
    return np.unique(np.concatenate(([0], chosen, [n_steps])))


# -- the denominator ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Denominator:
    """sqrt(v_hat) + eps in units of the gradient norm, for many candidates at once: settings are arrays of one shape.

    `kind`: "adam", "rmsprop", "adagrad", or "none" for 1. `eps`: times the root of the number of parameters.
    """

    kind: str
    beta2: FloatArray
    eps: FloatArray
    amsgrad: FloatArray

    def gather(self, total: FloatArray, squared: FloatArray, n_steps: int) -> FloatArray:
        """Return the second moment, summed over the parameters, after `n_steps` steps of a squared gradient norm."""
        if self.kind == "adagrad":
            return total + n_steps * squared
        decay = self.beta2**n_steps
        return decay * total + (1.0 - decay) * squared

    def value(self, total: FloatArray, t: int) -> FloatArray:
        """Return the denominator after `t` steps."""
        if self.kind == "none":
            return np.ones_like(total)
        bias = 1.0 - self.beta2**t if self.kind == "adam" else 1.0
        return np.asarray(np.sqrt(total / bias) + self.eps)


def denominator(specs: Sequence[OptimizerSpec], root: float, shape: tuple[int, ...] = (-1,)) -> Denominator:
    """Return the denominators of several settings of one optimizer, laid out in `shape`."""
    first = specs[0]
    kind = "adam" if first.is_adam else first.name if first.is_adaptive else "none"

    def column(name: str, default: float) -> FloatArray:
        values = [getattr(s, name) for s in specs]
        return np.array([default if v is None else float(v) for v in values]).reshape(shape)

    beta2 = column("alpha", 0.99) if kind == "rmsprop" else column("beta2", 0.999)
    eps = column("eps", 1e-8) * root if kind != "none" else column("eps", 0.0)
    return Denominator(kind, beta2, eps, column("amsgrad", 0.0))


def gain_of(form: Linear) -> float:
    """Return how much of a constant gradient an iteration turns into steps, over lr: 1 / (1 - momentum) for heavy ball."""
    return float(form.f / (1.0 - form.c) * form.p + form.q) if form.c < 1.0 else float("inf")


def recorded_rate(obs: Observation, root: float) -> FloatArray:
    """Return lr / denominator on each stretch, (n,), from the recorded gradient norm (open loop)."""
    form = denominator([obs.spec], root)
    if form.kind == "none":
        return obs.lr
    squared = obs.loss if obs.grad_sq is None else obs.grad_sq
    total, highest = np.zeros(1), np.zeros(1)
    rate = np.empty(obs.lr.size)
    for i, n in enumerate(obs.n_steps):
        total = form.gather(total, squared[i : i + 1], int(n))
        highest = np.maximum(highest, total)
        rate[i] = obs.lr[i] / form.value(np.where(form.amsgrad > 0, highest, total), int(obs.edge[i + 1]))[0]
    return rate


# -- the fit --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dynamics:
    """What is let free in a fit.

    `form`: the optimizer's iteration, `limit` its largest stable product. `capped`: whether modes beyond the limit are allowed,
    whose curvature gives way until they sit on it (self-stabilisation: Damian, Nichani and Lee 2023, arXiv:2209.15594).
    `echoes`: whether noise may go with the loss, beside a constant one. `seen`: what of a mode makes the gradient norm, "x" its
    weight, or "b" its buffer where gradients add up. `kicks`: stretches at whose start the modes are thrown off, by gradients
    of the norms `kick_norms` (infinite where not known). `rate_factor` (n,): lr / denominator over the recorded one, where
    that was another. `around`: a product about which the ladder has more rungs: an undamped oscillation over many periods
    tells curvatures apart that are close.
    """

    form: Linear
    limit: float
    capped: bool = False
    echoes: bool = True
    seen: Literal["x", "b"] = "x"
    kicks: tuple[int, ...] = ()
    kick_norms: tuple[float, ...] = ()
    rate_factor: FloatArray | None = None
    around: float | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model; `draws` along the first axis, the best fit first.

    `curvature` (n_modes,): lambda times `root`, in units of the recorded denominator. `energy` (n_draws, n_modes): loss of each
    mode at the start. `noise` (n_draws, n_modes): E[N**2] of each mode, constant; `echo` (n_draws, n_modes): the part that is
    proportional to the loss over its first value. `floor` (n_draws,). `kick` (n_draws, n_kicks, n_modes). `predicted` (n,):
    loss of the best fit on the stretches. `miss`: of loss and then gradient norm, log of predicted over logged in standard
    errors. `n_free`: numbers that the best fit needs.
    """

    dynamics: Dynamics
    root: float
    curvature: FloatArray
    energy: FloatArray
    noise: FloatArray
    echo: FloatArray
    kick: FloatArray
    floor: FloatArray
    predicted: FloatArray
    miss: FloatArray
    n_free: int


def log_likelihood(miss: FloatArray) -> float:
    """Return the log-likelihood, nats, of misses in standard errors, up to what is the same for all models.

    Student's t with four degrees of freedom, so that a few points that nothing explains do not decide.
    """
    return float(-2.5 * np.sum(np.log1p(np.minimum(np.abs(miss), 1e6) ** 2 / 4.0)))


def spread_of(obs: Observation) -> FloatArray:
    """Return the standard error of log loss of each stretch, (n,), nats: that of the data and that of the model."""
    return np.asarray(np.hypot(obs.sigma, MODEL_ERROR * np.log(10.0)))


def misses(obs: Observation, loss: FloatArray, grad_sq: FloatArray | None = None) -> FloatArray:
    """Return how far a course lies from the log, in standard errors: the loss, then the gradient norm where both have one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        miss = (np.log(np.maximum(loss, 1e-300)) - np.log(obs.loss)) / spread_of(obs)
        if grad_sq is not None and obs.grad_sq is not None:
            spread = np.hypot(obs.grad_sigma, GRAD_MODEL_ERROR * np.log(10.0))
            miss = np.append(miss, (np.log(np.maximum(grad_sq, 1e-300)) - np.log(obs.grad_sq)) / spread)
    return np.nan_to_num(miss, nan=1e6, posinf=1e6, neginf=-1e6)


def ladder(obs: Observation, rate: FloatArray, dynamics: Dynamics) -> FloatArray:
    """Return the curvatures to choose from, (n_modes,), rising by a constant factor."""
    way = float(np.sum(rate * obs.n_steps))
    top = dynamics.limit / float(rate.max()) * (BEYOND if dynamics.capped else 0.99)
    low = min(STILL / way, top / 10.0)
    rungs = np.geomspace(low, top, max(4, int(np.ceil(np.log10(top / low) * PER_DECADE)) + 1))
    if dynamics.around is not None:
        near = dynamics.around / float(np.median(rate[rate > 0.0])) * np.linspace(1.0 - NEAR, 1.0 + NEAR, N_NEAR)
        rungs = np.unique(np.concatenate((rungs, near[near < top])))
    return np.asarray(rungs)


def columns(obs: Observation, rate: FloatArray, curvature: FloatArray, h: Dynamics) -> tuple[FloatArray, FloatArray]:
    """Return what each free number adds to the loss, and to the gradient norm over 2 lambda, on each stretch.

    Both (n, n_sources, n_modes), sources being the start, the constant noise, the noise that goes with the loss, and the kicks.
    """
    n_sources = 3 + len(h.kicks)
    shape = (n_sources, curvature.size)
    xx = np.zeros(shape)
    xx[0] = 1.0
    moments = Moments(xx, np.zeros(shape), np.zeros(shape))
    feed = np.zeros((n_sources, 1))
    loss = np.empty((obs.loss.size, *shape))
    seen = np.empty_like(loss)
    relative = obs.loss / obs.loss[0]
    decay = np.zeros(1)
    with np.errstate(over="ignore", invalid="ignore"):
        for i, n in enumerate(obs.n_steps):
            for k, at in enumerate(h.kicks):
                if at == i:
                    moments.xx[3 + k] = 1.0
            feed[1], feed[2] = 1.0, relative[i]
            after = advance(moments, h.form, _product(rate[i] * curvature, h), decay, feed, int(n))
            f = obs.place[i]
            loss[i] = (1.0 - f) * moments.xx + f * after.xx
            if h.seen == "x":
                seen[i] = loss[i] + feed
            else:
                seen[i] = (1.0 - f) * moments.bb + f * after.bb
            moments = Moments(after.xx.copy(), after.xb, after.bb)
    return loss, seen


def _product(product: FloatArray, dynamics: Dynamics, limit: FloatArray | float | None = None) -> FloatArray:
    """Return lr * lambda / D as the modes feel it: on the limit where it would lie beyond and the curvature gives way."""
    return np.minimum(product, dynamics.limit if limit is None else limit) if dynamics.capped else product


class _Laid(NamedTuple):
    """The ladder of curvatures for a value of `root`, and what each rung adds: see `columns`."""

    root: float
    curvature: FloatArray
    loss: FloatArray
    seen: FloatArray


def fit(obs: Observation, h: Dynamics, *, n_draws: int = 0, seed: int = 0, roots: Sequence[float] | None = None) -> Fit | None:
    """Return the best fit of some dynamics with its posterior draws, or None when nothing finite fits.

    `roots`: values of `root` to search, `ROOTS` where the log has a gradient norm and the optimizer divides by it.
    """
    return _best_fit(obs, h, _lay_out(obs, h, roots), n_draws, seed)


def fits_with_and_without_echo(
    obs: Observation, h: Dynamics, *, n_draws: int = 0, seed: int = 0, roots: Sequence[float] | None = None
) -> list[Fit]:
    """Return the best fits with noise that may go with the loss, and without: those that there are."""
    laid = _lay_out(obs, h, roots)
    found = [_best_fit(obs, replace(h, echoes=echoes), laid, n_draws, seed) for echoes in (True, False)]
    return [one for one in found if one is not None]


def _lay_out(obs: Observation, h: Dynamics, roots: Sequence[float] | None) -> list[_Laid]:
    """Return the ladders for every value of `root`; those whose rates differ by less than a hundredth share one."""
    if roots is None:
        roots = [float(r) for r in ROOTS] if obs.spec.is_adaptive and obs.grad_sq is not None else [1.0]
    laid: list[_Laid] = []
    last: FloatArray | None = None
    for root in roots:
        rate = recorded_rate(obs, root) * (1.0 if h.rate_factor is None else h.rate_factor)
        if last is not None and np.max(np.abs(rate / last - 1.0)) <= 0.01:
            laid.append(laid[-1]._replace(root=root))
            continue
        curvature = ladder(obs, rate, h)
        laid.append(_Laid(root, curvature, *columns(obs, rate, curvature, h)))
        last = rate
    return laid


def _best_fit(obs: Observation, h: Dynamics, laid: Sequence[_Laid], n_draws: int, seed: int) -> Fit | None:
    """Return the likeliest fit over all ladders, with draws."""
    found = [(fit, one) for one in laid if (fit := _solve(obs, h, one, n_draws=0, seed=seed)) is not None]
    if not found:
        return None
    best, at = max(found, key=lambda pair: log_likelihood(pair[0].miss))
    return _solve(obs, h, at, n_draws=n_draws, seed=seed) if n_draws else best


def _solve(obs: Observation, h: Dynamics, laid: _Laid, *, n_draws: int, seed: int) -> Fit | None:
    """Return the non-negative least-squares fit on a ladder, and `n_draws` fits under random weights of the points."""
    from scipy.optimize import nnls

    root, curvature, loss, seen = laid
    n, n_sources, n_modes = loss.shape
    of_loss = np.column_stack((loss.reshape(n, -1), np.ones(n)))
    rows, data, error = [of_loss], [obs.loss], [spread_of(obs)]
    if obs.grad_sq is not None:
        scaled = seen * (2.0 * curvature / root)
        rows.append(np.column_stack((scaled.reshape(n, -1), np.zeros(n))))
        data.append(obs.grad_sq)
        error.append(np.hypot(obs.grad_sigma, GRAD_MODEL_ERROR * np.log(10.0)))
    matrix, target, sigma = np.concatenate(rows), np.concatenate(data), np.concatenate(error)
    ok = np.isfinite(target) & (target > 0.0)
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(matrix).all(axis=0))
    if not h.echoes:
        usable[2 * n_modes : 3 * n_modes] = False
    matrix = np.where(usable, matrix, 0.0)
    matrix, target, sigma = matrix[ok], target[ok], sigma[ok]
    if target.size < 4:
        return None

    def solve(weight: FloatArray) -> FloatArray:
        model = target
        for _ in range(3):
            by = weight / (sigma * np.sqrt(target * np.clip(model, 0.03 * target, 30.0 * target)))
            scale = np.linalg.norm(matrix * by[:, None], axis=0)
            scale[scale == 0.0] = 1.0
            found, _ = nnls(matrix * by[:, None] / scale, target * by, maxiter=30 * matrix.shape[1])
            answer = found / scale
            model = np.maximum(matrix @ answer, 1e-300)
        return np.asarray(answer)

    try:
        answers = [solve(np.ones(target.size))]
        rng = np.random.default_rng(seed)
        for _ in range(n_draws):
            blocks = rng.exponential(size=max(4, n // 8))
            spread = np.sqrt(np.repeat(blocks, -(-n // blocks.size))[:n])
            answers.append(solve(np.concatenate([spread] * len(rows))[ok]))
    except RuntimeError:
        return None
    best = answers[0]
    miss = (np.log(np.maximum(matrix @ best, 1e-300)) - np.log(target)) / sigma
    parts = np.array(answers)[:, :-1].reshape(len(answers), n_sources, n_modes)
    keep = parts.any(axis=(0, 1))
    parts = parts[:, :, keep]
    return Fit(
        h,
        root,
        curvature[keep],
        parts[:, 0],
        parts[:, 1],
        parts[:, 2],
        parts[:, 3:],
        np.array(answers)[:, -1],
        np.maximum(np.where(usable, of_loss, 0.0) @ best, 1e-300),
        miss,
        _groups(best[:-1].reshape(n_sources, n_modes) > 0.0) + int(best[-1] > 0.0),
    )


def _groups(used: NDArray[np.bool_]) -> int:
    """Return how many runs of neighbouring rungs are in use, (n_sources, n_modes): a mode between two rungs uses both."""
    return int(np.sum(used[:, 0]) + np.sum(used[:, 1:] & ~used[:, :-1]))


def best_of(fit: Fit) -> Fit:
    """Return the best fit without the other draws."""
    one = slice(0, 1)
    return replace(
        fit, energy=fit.energy[one], noise=fit.noise[one], echo=fit.echo[one], kick=fit.kick[one], floor=fit.floor[one]
    )


# -- what if --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    """One candidate for the closed loop: the optimizer with the change in it, and what lies around it.

    `form`: its iteration, as `Dynamics.form`. `lr` (n,): learning rate on each stretch. `clip_norm`: bound of the gradient
    norm. `noise_factor`: on the variance of the gradient noise, one over the growth of the batch. `seen` as in `Dynamics`.
    """

    spec: OptimizerSpec
    form: Linear
    limit: float
    lr: FloatArray
    clip_norm: float = np.inf
    noise_factor: float = 1.0
    seen: Literal["x", "b"] = "x"


class Simulated(NamedTuple):
    """Loss, squared gradient norm and effective rate lr / denominator on each stretch, all (n_candidates, n_draws, n)."""

    loss: FloatArray
    grad_sq: FloatArray
    rate: FloatArray


def simulate(obs: Observation, fitted: Fit, settings: Sequence[Settings]) -> Simulated:
    """Return the courses of the candidates, the second moment driven by the simulated gradient (closed loop).

    A candidate that overflows is infinite from there on.
    """
    h = fitted.dynamics
    n_candidates, n_draws = len(settings), fitted.floor.size
    shape = (n_candidates, n_draws, fitted.curvature.size)
    per = (n_candidates, 1, 1)
    below = denominator([s.spec for s in settings], fitted.root, per)
    form = Linear(*(np.array([getattr(s.form, name) for s in settings]).reshape(per) for name in Linear._fields))
    lr = np.array([s.lr for s in settings])
    wd = np.array([_decoupled(s.spec) for s in settings]).reshape(per)
    clip = np.array([s.clip_norm for s in settings]).reshape(per)
    quieter = np.array([s.noise_factor for s in settings]).reshape(per)
    limits = np.array([s.limit for s in settings]).reshape(per)
    from_buffer = np.array([s.seen == "b" for s in settings]).reshape(per)
    height = 2.0 * fitted.curvature / fitted.root
    zero = np.zeros(shape)
    moments = Moments(zero + fitted.energy, zero, zero)
    total, highest = np.zeros((n_candidates, n_draws, 1)), np.zeros((n_candidates, n_draws, 1))
    floor = fitted.floor[None, :]
    loss = np.empty((n_candidates, n_draws, obs.loss.size))
    grad_sq, rates = np.empty_like(loss), np.empty_like(loss)
    first = np.maximum(floor + fitted.energy.sum(-1)[None], 1e-300)
    now = np.broadcast_to(first, (n_candidates, n_draws))
    longest = _longest(below)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for i, n in enumerate(obs.n_steps):
            for k, at in enumerate(h.kicks):
                if at == i:
                    left = np.minimum(1.0, clip / h.kick_norms[k]) ** 2
                    moments = Moments(moments.xx + left * fitted.kick[None, :, k], moments.xb, moments.bb)
            start, f, t = now, obs.place[i], int(obs.edge[i])
            met = []
            rate = (lr[:, i] * (1.0 if h.rate_factor is None else h.rate_factor[i])).reshape(per)
            for piece in _pieces(int(n), longest):
                feed = quieter * (fitted.noise + fitted.echo * (now / first)[..., None])
                seen = np.where(from_buffer, moments.bb, moments.xx + feed)
                squared = np.sum(height * seen, axis=-1, keepdims=True)
                met.append(squared)
                held = np.minimum(1.0, clip / np.sqrt(np.maximum(squared, 1e-300)))
                squared = squared * held * held
                total = below.gather(total, squared, piece)
                highest = np.maximum(highest, total)
                t += piece
                effective = rate * held / below.value(np.where(below.amsgrad > 0, highest, total), t)
                moments = advance(moments, form, _product(effective * fitted.curvature, h, limits), rate * wd, feed, piece)
                moments = Moments(*(np.where(np.isfinite(part), part, np.inf) for part in moments))
                now = floor + moments.xx.sum(-1)
            loss[:, :, i] = np.where(np.isfinite(now), (1.0 - f) * start + f * now, np.inf)
            grad_sq[:, :, i] = np.mean(met, axis=0)[..., 0]
            rates[:, :, i] = effective[..., 0]
    return Simulated(loss, grad_sq, rates)


def _longest(below: Denominator) -> int:
    """Return how many steps the denominator may be held: a tenth of the second moment's memory."""
    if below.kind in ("none", "adagrad"):
        return 64
    memory = 1.0 / max(1.0 - float(below.beta2.min()), 1e-6)
    return max(2, int(0.1 * memory))


def _pieces(n_steps: int, longest: int) -> list[int]:
    """Return the lengths of equal pieces of a stretch, none longer than `longest`, at most 16."""
    n = min(16, -(-n_steps // longest))
    return [n_steps // n + (k < n_steps % n) for k in range(n)]


def _decoupled(spec: OptimizerSpec) -> float:
    """Return the weight decay that does not pass through the gradient."""
    return spec.weight_decay or 0.0 if spec.name == "adamw" else 0.0
