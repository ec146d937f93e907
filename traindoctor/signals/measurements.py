"""What was measured on a run, by name, computed on first use: `m.loss.tail`, `m.grad_norm.autocorrelation(1)`."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.optim.stability import stability_limit
from traindoctor.signals import changes, rates, robust
from traindoctor.signals.layers import OVER_LAYERS, Layers
from traindoctor.signals.periodicity import Epochs
from traindoctor.signals.second_moment import anchored_margin, curvature, second_moment
from traindoctor.signals.shift import Beside, Shift, beside, largest_shift
from traindoctor.signals.start import Start, start_of
from traindoctor.signals.stillness import Stillness, stillness

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray, OptimizerSpec, Run, Series
    from traindoctor.signals.schedule import Reconciliation


#: Words, and neighbouring words, of tags of adversarial games and of policies.
GAME_WORDS = frozenset(
    {
        "gen", "generator", "disc", "discriminator", "adv", "adversarial", "gan", "critic", "actor", "policy", "reward",
        "rewards", "rew", "rollout", "episode", "episodes", "timesteps",
    }
)  # fmt: skip
GAME_PAIRS = frozenset(
    {("d", "loss"), ("g", "loss"), ("loss", "d"), ("loss", "g"), ("value", "loss"), ("loss", "value"), ("entropy", "loss")}
)


_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class SeriesMeasurements:
    """Measurements of one series. Points that are not finite are counted, and left out of every other figure.

    `step` (n,) int64, `value` (n,) float64: the finite points, one a step (the last one logged), in order of steps.
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        self.tag = series.tag
        self.source = f"{series.source}: {series.tag}" if series.source else series.tag
        finite = series.finite()
        order = np.argsort(finite.step, kind="stable")
        step, value = finite.step[order], finite.value[order]
        last = np.append(step[1:] != step[:-1], True) if step.size else np.zeros(0, dtype=bool)
        self.step: IntArray = step[last]
        self.value: FloatArray = value[last]
        self.n_not_finite = len(series) - len(finite)

    @property
    def n(self) -> int:
        """Number of finite points."""
        return int(self.value.size)

    @cached_property
    def stride(self) -> float:
        """Steps between logged points, median; 1 for fewer than two."""
        return float(np.median(np.diff(self.step))) if self.n > 1 else 1.0

    @cached_property
    def smooth(self) -> FloatArray:
        """Running median over a fortieth of the points, at least three."""
        return robust.running_median(self.value, max(3, self.n // 40))

    @cached_property
    def initial(self) -> float:
        """Level at the start: median of the first fiftieth, at least one point."""
        return float(np.median(self.value[: max(1, self.n // 50)])) if self.n else float("nan")

    @cached_property
    def tail(self) -> float:
        """Level at the end: median of the last tenth, at least three points where there are as many."""
        return float(np.median(self.value[-max(3, self.n // 10) :])) if self.n else float("nan")

    @cached_property
    def best(self) -> float:
        """Lowest smoothed value."""
        return float(self.smooth.min()) if self.n else float("nan")

    @cached_property
    def highest(self) -> float:
        """Highest value."""
        return float(self.value.max()) if self.n else float("nan")

    @cached_property
    def positive_share(self) -> float:
        """Share of the points above zero: a loss that is signed has no ratio."""
        return float(np.mean(self.value > 0.0)) if self.n else 0.0

    @property
    def is_positive(self) -> bool:
        """Whether at least 19 of 20 points are above zero, so that ratios of levels mean something."""
        return self.positive_share >= 0.95

    @property
    def is_constant(self) -> bool:
        """Whether all of at least three points are the same number, to the last bit."""
        return self.n >= 3 and bool(np.all(self.value == self.value[0]))

    @property
    def is_zero(self) -> bool:
        """Whether all of at least three points are exactly zero."""
        return self.n >= 3 and not np.any(self.value)

    def autocorrelation(self, lag: int) -> float:
        """Autocorrelation at `lag` logged points; see `robust.autocorrelation`."""
        return robust.autocorrelation(self.value, lag)

    @cached_property
    def rebound(self) -> changes.Rebound | None:
        """The late rise from a floor, of a positive series; None when it has none."""
        return changes.rebound(self.step, self.value) if self.is_positive else None

    @cached_property
    def spikes(self) -> IntArray:
        """Steps at which the series stands eight standard deviations of its local noise above its running median."""
        return self.step[changes.spikes(self.value, 8.0)] if self.n >= 8 else self.step[:0]

    @cached_property
    def oscillation(self) -> tuple[float, float]:
        """Period in steps of the strongest oscillation of the later half, and its share of the variance."""
        half = self.value[self.n // 2 :]
        points, share = changes.period(half)
        return points * self.stride, share

    @cached_property
    def noise(self) -> float:
        """Point-to-point noise of the last third over its level."""
        return changes.relative_noise(self.value[-max(3, self.n // 3) :])

    @cached_property
    def progress_left(self) -> float:
        """Fall over the last third of the points over the fall over the first third, by level; about 1 when steady.

        Near 0 once a series has settled; NaN below nine points or when it does not fall at first.
        """
        if self.n < 9:
            return float("nan")
        a, b, c, d = (float(np.median(part)) for part in np.array_split(self.smooth, 4))
        return (c - d) / (a - b) if a > b else float("nan")

    @cached_property
    def fall_significance(self) -> float:
        """Fall from the first to the last third in units of its standard error, noise by second differences."""
        if self.n < 6:
            return float("nan")
        k = self.n // 3
        fall = float(self.value[:k].mean() - self.value[-k:].mean())
        noise = robust.step_noise(self.value)
        error = max(noise, 1e-9 * abs(self.initial)) * (2.0 / k) ** 0.5
        return fall / error if error > 0.0 else float("nan")

    @cached_property
    def late_low(self) -> float:
        """Tenth percentile of the last third over the first value: above 1 where it never came back; NaN if that is below 0."""
        if self.n < 8 or not self.value[0] > 0.0:
            return float("nan")
        return float(np.quantile(self.value[-(self.n // 3) :], 0.1) / self.value[0])

    @cached_property
    def since_second(self) -> float:
        """Level at the end over the second value: near 1 where everything happened before it; NaN where that is not above 0."""
        return self.tail / float(self.value[1]) if self.n > 1 and self.value[1] > 0.0 else float("nan")

    @cached_property
    def settled(self) -> float:
        """Share of the run after which the smoothed series stays within a fifth of its total fall above its tail."""
        if self.n < 4:
            return float("nan")
        way = self.tail + 0.2 * (max(self.initial, float(self.smooth.max())) - self.tail)
        above = np.flatnonzero(self.smooth > way)
        last = int(above[-1]) + 1 if above.size else 0
        return last / self.n

    @cached_property
    def mostly_settled(self) -> float:
        """As `settled`, but a tenth of the later points may be above: late spikes do not undo it."""
        if self.n < 4:
            return float("nan")
        way = self.tail + 0.2 * (max(self.initial, float(self.smooth.max())) - self.tail)
        above = self.smooth > way
        later = np.cumsum(above[::-1])[::-1] / np.arange(self.n, 0, -1)
        start = np.flatnonzero(~above & (later <= 0.1))
        return float(start[0]) / self.n if start.size else 1.0

    @cached_property
    def middle(self) -> float:
        """Median of all values."""
        return float(np.median(self.value)) if self.n else float("nan")

    @cached_property
    def middle_third(self) -> float:
        """Median of the middle third, NaN below six points."""
        return float(np.median(self.value[self.n // 3 : self.n - self.n // 3])) if self.n >= 6 else float("nan")

    @cached_property
    def tail_third(self) -> float:
        """Median of the last third, NaN below six points."""
        return float(np.median(self.value[-(self.n // 3) :])) if self.n >= 6 else float("nan")

    @cached_property
    def late_high(self) -> float:
        """Third quartile of the later half over the highest value of the first tenth; NaN below 16 points or not above 0."""
        if self.n < 16:
            return float("nan")
        first = float(self.value[: max(2, self.n // 10)].max())
        return float(np.quantile(self.value[self.n // 2 :], 0.75)) / first if first > 0.0 else float("nan")

    @cached_property
    def excursion(self) -> float:
        """How far the first half went above its first value and the end, or below both, over the level at the end.

        0 where it lay between the two; NaN below 8 points or where the end is not above 0.
        """
        if self.n < 8 or not self.tail > 0.0:
            return float("nan")
        early, first = self.value[1 : self.n // 2], float(self.value[0])
        above = float(early.max()) - max(first, self.tail)
        below = min(first, self.tail) - float(early.min())
        return max(above, below, 0.0) / self.tail

    @cached_property
    def reached(self) -> int:
        """First step at which the smoothed series is within a fifth of its total fall above its tail; the first for no fall."""
        way = self.tail + 0.2 * (max(self.initial, float(self.smooth.max())) - self.tail)
        return int(self.step[int(np.argmax(self.smooth <= way))]) if self.tail < 0.9 * self.initial else int(self.step[0])

    def growth(self, first: int, last: int) -> float:
        """Slope of the logarithm over the logarithm of the step count, over the steps `first` to `last`.

        0.5 for a sum of independent terms, 1 for a sum of equal ones, 0 for no growth; NaN below four positive points.
        """
        keep = (self.step >= first) & (self.step <= last) & (self.value > 0.0)
        if keep.sum() < 4:
            return float("nan")
        return robust.slope(np.log(self.step[keep] + 1.0), np.log(self.value[keep]))

    @cached_property
    def relative_change(self) -> float:
        """Largest distance from the first value, over it."""
        return float(np.max(np.abs(self.value - self.value[0])) / abs(self.value[0])) if self.n and self.value[0] else 0.0

    def first_not_finite(self) -> int | None:
        """Step of the first NaN or infinity, None when there is none."""
        bad = np.flatnonzero(~np.isfinite(self.series.value))
        return int(self.series.step[bad[0]]) if bad.size else None

    def before(self, step: int) -> FloatArray:
        """Finite values logged before `step`."""
        return self.value[self.step < step]


class SecondMomentMeasurements:
    """The second moment of the run's own optimizer, replayed from the logged gradient norm (open loop).

    All figures are free of the parameter count but `root_mean_square`, which needs it.
    """

    def __init__(self, step: IntArray, grad_norm: FloatArray, spec: OptimizerSpec, n_parameters: int | None) -> None:
        self.step = step
        self.grad_norm = grad_norm
        self.total = second_moment(grad_norm, step, spec)
        self.spec = spec
        self.n_parameters = n_parameters

    @cached_property
    def ratio(self) -> FloatArray:
        """g^2 / v_hat at the logged steps: below 1 while the optimizer still remembers larger gradients."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.grad_norm**2 / self.total)

    @cached_property
    def root_mean_square(self) -> FloatArray | None:
        """Root mean square of sqrt(v_hat) over the parameters, None where their number is not known."""
        return np.sqrt(self.total / self.n_parameters) if self.n_parameters else None

    def at(self, step: int) -> float:
        """D times the mean of v_hat at the last logged step that is not after `step`."""
        return float(self.total[max(0, int(np.searchsorted(self.step, step, side="right")) - 1)])

    def collapse(self, start: int, stop: int) -> float:
        """How far sqrt(v_hat) fell from `start` to `stop`: its quotient, above 1 when it fell."""
        later = self.at(stop)
        return float(np.sqrt(self.at(start) / later)) if later > 0.0 else float("inf")

    def effective_rate(self, lr: FloatArray) -> FloatArray:
        """Effective learning rate lr / sqrt(v_hat) at the logged steps over its first value, eps left out.

        `lr`: at the logged steps of the gradient norm. NaN or infinite where v_hat is 0.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = lr / np.sqrt(self.total)
            return np.asarray(rate / rate[0])

    def margin(self, onset: int, lr: FloatArray) -> FloatArray:
        """Lr * lambda(P^-1 H) over the run, anchored by its value at `onset`, which is the stability limit by definition.

        `lr`: at the logged steps of the gradient norm.
        """
        at = max(0, int(np.searchsorted(self.step, onset, side="right")) - 1)
        return anchored_margin(self.total, lr, float(self.total[at]), float(lr[at]), stability_limit(self.spec))


@dataclass(frozen=True, slots=True)
class Descent:
    """What happened up to the lowest loss.

    `left`: lowest smoothed loss over the initial one. `grown`: gradient norm at the end of the descent over its start.
    `follows`: correlation of log gradient norm with log loss during it; NaN below four points.
    """

    left: float
    grown: float
    follows: float


class Measurements:
    """Everything that rules read of one run, computed on first use and kept."""

    def __init__(self, run: Run, n_parameters: int | None = None) -> None:
        self.run = run
        self.n_parameters = n_parameters
        self._series: dict[str, SeriesMeasurements] = {}

    @property
    def optimizer(self) -> OptimizerSpec:
        """The optimizer's settings; asking for them in a run that names none is a fault of the rule's `needs`."""
        if self.run.optimizer is None:
            raise LookupError("the rule must name optimizer settings in its needs")
        return self.run.optimizer

    def setting(self, key: str) -> object | None:
        """Return a setting of the run ("precision", "optimizer.eps", ...), None when it is not known."""
        if key in self.run.settings:
            return self.run.settings[key].value
        head, _, name = key.partition(".")
        return getattr(self.run.optimizer, name, None) if head == "optimizer" and self.run.optimizer else None

    def origin(self, key: str) -> str:
        """Return where a setting stands, or "" when it is not known."""
        if self.run.optimizer and key.startswith("optimizer."):
            origin = self.run.optimizer.origin.get(key.partition(".")[2])
            if origin:
                return origin
        return self.run.settings[key].origin if key in self.run.settings else ""

    def name_of(self, step: int) -> str:
        """Return a step as the log counts it: "step 2,301", "epoch 3"."""
        return f"{self.run.step_unit} {step:,}"

    def has(self, need: str) -> bool:
        """Return whether a need of a rule is met: a setting that is known, or a series with a finite value.

        "grad_norm|weight_norm" is met when one of the two is, "layers" when two layers have a gradient or a weight norm.
        """
        if "|" in need:
            return any(self.has(one) for one in need.split("|"))
        if need == "optimizer":
            return self.run.optimizer is not None
        if "." in need:
            return self.setting(need) is not None
        if need == "layers":
            return self.layers.has("grad_norm") or self.layers.has("weight_norm")
        if need in self.run.primary:
            return self.series(need).n > 0
        return need in OVER_LAYERS and self.layers.has(need, 1)

    def series(self, quantity: str) -> SeriesMeasurements:
        """Return the measurements of a quantity's primary series; KeyError when it was not logged.

        The largest attention logit and the share of zeros are those of the layers where no tag speaks for all of them.
        """
        if quantity not in self._series:
            series = self.run.primary.get(quantity)
            if series is None and quantity in OVER_LAYERS:
                series = self.layers.over_layers(quantity)
            if series is None:
                raise KeyError(quantity)
            self._series[quantity] = SeriesMeasurements(series)
        return self._series[quantity]

    @cached_property
    def layers(self) -> Layers:
        """What was logged of each layer; without any, `layers.n` is 0."""
        return Layers(self.run)

    @property
    def loss(self) -> SeriesMeasurements:
        """The training loss."""
        return self.series("loss")

    @property
    def grad_norm(self) -> SeriesMeasurements:
        """The global gradient norm."""
        return self.series("grad_norm")

    @property
    def weight_norm(self) -> SeriesMeasurements:
        """The global norm of the weights."""
        return self.series("weight_norm")

    @property
    def learning_rate(self) -> SeriesMeasurements:
        """The logged learning rate."""
        return self.series("learning_rate")

    @cached_property
    def peak_lr(self) -> float | None:
        """Highest learning rate in use: as logged, else as set; None when neither is known."""
        if self.has("learning_rate"):
            return self.learning_rate.highest
        lr = self.setting("optimizer.lr")
        return float(lr) if isinstance(lr, int | float) else None

    @cached_property
    def usual_lr(self) -> float | None:
        """Learning rate that the run's optimizer is usually given: PyTorch's default; None when the optimizer is not known.

        0.01 for RMSprop and Adagrad is theirs too, but trained networks want less of RMSprop: 1e-3, as in Keras.
        """
        spec = self.run.optimizer
        if spec is None:
            return None
        return {"sgd": 1e-2, "adagrad": 1e-2, "rmsprop": 1e-3}.get(spec.name, 1e-3 if spec.is_adam else None)

    @cached_property
    def rate_ratio(self) -> float | None:
        """Peak learning rate over the usual one; under SGD with momentum the rate counts as lr / (1 - momentum).

        The usual rate of SGD is taken as 0.3, the highest in common recipes, since its scale depends on the loss.
        """
        lr, usual, spec = self.peak_lr, self.usual_lr, self.run.optimizer
        if lr is None or usual is None or spec is None:
            return None
        if spec.is_adaptive:
            return lr / usual
        return lr / max(1e-3, 1.0 - (spec.momentum or 0.0)) / (30.0 * usual)

    @cached_property
    def reach(self) -> float:
        """Sum of the learning rates of all steps, about how far Adam can move a weight; infinite where steps are not counted."""
        loss = self.loss
        if self.run.step_unit != "step" or loss.n < 2:
            return float("inf")
        return float(self.lr_at(loss.step).mean()) * float(loss.step[-1] - loss.step[0])

    @cached_property
    def lr_source(self) -> str:
        """Where `peak_lr` is from."""
        return self.learning_rate.source if self.has("learning_rate") else self.origin("optimizer.lr")

    def lr_at(self, step: IntArray) -> FloatArray:
        """Return the learning rate at given steps: as logged, else as set, else 1 (a constant rate)."""
        if self.has("learning_rate"):
            return np.interp(step, self.learning_rate.step, self.learning_rate.value)
        return np.full(step.size, self.peak_lr or 1.0)

    @cached_property
    def beginning(self) -> rates.Beginning | None:
        """What happened to loss and gradient in the first tenth of the run."""
        primary = self.run.primary
        return rates.beginning(self.loss.step, self.loss.value, primary.get("learning_rate"), primary.get("grad_norm"))

    @cached_property
    def spent_rate(self) -> rates.Spent | None:
        """Where the learning rate came down to a hundredth of its peak for good."""
        lr = self.setting("optimizer.lr")
        peak = float(lr) if isinstance(lr, int | float) else 0.0
        rate = self.learning_rate
        return rates.spent(rate.step, rate.value, rates.planned_length(self.run), peak)

    @cached_property
    def rate_cuts(self) -> rates.Cuts | None:
        """The cuts of the learning rate at uneven distances, by a scheduler that watches the loss."""
        rate = self.learning_rate
        return rates.cuts(rate.step, rate.value, self.loss.step, self.loss.value) if self.has("loss") else None

    @cached_property
    def rate_reset(self) -> rates.Reset | None:
        """Where the schedule began anew before its decay was over."""
        series = self.run.primary["learning_rate"]
        return rates.reset(series.step, series.value, self.run.restarts, series.wall_time)

    @cached_property
    def schedule(self) -> Reconciliation:
        """Whether the logged learning rate follows the configured schedule, and what explains it where it does not."""
        return rates.reconciled(self.run)

    @cached_property
    def clip_norm(self) -> float | None:
        """The configured bound of the gradient norm where the log exceeds it: then the norm was logged before the clip."""
        bound = self.setting("gradient.clip_norm")
        if not isinstance(bound, int | float) or bound <= 0 or not self.has("grad_norm"):
            return None
        return float(bound) if self.grad_norm.highest > 1.01 * bound else None

    @cached_property
    def entering_norm(self) -> FloatArray:
        """Norm of the gradient that enters the optimizer, at the steps of `grad_norm`: as logged, or what a clip leaves."""
        return self.grad_norm.value if self.clip_norm is None else np.minimum(self.grad_norm.value, self.clip_norm)

    @cached_property
    def second_moment(self) -> SecondMomentMeasurements:
        """The optimizer's second moment, replayed from the gradient norm."""
        return SecondMomentMeasurements(self.grad_norm.step, self.entering_norm, self.optimizer, self.n_parameters)

    @cached_property
    def grad_follows_loss(self) -> float:
        """Correlation of log gradient norm with log loss over the run: near 1 in clean descent; NaN when not positive."""
        loss, grad = self.loss, self.grad_norm
        if loss.n < 4 or grad.n < 4:
            return float("nan")
        value = np.interp(grad.step, loss.step, loss.value)
        keep = (value > 0.0) & (grad.value > 0.0)
        return robust.correlation(np.log(value[keep]), np.log(grad.value[keep]))

    @cached_property
    def descent(self) -> Descent:
        """The part of the run up to the lowest smoothed loss, and what the gradient norm did meanwhile."""
        loss, grad = self.loss, self.grad_norm
        low = int(loss.smooth.argmin()) if loss.n else 0
        part = grad.step <= (loss.step[low] if loss.n else 0)
        norms = grad.value[part]
        value = np.interp(grad.step[part], loss.step, loss.value)
        fell = loss.best / loss.initial if loss.initial > 0.0 else float("nan")
        if norms.size < 4 or not (np.all(norms > 0.0) and np.all(value > 0.0)):
            return Descent(fell, float("nan"), float("nan"))
        grown = float(np.median(norms[-max(1, norms.size // 5) :]) / np.median(norms[: max(1, norms.size // 10)]))
        return Descent(fell, grown, robust.correlation(np.log(norms), np.log(value)))

    @cached_property
    def curvature_after(self) -> float:
        """Curvature seen by the gradient after the loss left its floor: 75th percentile of g^2 / (2 (L - L*)); NaN if none.

        The dominating direction's share differs from point to point, and the quotient never exceeds the largest eigenvalue
        of a quadratic: hence an upper quantile, which still leaves out the single worst points.
        """
        rebound = self.loss.rebound
        if rebound is None or not self.has("grad_norm"):
            return float("nan")
        grad = self.grad_norm
        keep = grad.step >= rebound.onset
        loss = np.interp(grad.step[keep], self.loss.step, self.loss.value)
        seen = curvature(loss, rebound.floor, grad.value[keep])
        seen = seen[loss > 100.0 * rebound.floor]
        seen = seen[np.isfinite(seen)]
        return float(np.quantile(seen, 0.75)) if seen.size >= 3 else float("nan")

    @cached_property
    def stillness(self) -> Stillness | None:
        """How the loss stands still, and what gradient and weights do meanwhile; None where it moves."""
        return stillness(self)

    @cached_property
    def epochs(self) -> Epochs:
        """What comes again in every epoch."""
        return Epochs(self)

    @cached_property
    def start(self) -> Start | None:
        """The first loss and gradient norm against those soon after; None where the log begins later."""
        return start_of(self)

    @cached_property
    def shift(self) -> Shift | None:
        """The largest step up of the training loss; None where it has none, or is not positive."""
        above = self.loss.value > 0.0
        return largest_shift(self.loss.step[above], self.loss.value[above]) if self.loss.is_positive else None

    @cached_property
    def beside_shift(self) -> Beside | None:
        """What held-out loss, gradient norm and rate did at that step; None where there is none."""
        return None if self.shift is None else beside(self, self.shift)

    @cached_property
    def is_adversarial(self) -> bool:
        """Whether the losses are those of a game or of a policy, where falling is no virtue: told by the tags."""
        words = [re.split(r"[^a-z]+", _CAMEL.sub("_", s.tag).lower()) for s in self.run.series]
        pairs = {pair for tag in words for pair in itertools.pairwise(tag)}
        return bool(GAME_WORDS & {w for tag in words for w in tag} or GAME_PAIRS & pairs)
