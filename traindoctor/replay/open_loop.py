"""Open loop: the optimizer's state over the run, for the recorded settings and for others, from the logged gradient norm.

The idea. Nothing is simulated: the recurrences of the moments run again over the signal that the log holds, as if other
settings had met the same gradients. That is exact for the recorded settings (up to the number of parameters, and what the
notes say), and for others as long as they would have met much the same gradients.

Candidates that differ in the learning rate, in eps or in beta1 share one second moment, and only what differs is run again:
each distinct recurrence once over all steps, one row kept of it at the reported steps. So memory does not grow with the
number of candidates beyond `MAX_VALUES`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from traindoctor.errors import ConfigError, TraindoctorError
from traindoctor.optim.optimizer import optimizer_of
from traindoctor.optim.stability import SIGN_LIKE, stability_limit
from traindoctor.signals.second_moment import (
    Resume,
    anchored_margin,
    decay_rate,
    first_moment_bound,
    linear_scan,
    recurrence,
    second_moment,
    steps_taken,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec, Series
    from traindoctor.signals.measurements import Measurements

#: Values that one array of a result holds at most, candidates times points: 8 MB. Longer logs are reported at fewer steps.
MAX_VALUES = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """A gradient norm that was logged, of all parameters or of one layer, and what is known beside it.

    `step` (n,) int64, counted from 0, increasing. `grad_norm` (n,) float64, as logged, finite, not negative. `lr` (n,). `whole`:
    global norm at these steps, which a clip looks at; for the global norm itself the same array. `clip_norm`: the configured
    bound, infinity without one. `logged`: whether the norm was logged before or after the clip. `n_parameters`: None where
    not known. `weight_norm`: (n,), None where it was not logged.
    """

    name: str
    step: IntArray
    grad_norm: FloatArray
    lr: FloatArray
    whole: FloatArray
    clip_norm: float = np.inf
    clip_value: float = np.inf
    logged: Literal["before", "after"] = "before"
    n_parameters: int | None = None
    weight_norm: FloatArray | None = None
    resumes: tuple[Resume, ...] = ()
    notes: tuple[str, ...] = ()


def signal(
    grad_norm: FloatArray, step: IntArray | None = None, lr: FloatArray | float = 1.0, *, n_parameters: int | None = None,
    resumes: Sequence[Resume] = (),
) -> Signal:  # fmt: skip
    """Return the signal of a gradient norm at hand: (n,) float64, of every step unless `step` says otherwise."""
    at = np.arange(grad_norm.size) if step is None else step
    rate = np.broadcast_to(np.asarray(lr, dtype=np.float64), grad_norm.shape)
    return Signal("all parameters", at, grad_norm, rate, grad_norm, n_parameters=n_parameters, resumes=tuple(resumes))


def signals_of(
    m: Measurements, *, resumes: Sequence[Resume] | None = None, steps_per_epoch: int | None = None
) -> tuple[Signal, ...]:
    """Return the gradient norms of a run: of all parameters where that was logged, then of each layer.

    `resumes`: what each resumed process found of the optimizer's state; without it, each is taken to have found all. Notes
    of what was assumed are on each signal.

    Raises: TraindoctorError where nothing was logged, or the log counts epochs and `steps_per_epoch` is not given.
    """
    layers = [s for s in m.run.series if s.quantity == "grad_norm_layer" and np.isfinite(s.value).any()]
    if not m.has("grad_norm") and not layers:
        raise TraindoctorError(
            m.run.name, "no gradient norm was logged", "log the norm that clip_grad_norm_ returns, or histograms of the gradients"
        )
    if m.run.step_unit == "epoch" and steps_per_epoch is None:
        raise TraindoctorError(
            m.run.name,
            "the log counts epochs: how far the second moment decays between two of them is not known",
            "--steps-per-epoch N gives the number of steps of an epoch",
            "log the gradient norm every step",
        )
    if resumes is None:
        resumes = [Resume(step, "kept") for step in m.run.restarts]
    made = [_signal_of(m, None, tuple(resumes), steps_per_epoch)] if m.has("grad_norm") else []
    return (*made, *(_signal_of(m, layer, tuple(resumes), steps_per_epoch) for layer in layers))


def _signal_of(m: Measurements, layer: Series | None, resumes: tuple[Resume, ...], steps_per_epoch: int | None) -> Signal:
    from traindoctor.signals.measurements import SeriesMeasurements

    series = m.grad_norm if layer is None else SeriesMeasurements(layer)
    keep = series.value >= 0.0
    step, norm = series.step[keep], series.value[keep]
    whole = norm if layer is None or not m.has("grad_norm") else np.interp(step, m.grad_norm.step, m.grad_norm.value)
    notes = []
    if series.n_not_finite:
        notes.append(f"{series.n_not_finite} points of {series.tag} are not finite: left out, as if the norm had held.")
    bound, value = (m.setting(f"gradient.{name}") for name in ("clip_norm", "clip_value"))
    clip = float(bound) if isinstance(bound, int | float) and bound > 0 else np.inf
    after = bool(np.isfinite(clip) and whole.size and whole.max() <= 1.01 * clip and np.mean(whole > 0.99 * clip) > 0.02)
    if after:
        notes.append(f"The norm stands at the clip's bound {clip:g}: logged after the clip, so that it enters as it is.")
    elif np.isfinite(clip) and np.any(whole > clip):
        notes.append(f"The norm exceeds the clip's bound {clip:g}: logged before the clip, and replayed clipped.")
    if layer is not None and np.isfinite(clip) and not m.has("grad_norm"):
        notes.append("The global norm was not logged: whether the clip took hold is not known, and it is left out.")
        clip = np.inf
    if any(damage.family == "averaged" for damage in m.run.damages):
        notes.append("Logged values are averages over windows: the mean of the squares is no less than what is replayed here.")
    lr = m.lr_at(step)
    if not m.has("learning_rate"):
        notes.append("The learning rate was not logged: taken as constant.")
    weight = np.interp(step, m.weight_norm.step, m.weight_norm.value) if layer is None and m.has("weight_norm") else None
    if m.run.step_unit == "epoch" and steps_per_epoch is not None:
        step = (step + 1) * steps_per_epoch - 1
        resumes = tuple(replace(r, step=r.step * steps_per_epoch) for r in resumes)
        notes.append(
            f"One value an epoch, taken to hold for its {steps_per_epoch:,} steps: what came and went within is not seen."
        )
    elif m.run.step_unit == "row":
        notes.append("The log has no steps: each row is taken for one.")
    return Signal(
        "all parameters" if layer is None else layer.tag,
        step,
        norm,
        lr,
        whole,
        clip_norm=clip,
        clip_value=float(value) if isinstance(value, int | float) and value > 0 else np.inf,
        logged="after" if after else "before",
        n_parameters=m.n_parameters if layer is None else _size_of(m, layer),
        weight_norm=weight,
        resumes=resumes,
        notes=tuple(notes),
    )


def _size_of(m: Measurements, layer: Series) -> int | None:
    """Return the number of parameters of a layer whose gradient was logged as a histogram."""
    named = [h for h in m.run.histograms if layer.tag.startswith(h.tag) and h.count.size and np.isfinite(h.count[0])]
    return int(max(named, key=lambda h: len(h.tag)).count[0]) if named else None


# -- the recurrences over the signal ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class OpenLoop:
    """What the moments did under each candidate, the recorded settings first: c candidates, n reported steps.

    `step` (n,) int64. `taken` (n,): the optimizer's own step count t. `since` (n,): steps since its moments began. `lr`,
    `grad_norm`, `total`, `first` (c, n) float64: learning rate; norm that enters the optimizer; d times the mean of v_hat;
    what the norm of m_hat is at most. `total` is NaN for an optimizer without a second
    moment. `limit` (c,): stability limits. `notes`: what was assumed, in plain sentences.
    """

    name: str
    specs: tuple[OptimizerSpec, ...]
    step: IntArray
    taken: FloatArray
    since: FloatArray
    lr: FloatArray
    grad_norm: FloatArray
    total: FloatArray
    first: FloatArray
    limit: FloatArray
    n_parameters: int | None
    notes: tuple[str, ...]

    @property
    def eps(self) -> FloatArray:
        """Eps of each candidate, (c, 1); 0 where it is not known."""
        return np.array([[spec.eps or 0.0] for spec in self.specs])

    @cached_property
    def ratio(self) -> FloatArray:
        """g^2 / v_hat, (c, n): below 1 while the optimizer still remembers larger gradients."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.grad_norm**2 / self.total)

    @cached_property
    def root_mean_square(self) -> FloatArray | None:
        """Root mean square of sqrt(v_hat) over the parameters, (c, n); None where their number is not known."""
        return None if self.n_parameters is None else np.asarray(np.sqrt(self.total / self.n_parameters))

    @cached_property
    def _denominator(self) -> FloatArray:
        """sqrt(v_hat) + eps up to a common factor; without eps where the number of parameters is not known; 1 without v."""
        root = np.sqrt(self.total) if self.n_parameters is None else np.sqrt(self.total / self.n_parameters) + self.eps
        return np.where(np.array([[recurrence(spec) == ""] for spec in self.specs]), 1.0, root)

    @cached_property
    def effective_rate(self) -> FloatArray:
        """Effective learning rate lr / (sqrt(v_hat) + eps) over that of the recorded settings where it is first known, (c, n).

        Without eps where the number of parameters is not known. It is a ratio for the root mean square coordinate.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = self.lr / self._denominator
            known = np.flatnonzero(np.isfinite(rate[0]))
            return np.asarray(rate / rate[0, known[0] if known.size else 0])

    @cached_property
    def eps_share(self) -> FloatArray | None:
        """Eps / (sqrt(v_hat) + eps), (c, n); None where the number of parameters is not known. Above 0.5 eps decides."""
        if self.root_mean_square is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.eps / (self.root_mean_square + self.eps))

    def eps_share_at(self, at: int, curvature: float, value: float | None = None) -> FloatArray:
        """Eps over the denominator of the unstable mode, (c, n), where the number of parameters is not known.

        At step `at` the recorded settings have lr * lambda / denominator = `value`, the stability limit by default (an onset).
        `curvature`: lambda. See `margin`.
        """
        anchored = self.margin(at, value, curvature)
        return np.asarray(self.eps * anchored / (self.lr * curvature))

    @cached_property
    def update(self) -> FloatArray:
        """Size of the update, root mean square over the coordinates, in units of the parameters, (c, n).

        lr * ||m_hat|| / ||sqrt(v_hat)||, for gradients that keep their direction: where they change it, m_hat averages out, and
        the update is smaller; where v is uneven it differs. A norm, not a mean, for an optimizer without a second moment.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            first = self.first if self.n_parameters is None else self.first / np.sqrt(self.n_parameters)
            return np.asarray(self.lr * first / self._denominator)

    @cached_property
    def update_bound(self) -> FloatArray:
        """What no coordinate's update exceeds, whatever the gradients were, (c, n); see `largest_update`."""
        rows = [largest_update(spec, self.taken, self.since) for spec in self.specs]
        return np.asarray(self.lr * np.stack(rows))

    def margin(self, at: int, value: float | None = None, curvature: float | None = None) -> FloatArray:
        """Return lr * lambda(P^-1 H) of every candidate, (c, n), anchored by its `value` at step `at` for the recorded settings.

            s_i(t) = value * lr_i(t) / lr_0(at) * D_0(at) / D_i(t),     D = sqrt(V) + eps in the units of V

        `value`: as measured (a probe), or by default the recorded settings' stability limit, which holds at an onset.
        `curvature`: lambda; with it eps has its place in the denominator, without it eps is left out. A candidate is
        unstable where its margin is above its own `limit`.
        """
        i = max(0, int(np.searchsorted(self.step, at, side="right")) - 1)
        anchor = float(self.limit[0]) if value is None else value
        bare = anchored_margin(self.total, self.lr, float(self.total[0, i]), float(self.lr[0, i]), anchor)
        if curvature is None:
            return bare
        with np.errstate(divide="ignore", invalid="ignore"):
            # what is left for sqrt(v_hat) once eps has its part of the denominator lr * lambda / value
            root = max(1.0 - float(self.eps[0, 0]) * anchor / (float(self.lr[0, i]) * curvature), 0.0)
            return np.asarray(1.0 / (root / bare + self.eps / (self.lr * curvature)))

    def mean_margin(self, curvature: float) -> FloatArray | None:
        """Return lr * lambda / (rms sqrt(v_hat) + eps), (c, n): the margin were all coordinates alike.

        None where the number of parameters is not known. Unevenness of v makes the true one several times as large: on the
        runs of `forecast.UNEVENNESS` by a factor that is stated there.
        """
        if self.root_mean_square is None:
            return None
        return np.asarray(self.lr * curvature / (self.root_mean_square + self.eps))


def open_loop(
    recorded: Signal, specs: Sequence[OptimizerSpec], clip_norms: Sequence[float] | None = None, max_values: int = MAX_VALUES
) -> OpenLoop:
    """Run the recurrences of every candidate over one signal: `specs`, the recorded settings first.

    `clip_norms`: bound of the gradient norm of each candidate, infinity for none; that of the recording by default. The
    learning rate is the logged one, times the candidate's `lr` over the recorded. Raises: TraindoctorError for an empty signal.
    """
    if not recorded.step.size or not specs:
        raise TraindoctorError(recorded.name, "no gradient norm to replay")
    clips = [recorded.clip_norm] * len(specs) if clip_norms is None else list(clip_norms)
    n = recorded.step.size
    every = max(1, -(-n * len(specs) // max_values))
    points = np.append(np.arange(0, n - 1, every), n - 1)
    entering: dict[tuple[float, float], FloatArray] = {}
    seconds: dict[tuple[object, ...], FloatArray] = {}
    firsts: dict[tuple[object, ...], FloatArray] = {}
    rows: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for spec, clip in zip(specs, clips, strict=True):
        coupled, started = _settings(spec)
        decay = 0.0 if recorded.weight_norm is None else coupled
        initial = started * (recorded.n_parameters or 0)
        signal_key = (clip, decay)
        if signal_key not in entering:
            entering[signal_key] = _entering(recorded, clip, decay)
        norm = entering[signal_key]
        amsgrad = bool(spec.amsgrad or spec.name == "amsgrad")
        key = (*signal_key, recurrence(spec), decay_rate(spec), amsgrad, spec.dialect, spec.beta2_decay, initial)
        if key not in seconds:
            seconds[key] = second_moment(norm, recorded.step, spec, recorded.resumes, initial)[points]
        first_key = (*signal_key, spec.name, spec.dialect, spec.beta1)
        if first_key not in firsts:
            firsts[first_key] = first_moment_bound(norm, recorded.step, spec, recorded.resumes)[points]
        rows.append((norm[points], seconds[key], firsts[first_key]))
    base = specs[0].lr
    taken = steps_taken(recorded.step, recorded.resumes)[points]
    factor = np.stack([_own_factor(spec, taken) * (spec.lr / base if base and spec.lr is not None else 1.0) for spec in specs])
    for i, spec in enumerate(specs):
        if spec.name == "adadelta":
            decay = 0.0 if recorded.weight_norm is None else _settings(spec)[0]
            factor[i] *= _adadelta_factor(entering[clips[i], decay], spec, recorded)[points]
    notes = [*recorded.notes, *_notes(recorded, specs, clips)]
    if every > 1:
        notes.append(f"Replayed at every logged step, reported at each {every}th: {points.size:,} of {n:,}.")
    return OpenLoop(
        recorded.name,
        tuple(specs),
        recorded.step[points],
        taken,
        _since(recorded)[points],
        recorded.lr[points] * factor,
        np.stack([row[0] for row in rows]),
        np.stack([row[1] for row in rows]),
        np.stack([row[2] for row in rows]),
        np.array([stability_limit(spec) for spec in specs]),
        recorded.n_parameters,
        tuple(notes),
    )


def largest_update(spec: OptimizerSpec, taken: FloatArray, since: FloatArray) -> FloatArray:
    """Return the largest |update| / lr of one coordinate that any sequence of gradients can cause, eps left out.

    With weights a_k of g_{t-k} in m_hat and b_k of g_{t-k}^2 in v_hat, Cauchy and Schwarz give m_hat^2 / v_hat <= sum of
    a_k^2 / b_k: for Adam at 0.9 and 0.999 7.3 in the long run and 1 at the first step; for Adamax the sum of a_k over
    beta2**k. `taken`: t of the bias correction; `since`: number of gradients in the moments; both (n,). Infinity where a
    resume lost v alone; NaN where no bound is known.

    Source: Kingma and Ba 2015, arXiv:1412.6980, section 2.1, states (1 - beta1) / sqrt(1 - beta2) for a gradient that is zero
    at all steps but the present; this is the bound over all sequences.
    """
    kind, beta2 = recurrence(spec), decay_rate(spec)
    if spec.name in SIGN_LIKE and spec.name != "muon":
        return np.ones_like(taken)
    if kind == "sum":
        return np.ones_like(taken)
    if kind == "average" and spec.name == "rmsprop" and beta2 < 1.0:
        return np.full_like(taken, 1.0 / np.sqrt(1.0 - beta2) / max(1.0 - (spec.momentum or 0.0), 0.0))
    beta1 = 0.9 if spec.beta1 is None else spec.beta1
    if (
        kind not in ("corrected", "maximum")
        or spec.name in ("nadam", "lamb", "stableadamw")
        or not (0.0 <= beta1 < 1.0 and 0.0 < beta2 < 1.0)
    ):
        return np.full_like(taken, np.nan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        corrected = (1.0 - beta1) / (1.0 - beta1**taken)
        quotient = beta1 / beta2 if kind == "maximum" else beta1**2 / beta2
        terms = since if quotient == 1.0 else np.asarray((1.0 - quotient**since) / (1.0 - quotient))
        if kind == "maximum":
            return np.asarray(corrected * terms)
        return np.asarray(corrected * np.sqrt(terms * (1.0 - beta2**taken) / (1.0 - beta2)))


def _since(recorded: Signal) -> FloatArray:
    """Return the number of gradients in the moments at each logged step, infinity after v alone was lost."""
    since = recorded.step + 1.0
    for resume in sorted(recorded.resumes, key=lambda r: r.step):
        if resume.kind in ("moments-lost", "fresh"):
            since = np.where(recorded.step >= resume.step, recorded.step - resume.step + 1.0, since)
        elif resume.kind == "v-lost":
            since = np.where(recorded.step >= resume.step, np.inf, since)
    return np.asarray(since, dtype=np.float64)


def _settings(spec: OptimizerSpec) -> tuple[float, float]:
    """Return the weight decay that enters the moments with the gradient, and what each accumulator starts from.

    Zero where the framework would not build the optimizer: its moments are replayed all the same, as far as they go.
    """
    try:
        own = optimizer_of(spec)
    except ConfigError:
        return 0.0, 0.0
    kind = recurrence(spec)
    return float(own.coupled) if kind else 0.0, float(own.initial) if kind == "sum" else 0.0


def _own_factor(spec: OptimizerSpec, taken: FloatArray) -> FloatArray:
    """Return what the optimizer itself makes of the learning rate at step t, (n,): Adagrad's decay, RAdam's rectification.

    RAdam does not divide by sqrt(v_hat) in its first steps: NaN there.
    Source: Liu et al. 2020, arXiv:1908.03265, Algorithm 2; torch.optim.Adagrad.
    """
    if spec.name == "adagrad" and spec.lr_decay:
        return np.asarray(1.0 / (1.0 + (taken - 1.0) * spec.lr_decay))
    beta2 = decay_rate(spec)
    if spec.name != "radam" or not 0.0 < beta2 < 1.0:
        return np.ones_like(taken)
    longest = 2.0 / (1.0 - beta2) - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        length = longest - 2.0 * taken * beta2**taken / -np.expm1(taken * np.log(beta2))
        squared = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        return np.where(length > 5.0, np.sqrt(squared), np.nan)


def _adadelta_factor(norm: FloatArray, spec: OptimizerSpec, recorded: Signal) -> FloatArray:
    """Return what Adadelta multiplies the rate by, (n,): the root mean square of its own past steps.

        moved_t = alpha * moved_(t-1) + (1 - alpha) * (moved_(t-1) + eps) * g^2 / (v_t + eps)

    is linear in moved, for coordinates that are all alike. It is returned times (sqrt(v) + eps) / sqrt(v + eps), since eps stands
    under the roots. NaN unless every step was logged by one process and the number of parameters is known.
    Source: Zeiler 2012, arXiv:1212.5701, Algorithm 1.
    """
    n, eps, alpha = recorded.n_parameters, spec.eps, decay_rate(spec)
    every = recorded.step[0] == 0 and np.all(np.diff(recorded.step) == 1)
    if n is None or not eps or not every or not 0.0 < alpha < 1.0 or any(r.kind != "kept" for r in recorded.resumes):
        return np.full_like(norm, np.nan)
    v = second_moment(norm, recorded.step, spec) / n
    quotient = norm**2 / n / (v + eps)
    moved = linear_scan(np.log(alpha + (1.0 - alpha) * quotient), (1.0 - alpha) * eps * quotient)
    before = np.concatenate(([0.0], moved[:-1]))
    return np.asarray(np.sqrt(before + eps) * (np.sqrt(v) + eps) / np.sqrt(v + eps))


def _entering(recorded: Signal, clip: float, decay: float) -> FloatArray:
    """Return the norm of the gradient that enters the optimizer, (n,)."""
    norm, whole = recorded.grad_norm, recorded.whole
    if np.isfinite(clip):
        with np.errstate(divide="ignore"):
            norm = norm * np.minimum(1.0, np.where(whole > 0.0, clip / whole, 1.0))
    if np.isfinite(recorded.clip_value) and recorded.n_parameters is not None:
        norm = np.minimum(norm, recorded.clip_value * np.sqrt(recorded.n_parameters))
    if decay and recorded.weight_norm is not None:
        norm = np.hypot(norm, decay * recorded.weight_norm)
    return norm


def _notes(recorded: Signal, specs: Sequence[OptimizerSpec], clips: Sequence[float]) -> list[str]:
    """Return what is assumed in replaying these candidates over this signal."""
    notes = []
    gaps = np.diff(recorded.step)
    if gaps.size and gaps.max() > 1:
        notes.append(
            f"The norm was logged every {int(np.median(gaps)):,} steps (at most {int(gaps.max()):,}); in between it is "
            "taken to run evenly on a logarithmic scale."
        )
    if recorded.step[0] > 0:
        notes.append(f"The log begins at step {int(recorded.step[0]):,}: before it the first norm is taken to have held.")
    for resume in recorded.resumes:
        told = {
            "kept": "its optimizer state is taken as restored",
            "moments-lost": "m and v were lost, the step count was kept: no bias correction follows",
            "step-reset": "the step count was lost, m and v were kept: they are corrected as if new",
            "v-lost": "v was lost, m was kept",
            "fresh": "the optimizer began anew",
        }[resume.kind]
        notes.append(f"A process began again at step {resume.step:,}: {told}.")
    if np.isfinite(recorded.clip_value):
        clear = float(np.mean(recorded.grad_norm <= recorded.clip_value))
        notes.append(
            f"Gradients are clipped by value at {recorded.clip_value:g}: exact where the norm is below it "
            f"({clear:.0%} of the points), elsewhere what is replayed is the most that can enter."
        )
    if recorded.logged == "after" and max(clips) > recorded.clip_norm:
        notes.append("Logged after the clip: what a wider clip would let through is not known, and is taken as the bound.")
    if recorded.n_parameters is None:
        notes.append("The number of parameters is not known: ratios are exact, eps is left out of the effective rate.")
    notes += _notes_on(specs, recorded)
    return notes


def _notes_on(specs: Sequence[OptimizerSpec], recorded: Signal) -> list[str]:
    """Return what the kinds of optimizers among the candidates ask to be said, each once."""
    notes = []
    without = sorted({spec.name for spec in specs if not recurrence(spec)})
    if without:
        notes.append(f"No second moment follows from a norm for {', '.join(without)}: the effective rate is the learning rate.")
    if any(recurrence(spec) == "maximum" for spec in specs):
        notes.append("Adamax keeps a maximum for each parameter: from the norm follows the least that it can be.")
    if any(spec.amsgrad or spec.name == "amsgrad" for spec in specs):
        notes.append("AMSGrad keeps a maximum for each parameter: from the norm follows the least that it can be.")
    if any(spec.name == "adadelta" for spec in specs):
        notes.append(
            "Adadelta's own rate is replayed only from a log of every step, with eps and the number of parameters known."
        )
    if any(spec.name == "lamb" for spec in specs):
        notes.append("LAMB's trust ratio is not replayed: rates are those before it.")
    if any(spec.name == "nadam" for spec in specs):
        notes.append("NAdam looks ahead by one gradient: the update shown is Adam's.")
    if any(spec.name == "adafactor" for spec in specs):
        notes.append("Adafactor's own rate (relative step, scale of the parameter, clip of the update) is not replayed.")
    if any(spec.name == "rmsprop" and spec.centered for spec in specs):
        notes.append("Centred RMSprop takes off the square of the mean gradient: the second moment is at most what is replayed.")
    if recorded.n_parameters is None and any(_settings(spec)[1] for spec in specs):
        notes.append("Adagrad's sums do not start at 0; the number of parameters is not known, and that is left out.")
    coupled = any(_settings(spec)[0] for spec in specs)
    if coupled and recorded.weight_norm is None:
        notes.append(
            "Weight decay enters the gradient, but no weight norm was logged: the second moment is larger than replayed."
        )
    elif coupled:
        notes.append("Weight decay enters the gradient: its square is added, as if the two were at right angles.")
    return notes
