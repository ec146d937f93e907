"""Training again with PyTorch: the recorded steps, exactly; the same steps with a change; and the Hessian of where it stands.

The one module of traindoctor that imports torch. It works on the user's own model and optimizer, because a loss closure
knows no others, and puts everything back as it was: parameters, buffers, gradients, modes, the optimizer's state and
settings, the scheduler, and every random number generator, after an error too. A checkpoint is state dicts, or a file that is
loaded with `weights_only=True`; nothing is unpickled.
"""

from __future__ import annotations

import copy
import pickle
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from traindoctor.errors import TraindoctorError, UnreadableInputError
from traindoctor.model import ADAM_FAMILY, Curve, OptimizerSpec, Replay, Segment, Trial
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.critical_point import RESOLUTION, CriticalPoint, where
from traindoctor.replay.verdict import Course, course, judge

try:
    import torch
except ImportError as missing:

    class TorchMissingError(TraindoctorError, ImportError):
        """PyTorch is an extra, and it is not installed."""

    raise TorchMissingError(
        "traindoctor.replay.torch",
        "PyTorch is not installed: pip install 'traindoctor[torch]'",
        "pip install 'traindoctor[torch]'",
    ) from missing

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from traindoctor.model import FloatArray, IntArray, TrialVerdict

#: The loss of one batch, a scalar with a graph.
Loss: TypeAlias = "Callable[[Any], Tensor]"
#: The batches from the first replayed step on, or the batch of a number.
Batches: TypeAlias = "Iterable[Any] | Callable[[int], Any]"
#: State dicts by name, see `capture`.
Checkpoint: TypeAlias = "Mapping[str, Any]"

#: What people call the parts of a checkpoint.
NAMES = {
    "model": ("model", "model_state_dict", "state_dict", "model_state", "net"),
    "optimizer": ("optimizer", "optimizer_state_dict", "optim", "optimizer_state", "optimizer_states"),
    "scheduler": ("scheduler", "scheduler_state_dict", "lr_scheduler", "lr_schedulers"),
    "rng": ("rng", "rng_state", "torch_rng_state"),
    "step": ("step", "global_step", "iteration"),
}
#: A replay reproduces a recorded loss when it misses it by less than this in the median, decades: a bit of float32 that
#: comes out otherwise on another machine is allowed, another run is not.
BOUND_DECADES = 0.01
#: Steps that are trained twice, to see whether training repeats itself bit by bit at all.
REPEATED = 20
AS_RECORDED = "as recorded"


# -- checkpoints ------------------------------------------------------------------------------------------------------


def capture(model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None = None, *, step: int = 0) -> dict[str, Any]:
    """Return a checkpoint for an exact replay: copies of all state dicts, the random number generators, and the steps taken.

    Holds tensors and plain values alone, so that `torch.save` writes it and `weights_only=True` reads it. The generators are
    those of torch (CPU and CUDA), `random` and `numpy.random`.
    """
    held = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
    }
    return {**{name: _copied(state) for name, state in held.items()}, "rng": _generators(), "step": step}


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the parts of a checkpoint file by our names, on the CPU; parts that it does not hold are left out.

    Raises: UnreadableInputError for a file that is missing, no checkpoint, or holds more than tensors and plain values.
    """
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableInputError(
            str(path),
            "is not loaded, because it holds more than tensors and plain values, and loading that could run code",
            "save state dicts: torch.save(traindoctor.replay.torch.capture(model, optimizer), path)",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UnreadableInputError(str(path), f"cannot be read as a PyTorch checkpoint ({_first_line(error)})") from error
    if not isinstance(held, Mapping):
        raise UnreadableInputError(str(path), f"holds a {type(held).__name__}, where a dict of state dicts is needed")
    return _parts(held, str(path))


def _parts(held: Checkpoint, place: str) -> dict[str, Any]:
    """Return the parts of a checkpoint by our names."""
    parts: dict[str, Any] = {}
    for part, names in NAMES.items():
        name = next((name for name in names if name in held), None)
        if name is not None:
            value = held[name]
            parts[part] = value[0] if isinstance(value, list) and len(value) == 1 else value
    for part in ("model", "optimizer"):
        if not isinstance(parts.get(part), Mapping):
            raise UnreadableInputError(
                place,
                f"holds no state dict of the {part}; its keys are {_some(held)}",
                f"name it one of: {', '.join(NAMES[part])}",
            )
    return parts


def _copied(value: Any) -> Any:
    """Return a copy of nested dicts, lists and tensors; other values are copied too."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_copied(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return copy.deepcopy(value)


def _generators() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  the generator that user code draws from
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    }


def _set_generators(state: Any) -> None:
    """Put the generators of `_generators` back, or torch's alone where a checkpoint holds just that."""
    if isinstance(state, torch.Tensor):
        state = {"torch": state}
    if not isinstance(state, Mapping) or not isinstance(state.get("torch"), torch.Tensor):
        raise UnreadableInputError("checkpoint", "holds random number generators in a form that is not known", "see capture")
    torch.set_rng_state(state["torch"].cpu())
    if state.get("cuda") and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])
    if "python" in state:
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
    if "numpy" in state:
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def _check_fits(model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None, parts: Checkpoint) -> None:
    """Raise the one message that says what in a checkpoint is another model's or another optimizer's."""
    own, held = model.state_dict(), parts["model"]
    wrong = [f"lacks {_some(own.keys() - held.keys())}"] if own.keys() - held.keys() else []
    if held.keys() - own.keys():
        wrong.append(f"has {_some(held.keys() - own.keys())} beside the model's")
    shapes = [
        f"{key} {tuple(held[key].shape)}, here {tuple(own[key].shape)}"
        for key in own.keys() & held.keys()
        if isinstance(own[key], torch.Tensor) and own[key].shape != held[key].shape
    ]
    if shapes:
        wrong.append(f"other shapes: {_some(shapes)}")
    if wrong:
        raise TraindoctorError(
            "checkpoint", f"is of another model: {'; '.join(wrong)}", "build the model as the recorded run did"
        )
    groups, state = parts["optimizer"].get("param_groups", []), parts["optimizer"].get("state", {})
    sizes = [[len(group["params"]) for group in g] for g in (groups, optimizer.param_groups)]
    mine = {key for group in optimizer.param_groups for key in group} & _FAMILY
    theirs = {key for group in groups for key in group} & _FAMILY
    if mine != theirs:
        wrong.append(f"it has the settings {_some(theirs)}, here they are {_some(mine)}")
    elif sizes[0] != sizes[1]:
        wrong.append(f"it has groups of {sizes[0]} parameters, here they are of {sizes[1]}")
    else:
        names = {id(p): name for name, p in model.named_parameters()}
        pairs = [
            pair
            for g, o in zip(groups, optimizer.param_groups, strict=True)
            for pair in zip(g["params"], o["params"], strict=True)
        ]
        wrong += [
            f"{key} of {names.get(id(p), index)} is {tuple(value.shape)}, here {tuple(p.shape)}"
            for index, p in pairs
            for key, value in state.get(index, {}).items()
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != p.shape
        ][:3]
    if wrong:
        raise TraindoctorError(
            "checkpoint", f"is of another optimizer: {'; '.join(wrong)}", "build the optimizer as the recorded run did"
        )
    if scheduler is not None and parts.get("scheduler") is None:
        raise TraindoctorError(
            "checkpoint", "holds no state of the scheduler", f"save it as one of: {', '.join(NAMES['scheduler'])}"
        )


#: Settings of a group by which families of optimizers differ; newer versions of PyTorch add others to the same optimizer.
_FAMILY = {"betas", "momentum", "alpha", "lr_decay", "rho", "etas", "lambd"}


def _some(names: Iterable[object]) -> str:
    listed = sorted(str(name) for name in names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "") if listed else "none"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


@contextmanager
def untouched(model: nn.Module, optimizer: Optimizer | None = None, scheduler: LRScheduler | None = None) -> Iterator[None]:
    """Put everything back on leaving, after an error too: see the head of this module.

    Gradients are None inside. Parameters and buffers are put back as the same tensors; the optimizer works on a copy of its
    state, so that references to its groups stay good.
    """
    modules = list(model.modules())
    tensors = {
        id(t): (t, t.detach().clone()) for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None
    }
    buffers = [dict(m._buffers) for m in modules]
    modes = [m.training for m in modules]
    parameters = list(model.parameters())
    grads = [p.grad for p in parameters]
    schedule = {} if scheduler is None else _copied(scheduler.state_dict())
    generators = _generators()
    if optimizer is not None:
        state, groups = optimizer.state, optimizer.param_groups
        optimizer.state = defaultdict(dict, {p: _copied(held) for p, held in state.items()})
        optimizer.param_groups = [{k: v if k == "params" else _copied(v) for k, v in group.items()} for group in groups]
    for p in parameters:
        p.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in tensors.values():
                tensor.copy_(value)
        for module, held, mode in zip(modules, buffers, modes, strict=True):
            module._buffers.update(held)
            module.training = mode
        for p, grad in zip(parameters, grads, strict=True):
            p.grad = grad
        if optimizer is not None:
            optimizer.state, optimizer.param_groups = state, groups
        if scheduler is not None:
            scheduler.load_state_dict(schedule)
        _set_generators(generators)


# -- the exact replay -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class ExactReplay:
    """What each replayed step did; all (n,), `step` int64, the rest float64.

    `step`: the steps taken before it. `loss`: before the step, mean over accumulated batches. `grad_norm`: L2, before the
    clip. `lr`: of the first group. `update_norm`, `weight_norm`: L2 of the change of the parameters, and of them after it.
    `final`: a checkpoint after the last step, see `capture`.
    """

    step: IntArray
    loss: FloatArray
    grad_norm: FloatArray
    lr: FloatArray
    update_norm: FloatArray
    weight_norm: FloatArray
    final: Checkpoint


@dataclass(frozen=True, slots=True)
class _Training:
    """What trains, and how: all that stays the same between candidates."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    loss: Loss
    batches: Batches
    checkpoint: Checkpoint | None
    clip_norm: float | None
    accumulation_steps: int
    start: int


def replay(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Loss,
    batches: Batches,
    *,
    steps: int,
    checkpoint: Checkpoint | str | Path | None = None,
    scheduler: LRScheduler | None = None,
    clip_norm: float | None = None,
    accumulation_steps: int = 1,
    settings: Mapping[str, object] | None = None,
) -> ExactReplay:
    """Return what `steps` optimizer steps from a checkpoint do; on a CPU with deterministic algorithms, bit by bit what they did.

    Each step is zero_grad, `accumulation_steps` times backward (of the loss over that number), clip of the norm over all
    parameters of the model, optimizer.step, scheduler.step. Modes (train, eval) are taken as the model has them.

    `loss`: called with a batch, returns the scalar; it may use `model`, which is trained in place and put back. `batches`: the
    batches from the first replayed step on, started over where they end (a DataLoader is), or a function from the number
    of a batch, counted from the start of training. `checkpoint`: see `capture` and `load_checkpoint`; None is here and now.
    `settings`: changes, see `try_candidates`.

    Raises: TraindoctorError for a checkpoint that does not fit, settings out of range, and batches that run out.
    """
    training = _training(model, optimizer, loss, batches, steps, checkpoint, scheduler, clip_norm, accumulation_steps)
    return _train(training, steps, settings or {})


def _training(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Loss,
    batches: Batches,
    steps: int,
    checkpoint: Checkpoint | str | Path | None,
    scheduler: LRScheduler | None,
    clip_norm: float | None,
    accumulation_steps: int,
) -> _Training:
    if steps < 1 or accumulation_steps < 1:
        raise TraindoctorError("steps, accumulation_steps", f"are {steps} and {accumulation_steps}; both must be 1 or more")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TraindoctorError("optimizer", "LBFGS evaluates the loss within a step; only first-order optimizers are replayed")
    if checkpoint is not None:
        checkpoint = load_checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else _parts(checkpoint, "checkpoint")
        _check_fits(model, optimizer, scheduler, checkpoint)
    if clip_norm is not None:
        _in_range("gradient.clip_norm", clip_norm)
    start = int(checkpoint.get("step", 0)) if checkpoint is not None else 0
    return _Training(model, optimizer, scheduler, loss, batches, checkpoint, clip_norm, accumulation_steps, start)


def _train(training: _Training, steps: int, settings: Mapping[str, object]) -> ExactReplay:
    model, optimizer, scheduler = training.model, training.optimizer, training.scheduler
    figures = np.full((5, steps), np.nan)
    with untouched(model, optimizer, scheduler):
        if training.checkpoint is not None:
            _restore(training, training.checkpoint)
        change = _change(optimizer, settings, training.clip_norm)
        feed = _feed(training.batches, training.start * training.accumulation_steps)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for i in range(steps):
            optimizer.zero_grad()
            total = 0.0
            for _ in range(training.accumulation_steps):
                batch = next(feed, _END)
                if batch is _END:
                    raise TraindoctorError("batches", f"end after {i} of {steps} steps", "give more batches, or fewer steps")
                value = training.loss(batch)
                part = value / training.accumulation_steps if training.accumulation_steps > 1 else value
                part.backward()  # type: ignore[no-untyped-call]
                total += float(value.detach())
            norm = _norm(p.grad for p in model.parameters())
            if change.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), change.clip_norm)
            before = [p.detach().clone() for p in parameters]
            factor = change.lr_factor * _decay(change.decay, i, steps)
            lr = _step(optimizer, factor)
            update = _norm(p.detach() - old for p, old in zip(parameters, before, strict=True))
            figures[:, i] = total / training.accumulation_steps, norm, lr, update, _norm(p.detach() for p in parameters)
            if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                scheduler.step(total / training.accumulation_steps)
            elif scheduler is not None:
                scheduler.step()
        final = capture(model, optimizer, scheduler, step=training.start + steps)
    step = np.arange(training.start, training.start + steps, dtype=np.int64)
    return ExactReplay(step, figures[0], figures[1], figures[2], figures[3], figures[4], final)


_END = object()


def _feed(batches: Batches, first: int) -> Iterator[Any]:
    """Yield batches, in order; what can be iterated again is, at its end, as at an epoch's."""
    if callable(batches):
        while True:
            yield batches(first)
            first += 1
    once = isinstance(batches, Iterator)
    while True:
        found = False
        for batch in batches:
            found = True
            yield batch
        if once or not found:
            return


def _restore(training: _Training, parts: Checkpoint) -> None:
    training.model.load_state_dict(parts["model"])
    training.optimizer.load_state_dict(_copied(parts["optimizer"]))
    if training.scheduler is not None:
        training.scheduler.load_state_dict(_copied(parts["scheduler"]))
    if parts.get("rng") is not None:
        _set_generators(parts["rng"])


def _step(optimizer: Optimizer, factor: float) -> float:
    """Take one optimizer step with every rate scaled, put the rates back for the scheduler; return the first group's as used."""
    rates = [group["lr"] for group in optimizer.param_groups]
    if factor != 1.0:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
    used = float(optimizer.param_groups[0]["lr"])
    optimizer.step()
    if factor != 1.0:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
    return used


def _norm(tensors: Iterable[Tensor | None]) -> float:
    """Return the L2 norm over all tensors, added up in float64."""
    return float(np.sqrt(sum(float(torch.linalg.vector_norm(t, dtype=torch.float64)) ** 2 for t in tensors if t is not None)))


# -- settings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Change:
    """What of a candidate is not a setting of the optimizer's groups."""

    lr_factor: float
    decay: str
    clip_norm: float | None


#: Setting -> what it must be, and in words.
_RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "optimizer.lr": (lambda x: 0.0 <= x < np.inf, "0 or more"),
    "optimizer.eps": (lambda x: 0.0 <= x < np.inf, "0 or more"),
    "optimizer.betas": (lambda x: len(x) == 2 and all(0.0 <= b < 1.0 for b in x), "two numbers of 0 or more, below 1"),
    "optimizer.momentum": (lambda x: 0.0 <= x < 1.0, "0 or more, below 1"),
    "optimizer.weight_decay": (lambda x: 0.0 <= x < np.inf, "0 or more"),
    "optimizer.amsgrad": (lambda x: isinstance(x, bool), "true or false"),
    "optimizer.nesterov": (lambda x: isinstance(x, bool), "true or false"),
    "gradient.clip_norm": (lambda x: x is None or x > 0.0, "above 0, or None"),
    "schedule.name": (lambda x: x in ("linear", "cosine"), "linear or cosine, both down to 0 over the replayed steps"),
}


def _in_range(setting: str, value: object) -> None:
    if setting not in _RANGES:
        raise TraindoctorError(setting, "is not a setting that a replay changes", f"change one of: {', '.join(_RANGES)}")
    fits, words = _RANGES[setting]
    try:
        good = fits(value)
    except TypeError:
        good = False
    if not good:
        raise TraindoctorError(setting, f"is {value!r}; it must be {words}")


def _change(optimizer: Optimizer, settings: Mapping[str, object], clip_norm: float | None) -> _Change:
    """Write settings into every group of the optimizer, and return the rest of them."""
    factor = 1.0
    for setting, value in settings.items():
        _in_range(setting, value)
        family, name = setting.split(".")
        if family != "optimizer":
            continue
        if name not in optimizer.param_groups[0]:
            raise TraindoctorError(setting, f"{type(optimizer).__name__} has no {name}", f"it has: {_some(optimizer.defaults)}")
        if name == "lr":
            group = optimizer.param_groups[0]
            peak = float(group.get("initial_lr", group["lr"]))
            if peak == 0.0:
                raise TraindoctorError(setting, "the recorded learning rate is 0, and cannot be scaled")
            factor = float(str(value)) / peak
            continue
        for group in optimizer.param_groups:
            group[name] = value
    _complete(optimizer)
    return _Change(factor, str(settings.get("schedule.name", "")), settings.get("gradient.clip_norm", clip_norm))  # type: ignore[arg-type]


def _complete(optimizer: Optimizer) -> None:
    """Add to the optimizer's state what a setting switched on within a run needs and PyTorch makes at the first step alone."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state.get(p, {})
            if group.get("amsgrad") and "exp_avg_sq" in state:
                state.setdefault("max_exp_avg_sq", state["exp_avg_sq"].clone())
            if group.get("momentum") and "square_avg" in state:
                state.setdefault("momentum_buffer", torch.zeros_like(p))


def _decay(name: str, i: int, steps: int) -> float:
    """Return the factor on the learning rate of the i-th of `steps`."""
    if name == "linear":
        return 1.0 - i / steps
    return 0.5 * (1.0 + float(np.cos(np.pi * i / steps))) if name == "cosine" else 1.0


# -- candidates -------------------------------------------------------------------------------------------------------


def try_candidates(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Loss,
    batches: Batches,
    candidates: Mapping[str, Mapping[str, object]],
    *,
    steps: int,
    checkpoint: Checkpoint | str | Path | None = None,
    scheduler: LRScheduler | None = None,
    clip_norm: float | None = None,
    accumulation_steps: int = 1,
    recorded: Sequence[float] | FloatArray | None = None,
    history: Sequence[float] | FloatArray = (),
) -> Replay:
    """Return the replay of the recorded settings and of each candidate, all from the same checkpoint, each with a verdict.

    `candidates`: title -> settings, out of optimizer.lr (the peak; a schedule goes on, scaled), eps, betas, amsgrad, momentum,
    nesterov, weight_decay, gradient.clip_norm, and schedule.name linear or cosine (the rate goes down to 0 over the replayed
    steps). `recorded`: (steps,) the logged losses; a replay that misses them refuses. Without them the first `REPEATED` steps are
    trained twice, and have to come out the same. `history`: losses of the steps before the checkpoint, so that the
    verdict knows where the run came from; without it, it is made on the replayed steps alone. The other arguments: see `replay`.

    Verdicts are those of `replay.verdict.judge`, on the course of history and replay.
    """
    for settings in candidates.values():
        for setting, value in settings.items():
            _in_range(setting, value)
    if isinstance(batches, Iterator):
        batches = [batch for batch, _ in zip(batches, range(steps * accumulation_steps), strict=False)]
    training = _training(model, optimizer, loss, batches, steps, checkpoint, scheduler, clip_norm, accumulation_steps)
    base = _train(training, steps, {})
    reproduced = Curve(f"replay, {AS_RECORDED}", "reproduced", base.step, base.loss)
    segment = Segment(training.start, training.start + steps)
    name = f"the user's own model and {type(optimizer).__name__}, trained again"
    if recorded is None:
        observed, error, refusal = reproduced, 0.0, ""
        again = _train(training, min(steps, REPEATED), {}).loss
        if not np.array_equal(again, base.loss[: again.size], equal_nan=True):
            refusal = (
                "training does not repeat itself: data, augmentation or an algorithm is not deterministic "
                "(try torch.use_deterministic_algorithms(True), and a generator with a seed for the data)"
            )
        residual = None
    else:
        logged = np.asarray(recorded, dtype=np.float64)
        if logged.shape != base.loss.shape:
            raise TraindoctorError("recorded", f"has the shape {logged.shape}, where {steps} losses are needed")
        observed = Curve("logged loss", "observed", base.step, logged)
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.where(base.loss == logged, 0.0, np.log10(np.abs(base.loss)) - np.log10(np.abs(logged)))
        residual = Curve("replay over log", "reproduced", base.step, apart)
        error = float(np.median(np.abs(np.nan_to_num(apart, nan=np.inf))))
        missed = f"the replay misses the logged loss by {error:.2g} decades in the median, its bound is {BOUND_DECADES:g}"
        refusal = missed if error > BOUND_DECADES else ""
    trials: list[Trial] = []
    if not refusal:
        before = np.asarray(history, dtype=np.float64)
        was = _course(before, base)
        trials.append(_trial(AS_RECORDED, {}, base, was, was))
        for title, settings in candidates.items():
            tried = _train(training, steps, settings)
            trials.append(_trial(title, settings, tried, was, _course(before, tried)))
    return Replay(
        "exact", name, segment, observed, reproduced, residual, error, BOUND_DECADES, not refusal, refusal, tuple(trials)
    )


def _course(history: FloatArray, tried: ExactReplay) -> Course:
    steps = np.arange(tried.step[0] - history.size, tried.step[-1] + 1, dtype=np.int64)
    return course(steps, np.concatenate((history, tried.loss)))


def _trial(title: str, settings: Mapping[str, object], tried: ExactReplay, was: Course, now: Course) -> Trial:
    judgement = judge(was, now)
    verdict: TrialVerdict = "no effect" if title == AS_RECORDED else judgement.verdict
    curve = Curve(f"replay, {title}", "counterfactual", tried.step, tried.loss)
    return Trial(title, settings, verdict, now.highest, judgement.slower, curve, judgement.note)


# -- the optimizer's state --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class SecondMoment:
    """sqrt(v_hat) of an optimizer's state, by parameter tensor and by group.

    `names` (k,): of the parameters that have a state. `n` (k,) int64: their numbers. `rms`, `smallest`, `largest` (k,) float64:
    of sqrt(v_hat), rms the root of the mean of v_hat. `group` (k,) int64: of each parameter. `group_rms` (groups,): the same
    over a group; NaN for one without a state. `total_rms`: over all, what a log with the global gradient norm replays.
    """

    names: tuple[str, ...]
    n: IntArray
    rms: FloatArray
    smallest: FloatArray
    largest: FloatArray
    group: IntArray
    group_rms: FloatArray
    total_rms: float


def probe(optimizer: Optimizer, model: nn.Module | None = None) -> SecondMoment:
    """Return the second moment that the optimizer holds now, to compare with the replay of a log. `model` gives names.

    Raises: TraindoctorError when it holds none: not adaptive, or not a step taken.
    """
    known = {id(p): name for name, p in model.named_parameters()} if model is not None else {}
    rows = [
        (known.get(id(p), f"{g}.{i}"), g, _root_v_hat(group, optimizer.state.get(p, {})))
        for g, group in enumerate(optimizer.param_groups)
        for i, p in enumerate(group["params"])
    ]
    held = [(name, g, root) for name, g, root in rows if root is not None]
    if not held:
        raise TraindoctorError("optimizer", f"{type(optimizer).__name__} holds no second moment: not adaptive, or no step taken")
    n = np.array([root.numel() for _, _, root in held], dtype=np.int64)
    total = np.array([float((root**2).sum()) for _, _, root in held])
    group = np.array([g for _, g, _ in held], dtype=np.int64)
    n_groups = len(optimizer.param_groups)
    with np.errstate(invalid="ignore"):
        by_group = np.sqrt(np.bincount(group, total, n_groups) / np.bincount(group, n, n_groups))
    return SecondMoment(
        names=tuple(name for name, _, _ in held),
        n=n,
        rms=np.sqrt(total / n),
        smallest=np.array([float(root.min()) for _, _, root in held]),
        largest=np.array([float(root.max()) for _, _, root in held]),
        group=group,
        group_rms=by_group,
        total_rms=float(np.sqrt(total.sum() / n.sum())),
    )


def _root_v_hat(group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor | None:
    """Return what the gradient is divided by, eps left out, float64; None for an optimizer, or a parameter, without it.

    Source: torch.optim's own recurrences: Adam and its kin sqrt(v / (1 - beta2^t)), v its maximum with amsgrad; RMSprop sqrt(v),
    less the square of the mean where centered; Adagrad sqrt(sum).
    """
    if "exp_avg_sq" in state and "betas" in group:
        v: Tensor = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
        return torch.sqrt(v.double() / (1.0 - group["betas"][1] ** float(state["step"])))
    if "square_avg" in state and "alpha" in group:
        mean = state["grad_avg"].double() if group.get("centered") else 0.0
        return torch.sqrt((state["square_avg"].double() - mean**2).clamp(min=0.0))
    if "sum" in state:
        return torch.sqrt(state["sum"].double())
    return None


# -- where it stands --------------------------------------------------------------------------------------------------


def where_stuck(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: Optimizer | None = None,
    *,
    resolution: float | None = None,
    k: int = 3,
) -> CriticalPoint:
    """Return where the parameters that require a gradient are: minimum, saddle, flat valley, between walls, or on a slope.

    `loss`: called without arguments, returns the scalar of the batches that count; it is evaluated with the same random numbers
    each time, in the modes the model has. Products with its Hessian are gradients of gradients (Pearlmutter 1994, Neural
    Computation 6, 1); vectors are float64, the products have the parameters' own precision. `optimizer`: gives the learning
    rate and the second moment of each parameter, and the weight decay that belongs to the loss; without it nothing is said
    of stability. `resolution`: the change of the loss that counts, by default a thousandth of it, or what rounding the
    parameters once changes, where that is more. `k`: eigenvalues at each end of the spectrum. Some hundred gradients are
    computed, with the graph of one kept. The model is left as it was.

    Raises: TraindoctorError when the loss has no graph, or one that cannot be differentiated twice.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise TraindoctorError("model", "has no parameter that requires a gradient")
    sizes = [p.numel() for p in parameters]
    decay = _coupled_decay(parameters, optimizer)
    generators = _generators()
    with untouched(model):
        here = _flat(parameters)

        def value() -> Tensor:
            _set_generators(generators)
            result = loss()
            if not isinstance(result, torch.Tensor) or result.numel() != 1 or not result.requires_grad:
                raise TraindoctorError(
                    "loss", "must return a scalar tensor with a graph", "leave out .item(), detach and no_grad"
                )
            return result

        def at(offset: FloatArray) -> float:
            moved = here + offset
            _write(parameters, moved)
            with torch.no_grad():
                _set_generators(generators)
                found = float(loss())
            _write(parameters, here)
            return found + 0.5 * float(np.sum(decay * moved**2))

        def differentiated(of: Tensor, **options: Any) -> tuple[Tensor, ...]:
            try:
                found = torch.autograd.grad(of, parameters, allow_unused=True, **options)
            except RuntimeError as error:
                raise TraindoctorError(
                    "loss",
                    f"cannot be differentiated ({_first_line(error)})",
                    "for attention: torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
                    "let the closure return the loss without calling backward",
                ) from error
            return tuple(torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True))

        slopes = differentiated(value(), create_graph=True)

        def hvp(vector: FloatArray) -> FloatArray:
            parts = zip(slopes, np.split(vector, np.cumsum(sizes)[:-1]), strict=True)
            along = sum((g * torch.as_tensor(v).to(g).view_as(g)).sum() for g, v in parts)
            if not (isinstance(along, torch.Tensor) and along.requires_grad):
                return decay * vector  # a loss that is linear in all parameters
            return _flat(differentiated(along, retain_graph=True)) + decay * vector

        grad = _flat(slopes) + decay * here
        if not np.isfinite(grad).all():
            raise TraindoctorError("loss", "has a gradient that is not finite: the parameters are past what can be probed")
        length = float(np.linalg.norm(here)) or 1.0
        if resolution is None:
            resolution = max(RESOLUTION * abs(at(np.zeros_like(here))), _rounding(at, here, parameters))
        limit = stability_limit(_spec(optimizer)) if optimizer is not None else 2.0
        rate = None if optimizer is None else _rate(parameters, optimizer)
        return where(at, grad, hvp, rate=rate, limit=limit, reach=length, resolution=resolution, k=k)


def _flat(tensors: Sequence[Tensor]) -> FloatArray:
    """Return all tensors as one vector, (n,) float64."""
    parts = [t.detach().to("cpu", torch.float64).numpy().ravel() for t in tensors]
    return np.concatenate(parts)


def _write(parameters: Sequence[Tensor], vector: FloatArray) -> None:
    """Set the parameters, behind the back of a graph that holds them: it is used again when they have their values back."""
    for p, part in zip(parameters, np.split(vector, np.cumsum([p.numel() for p in parameters])[:-1]), strict=True):
        p.data.copy_(torch.from_numpy(part).view_as(p))


def _rounding(at: Callable[[FloatArray], float], here: FloatArray, parameters: Sequence[Tensor]) -> float:
    """Return how much the loss changes when every parameter moves by one unit in its last place, the larger of two draws."""
    last_place = np.repeat([torch.finfo(p.dtype).eps for p in parameters], [p.numel() for p in parameters]) * np.abs(here)
    draws = np.random.default_rng(0).choice([-1.0, 1.0], size=(2, here.size))
    base = at(np.zeros_like(here))
    return max(abs(at(draw * last_place) - base) for draw in draws)


def _per_parameter(
    parameters: Sequence[Tensor], optimizer: Optimizer, of: Callable[[Mapping[str, Any], Tensor], Any]
) -> FloatArray:
    """Return `of` (group, parameter) for every number of the parameters, (n,); 0 for those that the optimizer does not train."""
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    zeros = [torch.zeros_like(p) for p in parameters]
    return _flat(
        [zero.double() + of(group_of[id(p)], p) if id(p) in group_of else zero for p, zero in zip(parameters, zeros, strict=True)]
    )


def _coupled_decay(parameters: Sequence[Tensor], optimizer: Optimizer | None) -> FloatArray:
    """Return the weight decay that enters the gradient, and so belongs to the loss as 1/2 decay w^2; AdamW's does not."""
    if optimizer is None or isinstance(optimizer, torch.optim.AdamW):
        return np.zeros(sum(p.numel() for p in parameters))
    return _per_parameter(
        parameters, optimizer, lambda group, _: 0.0 if group.get("decoupled_weight_decay") else group.get("weight_decay", 0.0)
    )


def _rate(parameters: Sequence[Tensor], optimizer: Optimizer) -> FloatArray | None:
    """Return what a gradient is multiplied with in a step, (n,): lr for SGD, lr / (sqrt(v_hat) + eps) with a second moment.

    A parameter that no gradient has reached has 0. None for an optimizer of another kind, or one that has taken no step.
    """
    if isinstance(optimizer, torch.optim.SGD):
        return _per_parameter(parameters, optimizer, lambda group, _: float(group["lr"]))
    states = optimizer.state

    def rate(group: Mapping[str, Any], p: Tensor) -> Any:
        root = _root_v_hat(group, states.get(p, {}))
        return 0.0 if root is None else float(group["lr"]) / (root + group.get("eps", 0.0))

    found = _per_parameter(parameters, optimizer, rate)
    return found if found.any() else None


def _spec(optimizer: Optimizer) -> OptimizerSpec:
    """Return what the stability limit depends on, of the first group."""
    group, name = optimizer.param_groups[0], type(optimizer).__name__.lower()
    if "betas" in group:
        return OptimizerSpec(name if name in ADAM_FAMILY else "adam", beta1=float(group["betas"][0]))
    return OptimizerSpec(
        name,
        momentum=float(group.get("momentum", 0.0)),
        nesterov=bool(group.get("nesterov", False)),
        dampening=float(group.get("dampening", 0.0)),
    )
