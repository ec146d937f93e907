"""The learning rate of torch.optim.lr_scheduler's schedules as closed forms of the step.

`step` counts the calls of `scheduler.step()` and starts at 0, the value that the optimizer's first step uses; `lr` is the
rate that the optimizer was built with. Arguments are named, and default, as in the constructors. Torch mostly multiplies
the present rate again and again; its numbers differ from these by the rounding of those products alone (a few 1e-16 a step).
Schedules that also cycle a momentum (CyclicLR, OneCycleLR) are here without it.

Source: torch/optim/lr_scheduler.py and torch/optim/swa_utils.py of PyTorch 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from traindoctor.model import FloatArray, IntArray

#: Schedules that write the rate anew at each step; in a chain they forget what stands before them. The others, but for
#: CosineAnnealingLR, multiply the present rate.
SETS_THE_RATE = frozenset({"LambdaLR", "CyclicLR", "OneCycleLR", "CosineAnnealingWarmRestarts", "SequentialLR"})
#: Schedules whose rate is not a function of the step: it follows a measured value.
FOLLOWS_A_METRIC = frozenset({"ReduceLROnPlateau"})


def lambda_lr(step: IntArray, lr: float, *, lr_lambda: Callable[[int], float]) -> FloatArray:
    """Return lr * lr_lambda(step)."""
    return lr * np.array([lr_lambda(int(s)) for s in step], dtype=np.float64)


def multiplicative_lr(step: IntArray, lr: float, *, lr_lambda: Callable[[int], float]) -> FloatArray:
    """Return lr * lr_lambda(1) * ... * lr_lambda(step)."""
    last = int(np.max(step, initial=0))
    product = np.cumprod([1.0, *(float(lr_lambda(s)) for s in range(1, last + 1))])
    return np.asarray(lr * product[np.asarray(step, dtype=np.int64)], dtype=np.float64)


def step_lr(step: IntArray, lr: float, *, step_size: int, gamma: float = 0.1) -> FloatArray:
    """Return lr * gamma ** floor(step / step_size)."""
    return lr * np.power(gamma, np.floor_divide(_float(step), step_size))


def multi_step_lr(step: IntArray, lr: float, *, milestones: Sequence[int], gamma: float = 0.1) -> FloatArray:
    """Return lr * gamma ** (number of milestones at or before the step)."""
    return lr * np.power(gamma, np.searchsorted(np.sort(milestones), step, side="right").astype(np.float64))


def constant_lr(step: IntArray, lr: float, *, factor: float = 1.0 / 3.0, total_iters: int = 5) -> FloatArray:
    """Return lr * factor before total_iters, and lr from there on."""
    return lr * np.where(_float(step) < total_iters, factor, 1.0)


def linear_lr(
    step: IntArray, lr: float, *, start_factor: float = 1.0 / 3.0, end_factor: float = 1.0, total_iters: int = 5
) -> FloatArray:
    """Return lr * (start_factor + (end_factor - start_factor) * min(step / total_iters, 1))."""
    return lr * (start_factor + (end_factor - start_factor) * np.minimum(_float(step), total_iters) / total_iters)


def exponential_lr(step: IntArray, lr: float, *, gamma: float) -> FloatArray:
    """Return lr * gamma ** step."""
    return lr * np.power(gamma, _float(step))


def cosine_annealing_lr(step: IntArray, lr: float, *, T_max: int, eta_min: float = 0.0) -> FloatArray:  # noqa: N803
    """Return eta_min + (lr - eta_min) * (1 + cos(pi * step / T_max)) / 2, which rises again after T_max.

    Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983, equation 5.
    """
    return eta_min + (lr - eta_min) * (1.0 + np.cos(np.pi * _float(step) / T_max)) / 2.0


def polynomial_lr(step: IntArray, lr: float, *, total_iters: int = 5, power: float = 1.0) -> FloatArray:
    """Return lr * (1 - min(step / total_iters, 1)) ** power."""
    return lr * np.power(1.0 - np.minimum(_float(step), total_iters) / total_iters, power)


def cosine_annealing_warm_restarts(
    step: IntArray,
    lr: float,
    *,
    T_0: int,  # noqa: N803
    T_mult: int = 1,  # noqa: N803
    eta_min: float = 0.0,
) -> FloatArray:
    """Return eta_min + (lr - eta_min) * (1 + cos(pi * T_cur / T_i)) / 2, T_cur the steps since the last restart.

    The first period T_i is T_0; each next one is T_mult times as long.

    Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983, equation 5.
    """
    since, period = since_restart(step, T_0, T_mult)
    return eta_min + (lr - eta_min) * (1.0 + np.cos(np.pi * since / period)) / 2.0


def since_restart(step: IntArray, first: float, growth: float) -> tuple[FloatArray, FloatArray]:
    """Return the steps since the last restart and the length of the period each step lies in; periods grow by a factor.

    Starts are added up, not solved for by a logarithm, which rounds to the wrong side at a restart.
    """
    time = _float(step)
    if growth == 1:
        return np.mod(time, first), np.full(time.shape, float(first))
    last = float(np.max(time, initial=0.0))
    starts, period = [0.0], float(first)
    while starts[-1] + period <= last:
        starts.append(starts[-1] + period)
        period *= growth
    index = np.maximum(np.searchsorted(starts, time, side="right") - 1, 0)
    return time - np.array(starts)[index], first * np.power(float(growth), index)


def cyclic_lr(
    step: IntArray,
    lr: float,
    *,
    base_lr: float,
    max_lr: float,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
) -> FloatArray:
    """Return base_lr + (max_lr - base_lr) * height * scale: triangles between two rates. `lr` is overwritten.

    `mode`: "triangular" has scale 1, "triangular2" 1 / 2**(cycle - 1), "exp_range" gamma**step. A scale function of the
    user's own is not covered, nor is the momentum, which moves the other way.

    Source: Smith 2017, arXiv:1506.01186, section 3.
    """
    del lr
    total = float(step_size_up + (step_size_up if step_size_down is None else step_size_down))
    up = step_size_up / total
    time = _float(step)
    cycle = np.floor(1.0 + time / total)
    x = 1.0 + time / total - cycle
    height = np.where(x <= up, x / up, (x - 1.0) / (up - 1.0) if up < 1.0 else 0.0)
    scale = {"triangular": np.ones_like(time), "triangular2": np.power(2.0, 1.0 - cycle), "exp_range": np.power(gamma, time)}
    return np.asarray(base_lr + (max_lr - base_lr) * height * scale[mode])


def one_cycle_lr(
    step: IntArray,
    lr: float,
    *,
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> FloatArray:
    """Return the rate of one cycle: up from max_lr / div_factor to max_lr, and down to that start over final_div_factor.

    The peak is at pct_start * total_steps - 1; with `three_phase` a way down of the same length leads back to the start
    before the rest falls to the end. NaN after total_steps, where torch raises an error. `lr` is overwritten; the
    momentum, which moves the other way, is not here.

    Source: Smith and Topin 2018, Super-convergence, arXiv:1708.07120, section 4.
    """
    del lr
    first, last = max_lr / div_factor, max_lr / div_factor / final_div_factor
    peak = pct_start * total_steps - 1.0
    ends = [peak, 2.0 * pct_start * total_steps - 2.0, total_steps - 1.0] if three_phase else [peak, total_steps - 1.0]
    rates = [first, max_lr, first, last] if three_phase else [first, max_lr, last]
    time = _float(step)
    rate = np.full(time.shape, np.nan)
    start = 0.0
    for n, end in enumerate(ends):
        inside = np.isnan(rate) & ((time <= end) | (n == len(ends) - 1)) & (time <= total_steps)
        share = (time[inside] - start) / (end - start)
        rate[inside] = rates[n] + (rates[n + 1] - rates[n]) * _annealed(share, anneal_strategy)
        start = end
    return rate


def swa_lr(step: IntArray, lr: float, *, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos") -> FloatArray:
    """Return the way from lr to swa_lr over anneal_epochs calls, and swa_lr from there on, where nothing else moves the rate.

    Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.
    """
    time = _float(step)
    share = np.clip(time / anneal_epochs, 0.0, 1.0) if anneal_epochs else np.ones_like(time)
    alpha = _annealed(share, anneal_strategy)
    return swa_lr * alpha + lr * (1.0 - alpha)


def reduce_lr_on_plateau(
    metric: FloatArray,
    lr: float,
    *,
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    eps: float = 1e-8,
) -> FloatArray:
    """Return the rate after each value of the metric, (n,) float64: times `factor` after more than `patience` bad values.

    A value is bad unless it is better than the best so far by `threshold`, a share of the best or an amount. Values within
    `cooldown` of a reduction are not counted, and a change of at most `eps` is not made. NaN is never better.
    """
    best = np.inf if mode == "min" else -np.inf
    sign = 1.0 if mode == "min" else -1.0
    bad = cooling = 0
    rates = np.empty(metric.size)
    for n, value in enumerate(metric):
        bar = best * (1.0 - sign * threshold) if threshold_mode == "rel" else best - sign * threshold
        if sign * value < sign * bar:
            best, bad = float(value), 0
        else:
            bad += 1
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > patience:
            lower = max(lr * factor, min_lr)
            lr = lower if lr - lower > eps else lr
            cooling, bad = cooldown, 0
        rates[n] = lr
    return rates


def sequential_lr(step: IntArray, parts: Sequence[Part], milestones: Sequence[int]) -> FloatArray:
    """Return the rate of schedules one after another: part n from milestones[n - 1] on, its own steps counted from there.

    A MultiplicativeLR goes on from the rate that the part before it left, times its factor at 0.
    """
    time = np.asarray(step)
    index = np.searchsorted(milestones, time, side="right")
    starts = [0, *milestones]
    rate = np.empty(time.shape)
    for n, part in enumerate(parts):
        scale = 1.0
        if n and part.name == "MultiplicativeLR":
            left = sequential_lr(np.array([starts[n] - 1]), parts[:n], milestones[: n - 1])[0]
            factor: Any = part.settings["lr_lambda"]
            scale = left * float(factor(0)) / part.lr
        rate[index == n] = scale * part.rate(time[index == n] - starts[n])
    return rate


def chained_scheduler(step: IntArray, parts: Sequence[Part]) -> FloatArray:
    """Return the rate of schedules that all move it at every step, in their order.

    At step t each part is the map r -> a r + b of the present rate: one that multiplies has a = f(t) / f(t - 1), one that
    sets the rate a = 0 and b = f(t), and CosineAnnealingLR lies between, (a, b) from its recursion. So that multipliers
    alone give the product of their factors, but one after a LambdaLR counts for a single step.
    """
    time = np.arange(int(np.max(step, initial=0)) + 1)
    factor, shift = np.ones(time.size), np.zeros(time.size)
    for part in parts:
        a, b = part.map(time)
        factor, shift = a * factor, a * shift + b
    rate = np.empty(time.size)
    now = parts[0].lr
    for t in time:
        now = rate[t] = factor[t] * now + shift[t]
    return rate[np.asarray(step, dtype=np.int64)]


class Part:
    """One schedule of a sequence or chain: its name, the rate it starts from, its settings, and its rate alone."""

    def __init__(self, name: str, lr: float, settings: Mapping[str, object], rate: Callable[[IntArray], FloatArray]) -> None:
        self.name = name
        self.lr = lr
        self.settings = settings
        self.rate = rate

    def map(self, time: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return a and b of r -> a r + b at each of the steps 0, 1, 2 ...: what this schedule makes of the present rate."""
        alone = self.rate(time)
        if self.name in SETS_THE_RATE:
            return np.zeros(time.size), alone
        key = {"CosineAnnealingLR": "eta_min", "SWALR": "swa_lr"}.get(self.name, "")
        low = _number(self.settings.get(key, 0.0))
        before = np.concatenate([[self.lr], alone[:-1]])
        at_low = before == low  # a multiplier that reached 0 stays there
        if self.name == "CosineAnnealingLR":  # torch adds here what it cannot multiply
            half = int(_number(self.settings["T_max"]))
            at_low = np.mod(time - 1, 2 * half) == half
        with np.errstate(divide="ignore", invalid="ignore"):
            a = np.where(at_low, 0.0 if self.name == "SWALR" else 1.0, (alone - low) / (before - low))
        return a, np.where(at_low, alone - a * before, low * (1.0 - a))


def _annealed(share: FloatArray, strategy: str) -> FloatArray:
    """Return the way made, 0 to 1, by a half cosine or a straight line."""
    return share if strategy == "linear" else (1.0 - np.cos(np.pi * share)) / 2.0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _float(step: IntArray) -> FloatArray:
    return np.asarray(step, dtype=np.float64)
