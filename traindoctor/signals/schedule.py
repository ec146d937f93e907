"""Whether a logged learning rate follows the schedule that was configured, and if not, what went wrong.

`reconcile` holds a log against a `ScheduleSpec` and, where the two part, tries in turn what commonly goes wrong. Distances
are those of `shape`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from traindoctor.optim.schedules import ScheduleSpec, learning_rate
from traindoctor.signals.shape import Description, cleaned, describe, distance, tolerance_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from traindoctor.model import FloatArray, IntArray, Run
    from traindoctor.signals.shape import Shape

    Rate: TypeAlias = Callable[[IntArray], FloatArray]

Answer = Literal[
    "follows",
    "cannot-tell",
    "constant",
    "scaled",
    "time-scaled",
    "reset-at-resume",
    "rewarmed-at-resume",
    "warmup-differs",
    "total-differs",
    "another-schedule",
    "differs",
]

#: A distance below which nothing is called a discrepancy, whatever fits.
CLEAR = 0.01
#: Distinct points below which no number is fitted to a log.
ENOUGH = 6
#: Points of a long log that faults are tried on; whether it follows is told from all.
SEARCHED = 4000
#: Share of the logged epochs that their last decimal may be: a coarser one tells no length of an epoch.
COARSE = 0.01
#: Lengths of a warmup after a resume that are tried, in logged points.
MOST_LENGTHS = 200
_SETTINGS_OF_LENGTH = (
    "num_training_steps",
    "T_max",
    "total_iters",
    "total_steps",
    "total_num_steps",
    "decay_steps",
    "transition_steps",
    "t_initial",
)
_SETTINGS_OF_WARMUP = ("num_warmup_steps", "warmup_steps", "warmup_num_steps", "warmup_t")
#: End of a schedule's name -> the shape of its decay, of schedules that have one alone.
_SHAPES: Mapping[str, Shape] = {
    ".linear": "linear",
    ".cosine": "cosine",
    ".cosine_with_min_lr": "cosine",
    ".CosineAnnealingLR": "cosine",
    ".CosineLRScheduler": "cosine",
    ".ExponentialLR": "exponential",
}


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Whether a logged learning rate follows the configured schedule, and if not, what explains the log.

    `text`: the answer in words. `error`: distance of the log from what explains it, `configured_error` from the config as it
    stands, both over the highest rate. `numbers`: what was found ("factor", "total_steps", ...). `step`: the first step at
    which the log leaves the config. `note`: what the schedule has to do with the length of the run. `described`: the log alone.
    """

    answer: Answer
    text: str
    error: float = float("nan")
    configured_error: float = float("nan")
    numbers: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None
    note: str = ""
    described: Description = field(default_factory=lambda: Description("unknown"))

    @property
    def is_discrepancy(self) -> bool:
        """Whether log and config say different things."""
        return self.answer not in ("follows", "cannot-tell")


def reconcile(
    step: IntArray,
    rate: FloatArray,
    spec: ScheduleSpec | None,
    *,
    steps_per_epoch: float | None = None,
    restarts: Sequence[int] = (),
) -> Reconciliation:
    """Return whether a logged learning rate follows the schedule, and if not, which common fault explains it.

    `step` (n,) int64, `rate` (n,) float64: as logged, every k steps or once an epoch. Step counts may be off by two, and a
    value that only `spec.assumed` states is fitted, not held against the log. `restarts`: first steps of a resumed process.
    Without a spec, with fewer than three points, or where a log tells nothing the answer is "cannot-tell", with the reason.
    """
    step, value = cleaned(step, rate)
    told = describe(step, value)
    unsure = _no_comparison(value, spec)
    if unsure or spec is None:
        return Reconciliation("cannot-tell", unsure or "no schedule is configured", described=told)
    peak = float(np.max(np.abs(value))) or float(np.max(learning_rate(spec, step))) or 1.0
    tolerance = tolerance_of(value, peak)
    case = _Case(step, value, spec, peak, tolerance, told, steps_per_epoch, tuple(restarts))
    configured = case.error_of(spec)
    if configured <= tolerance:
        return Reconciliation(
            "follows", f"follows {_named(spec)}", configured, configured, note=_length_note(step, spec), described=told
        )
    off = _first_off(case)
    case = _thinned(case, SEARCHED)
    for found in (_warmup_otherwise, _constant_log, _other_scale, _other_time, _at_resume, _other_settings):
        made = found(case)
        if made is not None:
            if made.answer == "follows" or configured > CLEAR:
                return replace(made, configured_error=configured, step=None if made.answer == "follows" else off, described=told)
            break
    another = _another_family(case)
    if configured <= max(CLEAR, 2.0 * tolerance) or value.size < ENOUGH or (spec.assumed and not another):
        why = "the log lies near the configured schedule, but not on it" if configured <= CLEAR else "no explanation fits"
        why = "the config leaves part of the schedule open" if spec.assumed and configured > CLEAR else why
        return Reconciliation("cannot-tell", why, configured, configured, described=told)
    if told.kind != "unknown":
        text = f"the log shows another schedule than {_named(spec)}: {told.text}"
        return Reconciliation("another-schedule", text, told.error, configured, {}, off, described=told)
    far = f"{100.0 * configured:.2g} % of the peak"
    text = f"the log leaves {_named(spec)} from step {off:,} on, by up to {far}, and nothing known explains it"
    return Reconciliation("differs", text, configured, configured, {}, off, described=told)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """One log and its configured schedule."""

    step: IntArray
    value: FloatArray
    spec: ScheduleSpec
    peak: float
    tolerance: float
    told: Description
    steps_per_epoch: float | None
    restarts: tuple[int, ...]

    def error_of(self, spec: ScheduleSpec) -> float:
        """Return the distance of the log from a schedule, at the best common offset of the step count, within two."""
        return self.error(lambda step: learning_rate(spec, step))

    def error(self, rate: Rate) -> float:
        # numbered from 1, logged after scheduler.step(): one off either way, and both together
        return min(distance(self.value, rate(np.maximum(self.step + shift, 0)), self.peak) for shift in (0, -1, 1, -2, 2))

    @property
    def can_fit(self) -> bool:
        """Whether the log moves at enough points that a fitted number means something."""
        return np.unique(self.value).size >= ENOUGH


def steps_per_epoch(run: Run) -> float | None:
    """Return the optimizer steps in an epoch of a run: by its logged epochs, else by its settings; None when neither tells."""
    logged = run.primary.get("epoch")
    if logged is not None and run.step_unit == "step":
        step, epoch = cleaned(logged.step, logged.value)
        if epoch.size > 1 and epoch[-1] > epoch[0]:
            if np.all(epoch == np.round(epoch)):  # whole epochs: from the start of one to the start of the last
                starts = step[np.concatenate([[True], np.diff(epoch) > 0.0])]
                return float((starts[-1] - starts[1]) / (epoch[-1] - epoch[0] - 1.0)) if starts.size > 2 else None
            length = float(epoch[-1] - epoch[0])
            even = np.allclose(epoch, np.interp(step, step[[0, -1]], epoch[[0, -1]]), rtol=0.0, atol=1e-6)
            if _grain(epoch) <= COARSE * length or (even and epoch.size > 2):
                return float(step[-1] - step[0]) / length
    steps, epochs = (run.settings[key].value if key in run.settings else None for key in ("steps", "epochs"))
    if isinstance(steps, int | float) and isinstance(epochs, int | float) and epochs > 0 and steps > epochs:
        return steps / epochs
    return None


def _grain(epoch: FloatArray) -> float:
    """Return the last decimal that epochs are written with, 0 where they are written in full."""
    return next((10.0**-n for n in range(5) if np.allclose(epoch, np.round(epoch, n), rtol=0.0, atol=1e-9)), 0.0)


def _no_comparison(value: FloatArray, spec: ScheduleSpec | None) -> str:
    """Return why nothing can be said, "" when something can."""
    if value.size < 3:
        return "fewer than three learning rates were logged"
    if spec is None:
        return "no schedule is configured, or its config leaves out what it needs"
    if spec.follows_a_metric:
        return f"{_named(spec)} follows a metric, not the step"
    return "" if np.any(value != 0.0) else "the logged learning rate is 0 throughout"


def _first_off(case: _Case) -> int:
    """Return the first logged step at which the log is clearly off the config, whatever the offset."""
    rates = [learning_rate(case.spec, np.maximum(case.step + shift, 0)) for shift in (-2, -1, 0, 1, 2)]
    away = np.min(np.abs(np.stack(rates) - case.value), axis=0) > max(case.tolerance, CLEAR) * case.peak
    return int(case.step[np.argmax(away)]) if away.any() else int(case.step[0])


def _warmup_otherwise(case: _Case) -> Reconciliation | None:
    """Take a warmup of the configured length that begins elsewhere, or bends: configs do not say from where it rises."""
    calls = max([0.0, *(_get(case.spec, key) for key in _keys(case.spec, _SETTINGS_OF_WARMUP))])
    warmup = case.spec.warmup or calls * case.spec.every
    after = case.step >= warmup
    if not warmup or after.sum() < ENOUGH or after.all():
        return None
    rises = np.all(np.diff(case.value[~after]) >= -1e-9 * case.peak)
    within = case.value[~after].max() <= case.value[after][0] + case.tolerance * case.peak
    rest = replace(case, step=case.step[after], value=case.value[after])
    error = rest.error_of(case.spec)
    if not (rises and within) or error > case.tolerance or np.ptp(case.value[~after]) <= case.tolerance * case.peak:
        return None
    start = float(case.value[0])
    return Reconciliation(
        "follows", f"follows {_named(case.spec)}, its warmup from {start:.3g} on", error, numbers={"warmup_from": start}
    )


def _constant_log(case: _Case) -> Reconciliation | None:
    if case.told.kind != "constant" or not _moves_however_called(case):
        return None
    level = case.told.phases[0].first
    text = f"constant at {level:.4g} where {_named(case.spec)} was configured: the schedule was never stepped, or not attached"
    return Reconciliation("constant", text, 0.0, numbers={"learning_rate": level})


def _moves(case: _Case) -> bool:
    """Whether the configured rate moves clearly over the logged steps."""
    expected = learning_rate(case.spec, case.step)
    return bool(np.ptp(expected) > 5.0 * CLEAR * np.max(np.abs(expected)))


def _moves_however_called(case: _Case) -> bool:
    """Whether the configured rate moves clearly over the logged steps, also where it may be called once an epoch."""
    if "every" not in case.spec.assumed or any(place.startswith("the run's steps") for place in case.spec.origin.values()):
        return _moves(case)
    if case.steps_per_epoch is None or case.steps_per_epoch <= 1.0:
        return False
    expected = _timed(replace(case.spec, every=1.0), case.steps_per_epoch)(case.step)
    return _moves(case) and bool(np.ptp(expected) > 5.0 * CLEAR * np.max(np.abs(expected)))


def _another_family(case: _Case) -> bool:
    """Whether the log shows one clear decay whose shape the configured schedule has at no length.

    A lowest rate, a warmup or a plateau of the script's own does not change the shape; only a long fall shows one.
    """
    shape = next((shape for word, shape in _SHAPES.items() if case.spec.name.endswith(word)), None)
    falls = [phase for phase in case.told.phases if phase.last < phase.first]
    if shape is None or case.told.kind != "phases" or len(falls) != 1 or case.told.error > 0.5 * case.tolerance:
        return False
    after = case.value[case.step >= falls[0].start]
    return falls[0].shape != shape and after.size >= 20 and float(after[0] - after[-1]) > 0.5 * case.peak


def _other_scale(case: _Case) -> Reconciliation | None:
    expected = learning_rate(case.spec, case.step)
    high = expected > 0.05 * np.max(np.abs(expected))
    if not high.any() or (not _moves(case) and case.told.kind != "constant"):
        return None
    tried = []
    for shift in (0, -1, 1, -2, 2):  # the step count may be off here too
        moved = learning_rate(case.spec, np.maximum(case.step + shift, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = float(np.median(case.value[high] / moved[high]))
        tried.append((distance(case.value, factor * moved, case.peak), factor))
    error, factor = min(tried)
    if error > case.tolerance or abs(factor - 1.0) <= case.tolerance:
        return None
    near = f"{factor:.4g} times" if factor >= 1.0 else f"1/{1.0 / factor:.4g} of"
    text = f"{near} {_named(case.spec)} at every step, as when the rate is scaled by the number of processes or the batch"
    if "lr" in case.spec.assumed:
        return Reconciliation(
            "follows", f"follows {_named(case.spec)} from {factor * case.spec.lr:.4g}", error, numbers={"factor": factor}
        )
    return Reconciliation("scaled", text, error, numbers={"factor": factor})


def _other_time(case: _Case) -> Reconciliation | None:
    """Try the schedule called more or less often than each step: each epoch, once per process."""
    if not case.can_fit and case.told.kind != "steps":
        return None
    exact = [case.steps_per_epoch] if case.steps_per_epoch and case.steps_per_epoch > 1.0 else []
    tried = [*exact, *(1.0 / s for s in exact), *map(float, range(2, 17)), *(1.0 / s for s in range(2, 17))]
    best = min(((case.error(_timed(case.spec, slow)), slow) for slow in tried), key=lambda b: b[0])
    if best[0] > case.tolerance:
        coarse = _thinned(case, 120)
        near = sorted(np.geomspace(1e-3, 1e5, 320).tolist(), key=lambda slow: coarse.error(_timed(case.spec, slow)))[:3]
        best = min([best, *(_refined(case, coarse, slow) for slow in near)], key=lambda b: b[0])
    error, slow = best
    if error > case.tolerance or abs(slow - 1.0) < 0.02:
        return None
    rounded = round(slow) if slow > 1.0 else 1.0 / round(1.0 / slow)
    if abs(rounded / slow - 1.0) < 0.02 and case.error(_timed(case.spec, rounded)) <= case.tolerance:
        slow = float(rounded)
    if "every" in case.spec.assumed:
        return Reconciliation(
            "follows", f"follows {_named(case.spec)}, called every {slow:,.4g} steps", error, numbers={"every": slow}
        )
    epoch = case.steps_per_epoch is not None and abs(slow / case.steps_per_epoch - 1.0) < 0.05
    batch = case.steps_per_epoch is not None and abs(slow * case.steps_per_epoch - 1.0) < 0.05
    if epoch or (slow > 1.0 and abs(case.told.held / slow - 1.0) < 0.1):
        text = f"called once every {slow:,.4g} steps, as once an epoch, where {_named(case.spec)} counts steps"
    elif batch:
        text = f"called at each of the {1.0 / slow:,.4g} steps of an epoch, where {_named(case.spec)} counts epochs"
    else:
        way = f"{slow:,.4g} times slower" if slow > 1.0 else f"{1.0 / slow:,.4g} times faster"
        text = f"runs {way} than {_named(case.spec)}, as when accumulation or the number of processes is counted in"
    return Reconciliation("time-scaled", text, error, numbers={"factor": slow})


def _timed(spec: ScheduleSpec, slow: float) -> Rate:
    """Return the schedule called once every `slow` steps, or 1 / `slow` times a step."""
    return lambda step: learning_rate(spec, np.floor(np.asarray(step) / slow + 1e-9).astype(np.int64))


def _thinned(case: _Case, n: int) -> _Case:
    """Return the case with `n` of its points at even distances, all of them where there are fewer."""
    pick = np.unique(np.linspace(0, case.step.size - 1, n).astype(np.int64))
    return replace(case, step=case.step[pick], value=case.value[pick])


def _refined(case: _Case, coarse: _Case, slow: float) -> tuple[float, float]:
    width = 0.06
    for _ in range(8):
        slow = min(
            (slow * (1.0 + a * width) for a in (-1.0, -0.5, 0.0, 0.5, 1.0)), key=lambda s: coarse.error(_timed(case.spec, s))
        )
        width *= 0.5
    return case.error(_timed(case.spec, slow)), slow


def _at_resume(case: _Case) -> Reconciliation | None:
    """Try a schedule that began again at a resume, and one whose rate was warmed up again there."""
    for restart in case.restarts:
        after = case.step >= restart
        if after.sum() < 3 or not np.any(~after):
            continue

        def again(step: IntArray, restart: int = restart) -> FloatArray:
            return learning_rate(case.spec, np.where(step >= restart, step - restart, step))

        if (error := case.error(again)) <= case.tolerance:
            text = f"{_named(case.spec)} began again from its start at the resume at step {restart:,}: its state was not restored"
            return Reconciliation("reset-at-resume", text, error, numbers={"restart": float(restart)})
        for at in case.step[after][2:MOST_LENGTHS]:
            length = float(at - restart)

            def warmed(step: IntArray, restart: int = restart, length: float = length) -> FloatArray:
                ramp = np.clip((step - restart) / length, 0.0, 1.0)
                return learning_rate(case.spec, step) * np.where(step >= restart, ramp, 1.0)

            if (error := case.error(warmed)) <= case.tolerance:
                text = (
                    f"warmed up again over {length:,.0f} steps after the resume at step {restart:,}, then as {_named(case.spec)}"
                )
                return Reconciliation(
                    "rewarmed-at-resume", text, error, numbers={"restart": float(restart), "warmup_steps": length}
                )
    return None


def _other_settings(case: _Case) -> Reconciliation | None:
    """Try the schedule with another warmup, another length, and both."""
    if not case.can_fit:
        return None
    warmups, lengths = _keys(case.spec, _SETTINGS_OF_WARMUP), _keys(case.spec, _SETTINGS_OF_LENGTH)
    guess = case.told.warmup_stop
    ends = [phase.stop for phase in case.told.phases if phase.last < phase.first]
    coarse = _thinned(case, 120)
    made: list[tuple[int, float, ScheduleSpec, tuple[str, ...]]] = []
    found = ((key, _scanned(coarse, case.spec, key, guess)) for key in warmups)
    made += [(1, case.error_of(spec), spec, (key,)) for key, spec in found]
    for key in lengths:
        spec = _scanned(coarse, case.spec, key, ends[-1] if ends else None)
        made.append((1, case.error_of(spec), spec, (key,)))
        for warmup in warmups:
            both = _set(case.spec, warmup, round(guess or 0.0))
            both = _scanned(coarse, both, key, ends[-1] if ends else None)
            both = _scanned(coarse, both, warmup, guess)
            made.append((2, case.error_of(both), both, (warmup, key)))
    fitting = [one for one in made if one[1] <= case.tolerance]
    if not fitting:
        return None
    _, error, spec, keys = min(fitting, key=lambda one: one[:2])
    numbers = {_plain(key): float(_get(spec, key)) for key in keys}
    if all(key in case.spec.assumed for key in keys):
        told = ", ".join(f"{name} {value:,.0f}" for name, value in numbers.items())
        return Reconciliation(
            "follows", f"follows {_named(case.spec)} with {told}, which the config does not state", error, numbers=numbers
        )
    parts = [
        f"{_plain(key).replace('_', ' ')} {_get(spec, key):,.0f} in the log, {_get(case.spec, key):,.0f} in the config"
        for key in keys
    ]
    answer: Answer = "warmup-differs" if keys[0] in warmups else "total-differs"
    return Reconciliation(answer, f"{_named(case.spec)}, but {' and '.join(parts)}", error, numbers=numbers)


def _keys(spec: ScheduleSpec, names: Sequence[str]) -> list[str]:
    return [key for key in names if isinstance(spec.settings.get(key), int | float)]


def _get(spec: ScheduleSpec, key: str) -> float:
    value: Any = spec.settings[key]
    return float(value)


def _set(spec: ScheduleSpec, key: str, value: int) -> ScheduleSpec:
    return replace(spec, settings={**spec.settings, key: value})


def _plain(key: str) -> str:
    return "warmup_steps" if key in _SETTINGS_OF_WARMUP else "total_steps"


def _scanned(case: _Case, spec: ScheduleSpec, key: str, guess: float | None) -> ScheduleSpec:
    """Return the schedule with the value of one setting that fits best: a coarse scan, then halving about the best."""
    now = max(1.0, _get(spec, key))
    last = float(case.step[-1])
    low = 0.0 if key in _SETTINGS_OF_WARMUP else 1.0
    values = {*np.geomspace(now / 50.0, now * 50.0, 60).round(), *np.linspace(last / 60.0, 2.0 * last, 60).round(), low}
    if guess is not None:
        values |= {float(round(guess)) + n for n in (-2, -1, 0, 1, 2)}
    is_warmup = key in _SETTINGS_OF_WARMUP
    others = [_get(spec, other) for other in _keys(spec, _SETTINGS_OF_LENGTH if is_warmup else _SETTINGS_OF_WARMUP)]

    def error(value: float) -> float:
        if any(value >= other if is_warmup else value <= other for other in others):  # no step is left for the decay
            return float("inf")
        return case.error_of(_set(spec, key, int(value)))

    best = min((error(value), value) for value in values if value >= low)
    width = max(2.0, 0.2 * best[1])
    while width >= 1.0:
        near = {round(best[1] + a * width) for a in (-1.0, -0.5, 0.5, 1.0)}
        best = min([best, *((error(value), float(value)) for value in near if value >= low)])
        width *= 0.6
    return _set(spec, key, int(best[1]))


def _length_note(step: IntArray, spec: ScheduleSpec) -> str:
    """Return what the end of the decay has to do with the end of the log, "" where both meet or no end is set."""
    keys = _keys(spec, _SETTINGS_OF_LENGTH)
    if not keys or spec.settings.get("cycle"):
        return ""
    total = _get(spec, keys[-1]) * spec.every
    last = float(step[-1])
    if last < 0.9 * total:
        rate = float(learning_rate(spec, step[-1:])[0])
        return f"the log ends at step {last:,.0f} of the schedule's {total:,.0f}, at a rate of {rate:.3g}"
    if last > 1.1 * total:
        return f"the schedule ends at step {total:,.0f}, {last - total:,.0f} steps before the log"
    return ""


def _named(spec: ScheduleSpec) -> str:
    return f"the configured {spec.name.partition('.')[2]}"
