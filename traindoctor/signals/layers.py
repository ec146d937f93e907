"""What was logged of each layer, side by side: gradient and weight norms, update ratios, shares of zeros.

`m.layers` is made on first use. Rules ask it for levels, ratios and trends over depth, which have no unit and no scale.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from traindoctor.model import QUANTILES, Series
from traindoctor.signals import robust

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, Histogram, IntArray, Run

Kind: TypeAlias = Literal["matrix", "embedding", "gain", "bias"]
#: From which to which share of the logged points.
Part: TypeAlias = tuple[float, float]

WHOLE: Part = (0.0, 1.0)
START: Part = (0.0, 0.1)
END: Part = (0.9, 1.0)
#: Values that make "exactly zero" and "exactly constant" more than an accident.
LEAST = 3
#: A bias before a normalisation has no gradient but what float32 leaves of it: 3e-8 to 3e-6 of that of its matrix
#: (benchmarks/study, tuning part), and more where the gradient is real.
ROUNDING = 1e-4
#: Significant digits to which text logs round at most; values that fit into them say little by standing still.
FEW_DIGITS = 6

#: Longer tags name no layer.
LONGEST_TAG = 300

#: What can be logged of a layer; the quantity of such a series has `_layer` at its end.
QUANTITIES = (
    "grad_norm",
    "weight_norm",
    "update_norm",
    "update_ratio",
    "zero_share",
    "activation_mean",
    "activation_std",
    "attention_logit",
)
#: Quantities of the layers that also make one of the whole run.
OVER_LAYERS = ("zero_share", "attention_logit")
#: Quantities that are no less than zero, or the tag means something else; and those that are norms.
_NORMS = frozenset({"grad_norm", "weight_norm", "update_norm"})
_SIZES = _NORMS | {"zero_share", "activation_std"}

#: What is around a name and none of it: how a norm was made, TensorFlow's number of the output, wrappers of modules.
_MADE = re.compile(r" \(norm of the histogram\)$|:0$")
_WRAPPERS = re.compile(r"(?:^|(?<=[./]))(?:_orig_mod|_forward_module|_fsdp_wrapped_module|module)[./]")
_BETWEEN = r"[/:._\- ]+"
_GROUP = "train|training|trainer|stats|metrics|debug|layerwise|per_layer|mean|avg"
_NORM = "norms?|l2|rms"
_WEIGHT = "weights?|params?|parameters?"
_SHARE = "zeros?|dead|inactive|sparsity|fraction|frac|share|ratio|rate|percent|pct|of|relus?|neurons?|units?|activations?|acts?"
#: Of each quantity the words of a tag that may stand before the name of the layer, and those that may stand behind it:
#: "weight" and "bias" at the end are part of the name, and so are numbers.
_WORDS = {
    "grad_norm": (
        rf"{_GROUP}|{_NORM}|2\.0|grads?|gradients?|g_?norm|gradnorm|layer(?=_grad)",
        rf"{_NORM}|mean|grads?|gradients?",
    ),
    "weight_norm": (rf"{_GROUP}|{_NORM}|2\.0|{_WEIGHT}", rf"{_NORM}|mean"),
    "update_norm": (rf"{_GROUP}|{_NORM}|updates?|delta|step", rf"{_NORM}|mean|updates?|delta"),
    "update_ratio": (
        rf"{_GROUP}|{_NORM}|{_WEIGHT}|updates?|ud|uw|rel|relative|to|over|ratios?|log10",
        rf"{_NORM}|mean|updates?|ud|uw|to|over|ratios?|log10",
    ),
    "zero_share": (rf"{_GROUP}|{_SHARE}", rf"mean|{_SHARE}"),
    "activation_mean": (rf"{_GROUP}|activations?|acts?", "mean|avg|activations?|acts?"),
    "activation_std": (rf"{_GROUP}|activations?|acts?|std|stddev", "std|stddev|activations?|acts?"),
    "attention_logit": (rf"{_GROUP}|attn|attention|qk|max|maximum|logits?", "attn|attention|qk|max|maximum|logits?"),
}
_GROUPS = re.compile(rf"(?:{_GROUP})(?:[_-](?:{_GROUP}))*", re.IGNORECASE)
_NORM_BEHIND = re.compile(r"(?<=weight|kernel)[._]norm$|(?<=bias)[._]norm$|(?<=\d)_norm$", re.IGNORECASE)
_WHOLE = {q: re.compile(rf"(?:{before})(?:[_-](?:{before}))*", re.IGNORECASE) for q, (before, _) in _WORDS.items()}
_BEFORE = {q: re.compile(rf"^(?:(?:{before}){_BETWEEN})+", re.IGNORECASE) for q, (before, _) in _WORDS.items()}
_BEHIND = {q: re.compile(rf"(?:{_BETWEEN}(?:{behind}))+$", re.IGNORECASE) for q, (_, behind) in _WORDS.items()}
_MATRIX = re.compile(r"[._](?:weights?|kernel|w)(?:_0)?$", re.IGNORECASE)
_BIAS = re.compile(r"(?:^|[._])(?:b|beta|bias(?:_0|_[a-z]+_l\d+\w*)?)$", re.IGNORECASE)
_GAIN = re.compile(
    r"(?:^|[._\d])(?:bn|ln|gn|n(?=\d)|norm|layer_?norm|batch_?norm|group_?norm|rms_?norm)(?:_?\d+)?(?:[._]|$)|norm\d*$|(?:^|[._])gamma$",
    re.IGNORECASE,
)
_EMBEDDING = re.compile(r"(?:^|[._])(?:\w*embed\w*|emb|wte|wpe)(?:[._]|$)", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+|\d+")
#: Moments of the optimizer, and figures of a gradient that are no norm.
_NOT_ONE = re.compile(
    r"(?:^|[/._])(?:exp_avg\w*|moments?|momentum|cosine|ema|adam)[/._]|[/._](?:max|min|std|var|median|p\d+)$", re.IGNORECASE
)
#: Names of these words alone are of no layer: `grad_norm/max`, `grad_norm/after_clip`.
_NO_LAYER = frozenset(
    {"all", "total", "global", "sum", "max", "min", "std", "var", "median", "before", "after", "pre", "post", "clip", "clipped"}
    | {"unclipped", "scaled", "unscaled", "ema", "smoothed", "p", "loss", "norm"}
)
#: Words of a name, before its first number, that stand at the input and at the output of every network.
_INPUT = frozenset({"embed", "embedding", "embeddings", "emb", "wte", "wpe", "stem"})
_OUTPUT = frozenset({"head", "classifier", "logits", "readout", "output", "out"})
_PERCENT = re.compile(r"percent|pct|%", re.IGNORECASE)
#: Which histograms are of gradients and of weights where their sums were not kept (wandb.watch, TensorFlow 2).
_HISTOGRAMS = {
    "grad_norm": re.compile(r"(?:^|[/._])grad(?:ient)?s?(?:[/._]|$)", re.IGNORECASE),
    "weight_norm": re.compile(r"^(?:param(?:eter)?s?|weights?)/|[/._](?:weight|kernel|bias)(?:_0)?$", re.IGNORECASE),
}


class DepthTrend(NamedTuple):
    """How a quantity of the layers goes over depth, on a log scale.

    `factor`: the level of a layer over that of the next one towards the output, by a robust fit: of gradient norms, below 1
    where they vanish on their way back, above 1 where they explode. `span`: what the fit makes of the first layer's level
    over the last one's, factor ** (n - 1). `order`: Kendall's rank correlation of level and depth, 1 where every layer has
    more than the one before, -1 where it has less. `scatter`: distance of the layers from the fit in decades, by the median
    absolute deviation. `n`: layers.
    """

    factor: float
    span: float
    order: float
    scatter: float
    n: int


class Layers:
    """What was logged of each layer of a run, in order of depth, input first.

    A layer is a name that its tags share: `grad_norm/fc1.weight`, `weights/fc1.weight` and `update_ratio/fc1.weight` are of
    the layer `fc1`, `fc1.bias` is one of its own. `names` (k,): in the order of depth that their numbers and words tell, else
    of logging. `kinds` (k,): "matrix", "embedding", "gain" (of a normalisation, and its shift) or "bias", by the name; trends
    over depth are of the matrices or of the biases. `step` (n,) int64: every step at which anything of a layer was logged.

    `matrix(quantity)` (n, k) float64, NaN where nothing was logged or the value is not finite; quantities: "grad_norm",
    "weight_norm", "update_norm", "update_ratio" (norm of the update over norm of the weights), "zero_share" (of the
    activations, 0 to 1), "activation_mean", "activation_std", "attention_logit" (the largest one).

    All figures by layer are arrays (k,), NaN for layers of which the quantity was not logged; `part` is a share of the points
    logged of that quantity, (0.9, 1.0) for the last tenth. Without layers, `n` is 0 and every figure is empty, NaN or None:
    no call fails.

    | Question | Call |
    | --- | --- |
    | was a quantity logged of two layers | `layers.has("grad_norm")` |
    | level of each layer at the end | `layers.level("weight_norm", END)` |
    | growth of each layer's weights | `layers.growth("weight_norm")` |
    | first over last gradient norm | `layers.grad_ratio(END)` |
    | vanishing or exploding by a factor a layer | `layers.depth_trend(END)`, `layers.depth_trend(END, kind="bias")` |
    | activations that grow or shrink over depth | `trend_over(layers.input_scale(START))` |
    | each layer's share of the gradient | `layers.grad_shares(END)` |
    | layers without any gradient | `layers.zero_gradient()` |
    | layers that stand still, and those that do so while others move | `layers.still`, `layers.frozen` |
    | those of the latter that have a gradient | `layers.left_out` |
    | layers whose updates stand out, in decades | `layers.update_deviation()` |
    | steps in which the weights did not move | `layers.held_share()` |
    | in which layer NaN began | `layers.first_not_finite()` |
    | where it stands | `layers.source("grad_norm")` |
    """

    def __init__(self, run: Run) -> None:
        found = _found(run)
        names = dict.fromkeys(name for columns in found.values() for name in columns)
        self.names: tuple[str, ...] = _by_depth(tuple(names))
        self.kinds: tuple[Kind, ...] = tuple(_kind(name) for name in self.names)
        self._columns = {q: {name: _in_order(s) for name, s in columns.items()} for q, columns in found.items()}
        self.step: IntArray = _union([step for columns in self._columns.values() for step, _ in columns.values()])
        self._tags = {q: [(s.tag, s.source) for s in columns.values()] for q, columns in found.items()}
        self._matrices: dict[str, FloatArray] = {}
        self._logged: dict[str, FloatArray] = {}  # the matrices without the rows in which nothing was logged
        self._levels: dict[tuple[str, Part], FloatArray] = {}

    @property
    def n(self) -> int:
        """Number of layers."""
        return len(self.names)

    @property
    def matrices(self) -> NDArray[np.bool_]:
        """Which of the layers are weight matrices, (k,)."""
        return np.array([kind == "matrix" for kind in self.kinds], dtype=bool)

    def has(self, quantity: str, least: int = 2) -> bool:
        """Return whether a quantity has a finite value in at least so many layers."""
        return sum(bool(np.isfinite(value).any()) for _, value in self._columns.get(quantity, {}).values()) >= least

    def source(self, quantity: str) -> str:
        """Return where the quantity of the layers stands: "log.csv: grad_norm/fc1 to grad_norm/fc9"; "" for nowhere."""
        tags = self._tags.get(quantity, [])
        if not tags:
            return ""
        (first, file), (last, _) = tags[0], tags[-1]
        text = first if len(tags) == 1 else f"{first} to {last}"
        return f"{file}: {text}" if file else text

    def matrix(self, quantity: str) -> FloatArray:
        """Return a quantity at each step of each layer, (n, k) float64; NaN where it was not logged or is not finite."""
        if quantity not in self._matrices:
            columns = self._columns.get(quantity, {})
            made = np.full((self.n, self.step.size), np.nan)
            for k, name in enumerate(self.names):
                if name in columns:
                    step, value = columns[name]
                    at = slice(None) if step.size == self.step.size else np.searchsorted(self.step, step)
                    made[k, at] = np.where(np.isfinite(value), value, np.nan)
            self._matrices[quantity] = made.T
        return self._matrices[quantity]

    def rows(self, quantity: str, part: Part = WHOLE) -> FloatArray:
        """Return the rows of a matrix in which something was logged, of a part of the run, (n', k); at least three if so many."""
        if not self._columns.get(quantity):
            return np.empty((0, self.n))
        if quantity not in self._logged:
            matrix = self.matrix(quantity)
            logged = np.zeros(len(matrix), dtype=bool)
            for column in matrix.T:
                logged |= ~np.isnan(column)
            self._logged[quantity] = matrix if logged.all() else matrix[logged]
        rows = self._logged[quantity]
        first, last = _bounds(len(rows), part)
        return rows[first:last]

    def level(self, quantity: str, part: Part = WHOLE) -> FloatArray:
        """Return the median of each layer over a part of the run, (k,)."""
        if (quantity, part) not in self._levels:
            self._levels[quantity, part] = _median(self.rows(quantity, part))
        return self._levels[quantity, part].copy()

    def growth(self, quantity: str, first: Part = START, last: Part = END) -> FloatArray:
        """Return each layer's level in the last part over that in the first, (k,); NaN where that is 0."""
        return _quotient(self.level(quantity, last), self.level(quantity, first))

    def grad_ratio(self, part: Part = WHOLE, first: int = 0, last: int = -1) -> float:
        """Return the first weight matrix's gradient norm over the last one's, median over a part; NaN for fewer than two.

        `first`, `last`: which of the matrices that have a gradient norm. Points where either is 0 are left out.
        """
        rows = self.rows("grad_norm", part)[:, self.matrices]
        rows = rows[:, np.isfinite(rows).any(axis=0)] if rows.size else rows
        if rows.shape[1] < 2:
            return float("nan")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(rows[:, first]) - np.log(rows[:, last])
        ratio = ratio[np.isfinite(ratio)]
        return float(np.exp(np.median(ratio))) if ratio.size else float("nan")

    def grad_shares(self, part: Part = WHOLE) -> FloatArray:
        """Return each layer's share of the squared gradient norm of all of them, median over a part of the run, (k,)."""
        rows = self.rows("grad_norm", part)
        rows = rows[np.isfinite(rows).sum(axis=1) == np.isfinite(rows).any(axis=0).sum()] if rows.size else rows
        if not rows.size:
            return np.full(self.n, np.nan)
        top = np.nanmax(rows, axis=1, keepdims=True)
        scaled = (rows / np.where(top > 0.0, top, np.nan)) ** 2  # 1e300 squared is no number
        return _median(scaled / np.nansum(scaled, axis=1, keepdims=True))

    def depth_trend(self, part: Part = WHOLE, quantity: str = "grad_norm", kind: Kind = "matrix") -> DepthTrend | None:
        """Return how a quantity's level goes over the layers of a kind; None for fewer than three that are above 0.

        The gradient of a bias is that of its layer's output. The gradient of a matrix is the product of it and of the
        layer's input, so that a network whose matrices are all too large shows in its biases: there the gradient grows on
        the way back by what the input grows on the way forth, and in the matrices the two cancel. Biases before a
        normalisation, whose gradient is rounding alone, are left out.
        """
        level = self.level(quantity, part)
        which = np.array([one == kind for one in self.kinds], dtype=bool)
        if kind == "bias" and quantity == "grad_norm":
            which[[bias for k, bias in self._biases if level[bias] < ROUNDING * level[k]]] = False
        return trend_over(level[which])

    def input_scale(self, part: Part = WHOLE) -> FloatArray:
        """Return about how large each matrix's input is: its gradient norm over that of its bias, (k,).

        NaN for what has no bias, or one without a gradient. `trend_over(layers.input_scale())` tells how the activations go
        over depth, a factor below 1 where they grow on their way forth.
        """
        level = self.level("grad_norm", part)
        made = np.full(self.n, np.nan)
        for k, bias in self._biases:
            if level[bias] > ROUNDING * level[k]:
                made[k] = level[k] / level[bias]
        return made

    @cached_property
    def _biases(self) -> tuple[tuple[int, int], ...]:
        """Which bias belongs to which matrix, by number."""
        at = {name: k for k, name in enumerate(self.names)}
        pairs = []
        for name, k in at.items():
            spelt = (f"{name}.bias", f"{name}_bias", f"{name}.bias_0", name.replace("weight", "bias"))
            bias = next((at[one] for one in spelt if one in at and one != name), None)
            if bias is not None and self.kinds[k] == "matrix":
                pairs.append((k, bias))
        return tuple(pairs)

    def zero_gradient(self, part: Part = WHOLE) -> tuple[str, ...]:
        """Return the layers whose gradient norm is exactly 0 at all points of a part, three or more, while another's is not."""
        rows = self.rows("grad_norm", part)
        if not rows.size:
            return ()
        n_known = np.isfinite(rows).sum(axis=0)
        zero = (n_known >= LEAST) & ~np.any((rows != 0.0) & ~np.isnan(rows), axis=0)
        return self._named(zero) if np.any(~zero & (n_known >= LEAST)) else ()

    @property
    def still(self) -> tuple[str, ...]:
        """The layers whose weight norm is the same to the last bit at all points, three or more."""
        rows = self.rows("weight_norm")
        if len(rows) < LEAST:
            return ()
        low, high = _extremes(rows)
        return self._named((np.isfinite(rows).sum(axis=0) >= LEAST) & (low == high))

    @property
    def frozen(self) -> tuple[str, ...]:
        """The layers that stand still while another's weights move.

        Values that the log rounded count only where the others move by a hundredth: what moves less may stand still there.
        """
        still, rows = self.still, self.rows("weight_norm")
        if not still:
            return ()
        with np.errstate(all="ignore"):
            low, high = _extremes(rows)
            moved = (high - low) / high
        moving = moved[moved > 0.0]
        return () if not moving.size or (self._is_rounded(rows) and np.median(moving) < 0.01) else still

    @property
    def left_out(self) -> tuple[str, ...]:
        """The frozen layers that have a gradient at the logged steps: it is worked out, and no step applies it.

        A layer that is frozen on purpose has none.
        """
        level = dict(zip(self.names, self.level("grad_norm"), strict=True))
        return tuple(name for name in self.frozen if level[name] > 0.0)

    def update_deviation(self, part: Part = WHOLE) -> FloatArray:
        """Return by how many decades each matrix's update-to-weight ratio is above the median of the others, (k,).

        The ratio as logged, else update norm over weight norm. NaN for what is no matrix, for fewer than three matrices, and
        where the ratio is not above 0.
        """
        level = self.level("update_ratio", part)
        if not np.isfinite(level).any():
            level = _quotient(self.level("update_norm", part), self.level("weight_norm", part))
        with np.errstate(all="ignore"):
            log = np.where(self.matrices & (level > 0.0), np.log10(level), np.nan)
        known = np.flatnonzero(np.isfinite(log))
        made = np.full(self.n, np.nan)
        if known.size >= 3:
            for k in known:
                made[k] = log[k] - float(np.median(log[known[known != k]]))
        return made

    def held_share(self, quantity: str = "weight_norm") -> FloatArray:
        """Return in which share of the points each layer's value is the one before to the last bit, (k,).

        Weights in bfloat16 hold still while each update is under 2**-9 of them. NaN below three points.
        """
        rows = self.rows(quantity)
        if len(rows) < LEAST:
            return np.full(self.n, np.nan)
        both = np.isfinite(rows[1:]) & np.isfinite(rows[:-1])
        n_both = both.sum(axis=0)
        same = (both & (rows[1:] == rows[:-1])).sum(axis=0)
        return np.where(n_both >= LEAST - 1, same / np.maximum(n_both, 1), np.nan)

    def in_bfloat16(self, quantity: str = "weight_norm") -> bool:
        """Return whether all values of a quantity are numbers of bfloat16, eight bits long: then the log holds still, too."""
        rows = self.rows(quantity)
        value = rows[np.isfinite(rows) & (rows != 0.0)]
        for some in (value[:100], value):  # one look at a few answers for nearly every log
            mantissa, _ = np.frexp(some)
            if some.size < LEAST or np.any(mantissa * 256.0 != np.round(mantissa * 256.0)):
                return False
        return True

    def first_not_finite(self, quantity: str = "grad_norm") -> tuple[int, tuple[str, ...]] | None:
        """Return the first step at which a value is NaN or infinite, and the layers in which it is; None for none."""
        first: dict[str, int] = {}
        for name, (step, value) in self._columns.get(quantity, {}).items():
            bad = np.flatnonzero(~np.isfinite(value))
            if bad.size:
                first[name] = int(step[bad[0]])
        if not first:
            return None
        begin = min(first.values())
        return begin, tuple(name for name in self.names if first.get(name) == begin)

    def over_layers(self, quantity: str) -> Series | None:
        """Return one series that speaks for all layers: the largest attention logit, the mean share of zeros; None for none."""
        if not self.has(quantity, 1):
            return None
        matrix = self.matrix(quantity)
        keep = ~np.isnan(matrix).all(axis=1)
        rows = matrix[keep]
        value = np.nanmax(rows, axis=1) if quantity == "attention_logit" else np.nanmean(rows, axis=1)
        of = "largest" if quantity == "attention_logit" else "mean"
        tag, file = f"{self._tags[quantity][0][0]} ({of} of {len(self._tags[quantity])} layers)", self._tags[quantity][0][1]
        return Series(quantity, tag, self.step[keep], value, np.full(value.size, np.nan), file)

    def _named(self, which: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(name for name, is_one in zip(self.names, which, strict=True) if is_one)

    def _is_rounded(self, rows: FloatArray) -> bool:
        value = rows[np.isfinite(rows) & (rows != 0.0)][:1000]
        return bool(value.size) and all(float(f"{v:.{FEW_DIGITS - 1}e}") == v for v in value)


def trend_over(level: FloatArray) -> DepthTrend | None:
    """Return how levels (k,) go over depth, input first; None for fewer than three that are finite and above 0.

    The fit is by Theil and Sen, so that one odd layer does not decide.
    """
    level = level[np.isfinite(level) & (level > 0.0)]
    if level.size < 3:
        return None
    depth, log = np.arange(level.size, dtype=np.float64), np.log10(level)
    slope = robust.slope(depth, log)
    i, j = np.triu_indices(level.size, k=1)
    order = float(np.mean(np.sign(log[j] - log[i])))
    scatter = robust.spread(log - slope * depth)
    factor, span = (float(10.0 ** np.clip(-slope * layers, -300.0, 300.0)) for layers in (1, level.size - 1))
    return DepthTrend(factor, span, order, scatter, int(level.size))


def layer_of(tag: str, quantity: str) -> str:
    """Return the name of the layer of which a tag logs a quantity, "" where it names none: "grad_norm/fc1.weight" -> "fc1"."""
    if len(tag) > LONGEST_TAG:
        return ""
    pieces = [piece for piece in re.split(r"[/:| ]+", _MADE.sub("", tag)) if piece]
    said = [piece for piece in pieces if _WHOLE[quantity].fullmatch(piece) and not _GROUPS.fullmatch(piece)]
    name = "/".join(piece for piece in pieces if not _WHOLE[quantity].fullmatch(piece))
    if not said:
        name = _BEHIND[quantity].sub("", _BEFORE[quantity].sub("", name))
    elif not name and len(said) > 1:  # a model that is one matrix: weight_norm/weight
        name = said[-1]
    elif len(said) == 1:  # params/fc1.weight_norm, but grad_norm/blocks.0.norm
        name = _NORM_BEHIND.sub("", name)
    name = _WRAPPERS.sub("", name).replace("/", ".")
    words = set(re.findall(r"[a-z]+", name.lower()))
    return "" if words and words <= _NO_LAYER else _MATRIX.sub("", name)


def _found(run: Run) -> dict[str, dict[str, Series]]:
    """Return the series of each layer by quantity and name, in order of logging; a name logged twice counts once, the longer."""
    found: dict[str, dict[str, Series]] = {quantity: {} for quantity in QUANTITIES}
    for one in run.series:
        quantity = one.quantity.removesuffix("_layer")
        if quantity not in found or quantity == one.quantity or not len(one):
            continue
        _add(found[quantity], one, quantity)
    for histogram in run.histograms:
        if len(histogram) and not np.isfinite(histogram.sum_squares).any():
            quantity = next((q for q, pattern in _HISTOGRAMS.items() if pattern.search(histogram.tag)), "")
            if quantity:
                _add(found[quantity], _norm_of(histogram, quantity), quantity)
    return found


def _add(columns: dict[str, Series], one: Series, quantity: str) -> None:
    """Take a series in as a layer's, unless its tag names none or its values cannot be what it says."""
    name = layer_of(one.tag, quantity)
    known = one.value[np.isfinite(one.value)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if not name or (quantity in _SIZES and (low < 0.0 or (quantity in _NORMS and _NOT_ONE.search(one.tag)))):
        return
    if quantity == "update_ratio" and high <= 0.0 and low < 0.0:  # logged as its logarithm to base 10
        one = replace(one, value=10.0**one.value)
    elif quantity == "zero_share" and high > 1.0:
        if high > 100.0 or not _PERCENT.search(one.tag):  # a count
            return
        one = replace(one, value=one.value / 100.0)
    if name not in columns or len(columns[name]) < len(one):
        columns[name] = one


def _norm_of(histogram: Histogram, quantity: str) -> Series:
    """Return the norm of what a histogram is of, from its quantiles: the square between two of them taken as of a line."""
    left, right = histogram.quantile[:, :-1], histogram.quantile[:, 1:]
    square = ((left**2 + left * right + right**2) / 3.0) @ np.diff(QUANTILES)
    value = np.sqrt(square * histogram.count)
    return Series(f"{quantity}_layer", histogram.tag, histogram.step, value, histogram.wall_time, histogram.source)


def _in_order(series: Series) -> tuple[IntArray, FloatArray]:
    """Return steps and values in order of steps, the last one logged of each step."""
    step, value = series.step, series.value
    rising = np.diff(step)
    if np.all(rising > 0):
        return step, value
    order = np.argsort(step, kind="stable")
    step, value = step[order], value[order]
    last = np.append(step[1:] != step[:-1], True)
    return step[last], value[last]


def _union(steps: list[IntArray]) -> IntArray:
    """Return all steps of several rising arrays, each once; most logs have one and the same for all."""
    different: list[IntArray] = []
    for step in steps:
        if not any(step.size == other.size and np.array_equal(step, other) for other in different[-4:]):
            different.append(step)
    if len(different) == 1:
        return different[0]
    return np.unique(np.concatenate(different)) if different else np.zeros(0, dtype=np.int64)


def _bounds(n: int, part: Part) -> tuple[int, int]:
    """Return which of n points are in a part, at least three where there are so many."""
    first, last = int(part[0] * n), int(np.ceil(part[1] * n))
    least = min(LEAST, n)
    if last - first < least:
        first = max(0, min(first, n - least))
        last = first + least
    return first, last


def _median(rows: FloatArray) -> FloatArray:
    """Return the median of each column, NaN left out; NaN for a column without a value."""
    made = np.full(rows.shape[1], np.nan)
    for k in range(rows.shape[1]):
        column = rows[:, k]
        known = column[~np.isnan(column)]
        if known.size:
            made[k] = np.median(known)
    return made


def _extremes(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the lowest and the highest value of each column, NaN left out; infinities the wrong way round for none."""
    return np.min(rows, axis=0, initial=np.inf, where=~np.isnan(rows)), np.max(
        rows, axis=0, initial=-np.inf, where=~np.isnan(rows)
    )


def _quotient(a: FloatArray, b: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):
        return np.where(b > 0.0, a / b, np.nan)


def _kind(name: str) -> Kind:
    if _GAIN.search(name):
        return "gain"
    if _BIAS.search(name):
        return "bias"
    return "embedding" if _EMBEDDING.search(name) else "matrix"


def _by_depth(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in order of depth, input first, as far as they tell it.

    Names that differ by a number alone are put in the order of it where the first of them stands; what is called an
    embedding goes first, what is called a head goes last; else the order of logging holds, which is that of the model's
    own parameters in most scripts.
    """
    order: dict[tuple[str, ...], int] = {}  # where what begins with these words stands first
    keys: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {}
    for k, name in enumerate(names):
        parts = _WORD.findall(name.lower())
        number = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts))
        head = set(parts[:number])
        is_output = (head & _OUTPUT and "proj" not in head) or parts == ["fc"] or parts == ["fc", "bias"]
        key = [
            (order.setdefault((*parts[:i], "#" if part.isdigit() else part), k), int(part) if part.isdigit() else 0)
            for i, part in enumerate(parts)
        ]
        keys[name] = (-1 if head & _INPUT else 1 if is_output else 0, tuple(key))
    return tuple(sorted(names, key=lambda name: keys[name]))
