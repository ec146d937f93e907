"""What a checkpoint says, as plain numbers: no tensor outlives its reading.

Everything here can be built by hand in a test; reading it from files is the work of the other modules of this folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The quantiles of absolute values that are kept of a tensor.
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
#: First and second moment by the names of torch.optim; a second moment that is the maximum so far stands before the current one.
FIRST, SECOND = "exp_avg", ("max_exp_avg_sq", "exp_avg_sq", "square_avg", "sum")
#: Settings that only this optimizer of torch.optim has together.
SIGNATURES = {
    "adam": {"lr", "betas", "eps", "amsgrad"},
    "nadam": {"lr", "betas", "eps", "momentum_decay"},
    "rmsprop": {"lr", "alpha", "eps", "centered"},
    "adagrad": {"lr", "lr_decay", "initial_accumulator_value"},
    "sgd": {"lr", "momentum", "dampening", "nesterov"},
}


@dataclass(frozen=True, slots=True)
class Values:
    """Figures of one tensor. `quantiles`: of the absolute finite values at `QUANTILES`, of a regular sample where it is large.

    `norm`: root of the sum of squares of the finite values. `largest`: largest absolute finite value. `subnormal`: values
    that are not 0 and too small for the full precision of their format. NaN where there is no value.
    """

    shape: tuple[int, ...]
    dtype: str
    size: int
    nan: int = 0
    infinite: int = 0
    zeros: int = 0
    subnormal: int = 0
    norm: float = float("nan")
    largest: float = float("nan")
    quantiles: tuple[float, ...] = ()

    @property
    def lost(self) -> int:
        """Number of values that are NaN or infinite."""
        return self.nan + self.infinite


@dataclass(frozen=True, slots=True)
class Moments:
    """What first and second moment of a parameter say together, and with its weights. Shares are of the parameter's elements.

    `root`: median of sqrt(v_hat), of elements that ever had a gradient, and so are `below_eps` and `near_eps`: the shares with
    sqrt(v_hat) under eps, under ten times eps. `memory`: mean of m_hat^2 over mean of v_hat: about (1 - beta1) / (1 + beta1)
    where gradients are noise, 1 where they are all alike, far below where v lives on old ones.
    `starved`: share with v exactly 0 and m not. `dead_rows` of `rows`: rows of a matrix whose first moment is 0 throughout.
    `rounded_away`: share of the weights that the next update leaves as they are, in the format they are kept in. None where
    it is not known.
    """

    root: float
    below_eps: float | None = None
    near_eps: float | None = None
    memory: float | None = None
    starved: float = 0.0
    dead_rows: int = 0
    rows: int = 0
    rounded_away: float | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A parameter that an optimizer holds. `name`: "" where the file does not tell which one it is.

    `slots`: name of a state ("exp_avg", "momentum_buffer", ...) -> its figures; empty for a parameter that was never stepped.
    """

    index: int
    name: str
    group: int
    slots: Mapping[str, Values] = field(default_factory=dict)
    step: float | None = None
    moments: Moments | None = None

    @property
    def size(self) -> int:
        """Number of elements, 0 where it is not known."""
        return max((values.size for values in self.slots.values()), default=0)

    @property
    def second(self) -> Values | None:
        """The second moment that divides the updates."""
        return next((self.slots[name] for name in SECOND if name in self.slots), None)


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """One optimizer as saved. `groups`: settings of each parameter group, numbers and words alone.

    `strangers`: shapes of states that no weight of the file has left; `orphans`: shapes of matrices that no state has left. Both
    empty where weights and states are not kept as they are in training.
    """

    place: str
    groups: tuple[Mapping[str, object], ...]
    held: tuple[Held, ...]
    strangers: tuple[tuple[int, ...], ...] = ()
    orphans: tuple[tuple[int, ...], ...] = ()

    @property
    def with_state(self) -> tuple[Held, ...]:
        """The parameters that were stepped at least once."""
        return tuple(one for one in self.held if one.slots)

    @property
    def step(self) -> float | None:
        """The highest step count of a parameter, None where none is kept."""
        return max((one.step for one in self.held if one.step is not None), default=None)

    @property
    def keeps_state(self) -> bool:
        """Whether it is of a kind that keeps a state for each parameter that it steps, told by its settings."""
        return any("betas" in group or "alpha" in group or bool(group.get("momentum")) or "rho" in group for group in self.groups)

    @property
    def size(self) -> int:
        """Number of elements of all parameters with a state."""
        return sum(one.size for one in self.with_state)

    def setting(self, name: str) -> object | None:
        """Return a setting of the largest parameter group, None where it has none of that name."""
        sizes = [sum(one.size or 1 for one in self.held if one.group == i) for i in range(len(self.groups))]
        order = sorted(range(len(self.groups)), key=lambda i: -sizes[i])
        return next((self.groups[i][name] for i in order if name in self.groups[i]), None)

    def number(self, name: str) -> float | None:
        """Return a setting that is a number."""
        value = self.setting(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def beta2(self) -> float | None:
        """Decay of the second moment."""
        betas = self.setting("betas")
        if isinstance(betas, list | tuple) and len(betas) == 2 and isinstance(betas[1], int | float):
            return float(betas[1])
        return self.number("alpha")

    @property
    def name(self) -> str:
        """What its settings tell it to be, by the signatures of torch.optim; "" for another one.

        AdamW is told from Adam where PyTorch writes `decoupled_weight_decay`.
        """
        keys = set().union(*self.groups) if self.groups else set()
        for name, own in SIGNATURES.items():
            if own <= keys:
                return "adamw" if name == "adam" and self.setting("decoupled_weight_decay") else name
        return ""

    @property
    def settings(self) -> dict[str, object]:
        """Its settings in the one vocabulary, those of the largest group; empty where it is not known which optimizer it is."""
        if not self.name:
            return {}
        names = {"betas": "betas", "eps": "eps", "momentum": "momentum", "alpha": "alpha", "weight_decay": "weight_decay",
                 "amsgrad": "amsgrad", "nesterov": "nesterov", "dampening": "dampening", "centered": "centered"}  # fmt: skip
        told = {f"optimizer.{name}": value for key, name in names.items() if (value := self.setting(key)) is not None}
        lr = self.number("initial_lr") if self.number("initial_lr") is not None else self.number("lr")
        return {"optimizer.name": self.name, **told, **({} if lr is None else {"optimizer.lr": lr})}

    @property
    def second_dtype(self) -> str:
        """Format of the second moment, by elements; "" where there is none."""
        return _most({one.second.dtype: one.size for one in self.with_state if one.second is not None} if self.held else {})

    def share(self, name: str) -> float | None:
        """Return a share of `Moments` over all parameters for which it is known, weighted by their elements; None for none."""
        known = self._known(name)
        total = sum(size for size, _ in known)
        return sum(size * value for size, value in known) / total if total else None

    def typical(self, name: str) -> float | None:
        """Return the median over the parameters of a figure of `Moments`; None where no parameter has it."""
        known = sorted(value for _, value in self._known(name))
        return known[len(known) // 2] if known else None

    def _known(self, name: str) -> list[tuple[int, float]]:
        figures = [(one.size, getattr(one.moments, name)) for one in self.held if one.moments is not None]
        return [(size, float(value)) for size, value in figures if value is not None and value == value]

    @property
    def coasting(self) -> float | None:
        """Typical `memory` over that of gradients that are noise: far below 1 where v lives on old gradients; None if unknown."""
        betas, memory = self.setting("betas"), self.typical("memory")
        if (
            memory is None
            or not isinstance(betas, list | tuple)
            or not isinstance(betas[0], int | float)
            or not 0.0 <= betas[0] < 1.0
        ):
            return None
        return memory * (1.0 + betas[0]) / (1.0 - betas[0])

    @property
    def dead(self) -> bool:
        """Whether no weight matrix has had a gradient of late, while another parameter has."""
        moments = [one.moments for one in self.with_state if one.moments is not None]
        matrices = [one for one in moments if one.rows]
        vectors = [one.slots[FIRST] for one in self.with_state if FIRST in one.slots and len(one.slots[FIRST].shape) < 2]
        return len(matrices) >= 2 and all(one.dead_rows == one.rows for one in matrices) and any(v.largest > 0.0 for v in vectors)

    @property
    def living(self) -> bool:
        """Whether each weight matrix has rows with a gradient of late."""
        matrices = [one.moments for one in self.with_state if one.moments is not None and one.moments.rows]
        return len(matrices) >= 2 and all(one.dead_rows < one.rows for one in matrices)

    @property
    def only_zeros(self) -> bool:
        """Whether every state of every parameter is exactly 0."""
        slots = [values for one in self.with_state for values in one.slots.values() if values.size]
        return bool(slots) and all(values.zeros == values.size for values in slots)

    def label(self, one: Held) -> str:
        """Return what a parameter is called in a sentence."""
        return one.name or f"parameter {one.index} of {self.place or 'the optimizer'}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint. `weights`: by name, in the order of the model. `steps`: counters that stand in it, by name.

    `step`: the step it was made at, from `step_source`; None where it does not say. `schedulers`: their numbers. `scaler`: the
    loss scaler's numbers. `optimizer_dtype`, `weight_dtype`: the usual format, "" for none.
    """

    file: str
    format: str
    weights: Mapping[str, Values] = field(default_factory=dict)
    optimizers: tuple[OptimizerState, ...] = ()
    schedulers: tuple[Mapping[str, object], ...] = ()
    scaler: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None
    step_source: str = ""
    epoch: float | None = None
    bytes: int = 0

    @property
    def weight_dtype(self) -> str:
        """Format of most weights, "" where there are none."""
        sizes: dict[str, int] = {}
        for values in self.weights.values():
            if "float" in values.dtype:
                sizes[values.dtype] = sizes.get(values.dtype, 0) + values.size
        return _most(sizes)

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of weights that hold NaN, or an infinity that is no mask, in the order of the model."""
        return tuple(
            name
            for name, values in self.weights.items()
            if values.nan or (values.infinite and name.endswith(("weight", "bias")) and "mask" not in name)
        )

    @property
    def n_parameters(self) -> int | None:
        """Number of parameters that were stepped, None where no optimizer says."""
        return sum(optimizer.size for optimizer in self.optimizers) or None

    def horizons_passed(self, scheduler: Mapping[str, object]) -> Passed | None:
        """Return how often a scheduler has passed its own horizon; None for one without."""
        counted = scheduler.get("last_epoch")
        if not isinstance(counted, float):
            return None
        for name, words in (
            ("T_max", "the cosine has gone down and up again all along"),
            ("step_size", "the rate was lowered so many times"),
            ("total_steps", "the schedule was over long ago"),
        ):
            horizon = scheduler.get(name)
            if isinstance(horizon, float) and horizon >= 1.0:
                times = counted / horizon
                gamma = scheduler.get("gamma")
                if name == "step_size" and (not isinstance(gamma, float) or not 0.0 < gamma < 1.0 or gamma**times > 1e-6):
                    times = min(times, 1.0)  # many small cuts are a plan
                return Passed(name, horizon, times, words)
        return None

    @property
    def at(self) -> str:
        """The step in words, with the file."""
        return f"{self.file} (step {self.step:,})" if self.step is not None else self.file


@dataclass(frozen=True, slots=True)
class Passed:
    """A horizon of a scheduler by its name, how many times it was passed, and what that did to the rate."""

    name: str
    horizon: float
    times: float
    words: str


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one weight between two checkpoints. Shares of its elements.

    `same`: equal to the last bit. `second_fell`, `second_same`: of the second moment, None where it is not in both files.
    """

    name: str
    size: int
    same: float
    second_fell: float | None = None
    second_same: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """The checkpoints of a run, by their steps, and what changed between the last two of them."""

    checkpoints: tuple[Checkpoint, ...]
    changes: tuple[Change, ...] = ()

    @property
    def last(self) -> Checkpoint:
        """The one of the highest step."""
        return self.checkpoints[-1]

    @property
    def before(self) -> Checkpoint | None:
        """The one that the last is compared with, None for a single one."""
        return self.checkpoints[-2] if len(self.checkpoints) > 1 else None

    @property
    def second_fell(self) -> float | None:
        """Share of the values of all second moments that fell between the last two checkpoints, None where it is not known."""
        known = [(change.size, change.second_fell) for change in self.changes if change.second_fell is not None]
        total = sum(size for size, _ in known)
        return sum(size * fell for size, fell in known) / total if total else None

    @property
    def unmoved(self) -> float | None:
        """Share of all weights that are the same to the last bit in the last two checkpoints, None for a single one."""
        total = sum(change.size for change in self.changes)
        return sum(change.size * change.same for change in self.changes) / total if total else None


def _most(sizes: Mapping[str, int]) -> str:
    """Return the key of the largest value, "" for none."""
    return max(sizes, key=lambda key: sizes[key]) if sizes else ""
