"""What the parts of a checkpoint are called by those who write them: weights, optimizers, schedulers, scaler, step.

The parts are known by their form, not by their key: what has `param_groups` and `state` is an optimizer, whoever saved it. So
plain state dicts, Lightning's, timm's, nanoGPT's and those of one's own loop are read alike. A folder of Transformers or
Accelerate is the sum of its files.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from traindoctor.checkpoints.files import open_file
from traindoctor.checkpoints.state import Change, Checkpoint, Held, OptimizerState, State
from traindoctor.checkpoints.tensors import Tensor, change_of, figures, moments_of, number
from traindoctor.errors import UnreadableInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Counters of optimizer steps by the names that frameworks and loops give them, the surest first.
STEPS = ("global_step", "iter_num", "num_updates", "global_steps", "iteration", "step", "steps", "iter")
#: Files of a folder that make one checkpoint.
WEIGHT_FILES = re.compile(
    r"(?:(?:pytorch_)?model|adapter_model|diffusion_pytorch_model)(?:[-_]\d+(?:-of-\d+)?)?\.(?:safetensors|bin|pth?)"
)
OTHER_FILES = re.compile(r"(?:optimizer|scheduler|scaler)(?:_\d+)?\.(?:pt|bin)")
#: Files of checkpoints whose tensors are cut up among processes.
SHARDED = re.compile(r".*(?:_optim_states\.pt|mp_rank_\d+_model_states\.pt|\.distcp)")
#: Ends of names that are no parameters.
BUFFERS = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "inv_freq",
    "attn.bias",
    "attn.masked_bias",
    "relative_position_index",
)
#: Second moments that are stored in the shape of their parameter.
_SHAPED = ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg")


@dataclass(slots=True)
class _Parts:
    """The parts of a checkpoint, tensors still on disk. `ordered`: whether weights stand in the order of the model."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizers: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    schedulers: list[Mapping[str, object]] = field(default_factory=list)
    scaler: dict[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    epoch: float | None = None
    formats: list[str] = field(default_factory=list)
    ordered: bool = True
    bytes: int = 0


@dataclass(slots=True)
class _Opened:
    """A checkpoint and the tensors of it that another one is compared with."""

    checkpoint: Checkpoint
    weights: Mapping[str, Tensor]
    seconds: Mapping[str, Tensor]


def read_checkpoint(path: Path, shown: str = "") -> Checkpoint:
    """Return what a checkpoint says, of a file or a folder; `shown`: what it is called.

    Raises: UnreadableInputError for what is missing, damaged, of no format that is known, or not safe to read.
    """
    return _open(path, shown or path.name).checkpoint


def read_state(paths: Mapping[str, Path]) -> State:
    """Return what checkpoints say, by their steps, and what changed between the last two. `paths`: by what they are called.

    Raises: as `read_checkpoint`.
    """
    opened = sorted((_open(path, shown) for shown, path in paths.items()), key=lambda one: one.checkpoint.step or 0)
    changes: list[Change] = []
    if len(opened) > 1 and opened[-1].checkpoint.step != opened[-2].checkpoint.step:
        before, after = opened[-2:]
        for name, tensor in after.weights.items():
            if name in before.weights and tensor.is_float:
                pair = (before.seconds[name], after.seconds[name]) if name in before.seconds and name in after.seconds else None
                change = change_of(name, before.weights[name], tensor, pair)
                changes += [] if change is None else [change]
    return State(tuple(one.checkpoint for one in opened), tuple(changes))


def _open(path: Path, shown: str) -> _Opened:
    with np.errstate(all="ignore"):  # what is lost, or was made up, has NaN for its figures
        return _opened(path, shown)


def _opened(path: Path, shown: str) -> _Opened:
    parts = _Parts()
    if path.is_dir():
        _read_folder(path, shown, parts)
    else:
        _read_one(path, shown, parts)
        state = path.with_name("trainer_state.json")
        if state.is_file() and OTHER_FILES.fullmatch(path.name) is None:
            _read_trainer_state(state, parts)
    optimizers = []
    seconds: dict[str, Tensor] = {}
    for place, held in parts.optimizers:
        optimizers.append(_optimizer(place, held, parts, seconds))
    step, source = _step(parts)
    weights = {name: figures(tensor) for name, tensor in parts.weights.items()}
    if not weights and not optimizers and not parts.schedulers and not parts.scaler:
        raise UnreadableInputError(
            shown, "holds neither weights nor the state of an optimizer", "name a checkpoint of the training"
        )
    made = Checkpoint(
        file=shown,
        format=" and ".join(dict.fromkeys(parts.formats)),
        weights=weights,
        optimizers=tuple(optimizers),
        schedulers=tuple(parts.schedulers),
        scaler=parts.scaler,
        steps=parts.steps,
        step=step,
        step_source=source,
        epoch=parts.epoch,
        bytes=parts.bytes,
    )
    return _Opened(made, {name: parts.weights[name] for name in _candidates(parts.weights)}, seconds)


def _step(parts: _Parts) -> tuple[int | None, str]:
    """Return the step of a checkpoint and which counter says so: the file's own, or else the optimizer's."""
    for name in STEPS:
        if name in parts.steps:
            return int(parts.steps[name]), name
    counted = [step for _, held in parts.optimizers for state in _states(held).values() if (step := _count(state)) is not None]
    return (int(max(counted)), "optimizer state") if counted else (None, "")


# -- files and folders ------------------------------------------------------------------------------------------------


def _read_folder(folder: Path, shown: str, parts: _Parts) -> None:
    names = sorted(entry.name for entry in folder.iterdir())
    if any(SHARDED.fullmatch(name) or re.fullmatch(r"global_step\d+", name) for name in names):
        raise UnreadableInputError(
            shown,
            "holds a checkpoint that is cut up among processes (DeepSpeed or FSDP), which is not read",
            "put it together: zero_to_fp32.py of DeepSpeed, or torch.distributed.checkpoint.format_utils",
        )
    weights = [name for name in names if WEIGHT_FILES.fullmatch(name)]
    kept = [name for name in weights if name.endswith(".safetensors")] or weights
    others = [name for name in names if OTHER_FILES.fullmatch(name)]
    if not kept and not others:
        raise UnreadableInputError(
            shown, "is a folder without model or optimizer files", "name the folder of one checkpoint, or a file"
        )
    for name in (*kept, *others):
        _read_one(folder / name, f"{shown}/{name}", parts)
    if "trainer_state.json" in names:
        _read_trainer_state(folder / "trainer_state.json", parts)
    told = re.search(r"(?:checkpoint|step|iter)[-_]?(\d+)", folder.name)
    if told and not parts.steps:
        parts.steps["step"] = float(told[1])


def _read_one(path: Path, shown: str, parts: _Parts) -> None:
    if SHARDED.fullmatch(path.name):
        raise UnreadableInputError(
            shown, "is one part of a checkpoint that is cut up among processes (DeepSpeed or FSDP), which is not read"
        )
    held, kind = open_file(path, shown)
    parts.bytes += path.stat().st_size
    if kind == "safetensors":
        parts.ordered = False  # sorted by format and name, not by place in the model
        parts.weights.update(held)
    else:
        if isinstance(held, dict) and "pytorch-lightning_version" in held:
            kind = "Lightning"
        _find(held, "", parts, 0)
    parts.formats.append(kind)


def _read_trainer_state(file: Path, parts: _Parts) -> None:
    import json

    try:
        if file.stat().st_size > 2**28:
            return
        told = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    parts.formats.append("Transformers")
    if isinstance(told, dict):
        if isinstance(told.get("global_step"), int):
            parts.steps = {"global_step": float(told["global_step"]), **parts.steps}
        if isinstance(told.get("epoch"), int | float):
            parts.epoch = float(told["epoch"])


# -- the parts by their form ------------------------------------------------------------------------------------------


def _find(value: Any, place: str, parts: _Parts, depth: int) -> None:
    """Put the parts that stand in a value where they belong."""
    if depth > 4 or "ema" in re.split(r"[^a-z]+", place.lower()):
        return  # an average of the weights is not what is trained
    if isinstance(value, list):
        for i, item in enumerate(value[:16]):
            _find(item, f"{place}.{i}" if len(value) > 1 else place, parts, depth + 1)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("param_groups"), list) and isinstance(value.get("state"), dict):
        parts.optimizers.append((place, value))
        return
    if "last_epoch" in value:
        parts.schedulers.append(_numbers(value))
        return
    if "scale" in value and ("growth_factor" in value or "_growth_tracker" in value):
        told = _numbers(value)
        parts.scaler.update({k: float(v) for k, v in told.items() if isinstance(v, int | float)})
        return
    tensors = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    if tensors and len(tensors) >= 0.5 * len(value):
        prefix = f"{place}." if parts.weights else ""
        parts.weights.update({f"{prefix}{key}": tensor for key, tensor in tensors.items()})
        return
    for key, item in value.items():
        if isinstance(key, str) and key in (*STEPS, "epoch"):
            count = _value(item)
            if key == "epoch" and count is not None:
                parts.epoch = count
            elif count is not None and count >= 0.0:
                parts.steps.setdefault(key, count)
        elif isinstance(key, str) and re.fullmatch(r"loops|callbacks|hyper_parameters|log_history|rng.*", key) is None:
            _find(item, f"{place}.{key}" if place and depth else key, parts, depth + 1)


def _value(item: Any) -> float | None:
    """Return a number, or that of a tensor of one element."""
    if isinstance(item, Tensor):
        return number(item)
    return float(item) if isinstance(item, int | float) and not isinstance(item, bool) and abs(item) < 2**60 else None


def _numbers(value: Mapping[Any, Any]) -> dict[str, object]:
    """Return the entries of a dict that are numbers, words, or lists of numbers."""
    told: dict[str, object] = {}
    for key, item in value.items():
        if isinstance(item, str | bool):
            told[str(key)] = item
        elif (plain := _value(item)) is not None:
            told[str(key)] = plain
        elif isinstance(item, list) and len(item) <= 64 and item and all(_value(one) is not None for one in item):
            told[str(key)] = [_value(one) for one in item]
        elif isinstance(item, dict) and key == "milestones":
            told[str(key)] = [float(one) for one in item if isinstance(one, int | float)]
    return told


def _states(held: Mapping[str, Any]) -> dict[Any, Mapping[str, Any]]:
    return {key: state for key, state in held["state"].items() if isinstance(state, dict)}


def _count(state: Mapping[str, Any]) -> float | None:
    return _value(state["step"]) if "step" in state else None


# -- which parameter is which -----------------------------------------------------------------------------------------


def _optimizer(place: str, held: Mapping[str, Any], parts: _Parts, seconds: dict[str, Tensor]) -> OptimizerState:
    """Return the state of an optimizer; the second moments of known parameters are added to `seconds`."""
    groups = [group for group in held["param_groups"] if isinstance(group, dict)]
    told = [{k: v for k, v in _numbers(group).items() if k not in ("params", "param_names")} for group in groups]
    states = _states(held)
    members = [[key for key in group.get("params", ()) if isinstance(key, int | str)] for group in groups]
    shapes = {key: shape for key, state in states.items() if (shape := _shape(state)) is not None}
    names = _names(groups, members, shapes, parts)
    made: list[Held] = []
    for number_of_group, keys in enumerate(members):
        for key in keys:
            tensors = {str(slot): t for slot, t in states.get(key, {}).items() if isinstance(t, Tensor) and slot != "step"}
            step = _count(states.get(key, {}))
            name = names.get(key, "")
            weight = parts.weights.get(name)
            moments = moments_of(tensors, weight, told[number_of_group], step)
            second = next((tensors[slot] for slot in ("exp_avg_sq", "square_avg") if slot in tensors), None)
            if name and second is not None:
                seconds[name] = second
            slots = {slot: figures(tensor) for slot, tensor in tensors.items()}
            made.append(Held(key if isinstance(key, int) else len(made), name, number_of_group, slots, step, moments))
    return OptimizerState(place, tuple(told), tuple(made), *_mismatch(shapes, parts))


def _shape(state: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the shape of the parameter that a state belongs to."""
    tensor = next((state[slot] for slot in _SHAPED if isinstance(state.get(slot), Tensor)), None)
    return tensor.shape if tensor is not None and tensor.is_float else None


def _candidates(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of weights that may be parameters: no buffers, and of tied weights the first."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    names = []
    for name, tensor in weights.items():
        where = (tensor.raw.__array_interface__["data"][0], tensor.shape)
        if tensor.is_float and not name.endswith(BUFFERS) and (where not in seen or not math.prod(tensor.shape)):
            seen.add(where)
            names.append(name)
    return names


def _mismatch(
    shapes: Mapping[Any, tuple[int, ...]], parts: _Parts
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Return shapes that more states have than weights do, and of matrices the reverse; none where states are flattened."""
    have = Counter(parts.weights[name].shape for name in parts.weights if parts.weights[name].is_float)
    need = Counter(shapes.values())
    flat = not any(len(shape) > 1 for shape in need) and any(len(shape) > 1 for shape in have)
    if not have or not need or flat:
        return (), ()
    strangers = tuple(sorted(shape for shape in need if need[shape] > have.get(shape, 0)))
    return strangers, tuple(sorted(shape for shape in have if len(shape) > 1 and have[shape] > need.get(shape, 0)))


def _names(
    groups: list[dict[str, Any]], members: list[list[Any]], shapes: Mapping[Any, tuple[int, ...]], parts: _Parts
) -> dict[Any, str]:
    """Return the name of each parameter that the file tells: by names, by order, or by a shape that only one has."""
    written: dict[Any, str] = {}
    for group, keys in zip(groups, members, strict=True):
        called = group.get("param_names")
        if isinstance(called, list) and len(called) == len(keys):
            written |= {key: name for key, name in zip(keys, called, strict=True) if name in parts.weights}
    keys = [key for some in members for key in some]
    if written or not keys:
        return written or {key: key for key in keys if isinstance(key, str) and key in parts.weights}
    if all(isinstance(key, str) for key in keys):
        return {key: key for key in keys if key in parts.weights}
    names = _candidates(parts.weights)
    if parts.ordered:
        for order in (names, _matrices_first(names, parts)):
            if len(order) == len(keys) and _agree(keys, order, shapes, parts):
                return dict(zip(keys, order, strict=True))
        thinned = _subsequence(keys, names, shapes, parts) if len(names) > len(keys) == len(shapes) else None
        if thinned is not None:
            return thinned
    known = Counter(shapes.values())
    have = Counter(parts.weights[name].shape for name in names)
    by_shape = {parts.weights[name].shape: name for name in names}
    return {key: by_shape[shape] for key, shape in shapes.items() if known[shape] == have.get(shape) == 1}


def _matrices_first(names: list[str], parts: _Parts) -> list[str]:
    """Return names as two groups, with and without weight decay, hold them."""
    return [n for n in names if len(parts.weights[n].shape) > 1] + [n for n in names if len(parts.weights[n].shape) <= 1]


def _agree(keys: list[Any], names: list[str], shapes: Mapping[Any, tuple[int, ...]], parts: _Parts) -> bool:
    known = [(shapes[key], parts.weights[name].shape) for key, name in zip(keys, names, strict=True) if key in shapes]
    return bool(known) and all(a == b for a, b in known)


def _subsequence(
    keys: list[Any], names: list[str], shapes: Mapping[Any, tuple[int, ...]], parts: _Parts
) -> dict[Any, str] | None:
    """Return the names of an optimizer that holds some of the weights, in order, where no other choice has the same shapes."""
    rest = iter(names)
    chosen: dict[Any, str] = {}
    skipped: list[str] = []
    for key in keys:
        for name in rest:
            if parts.weights[name].shape == shapes[key]:
                chosen[key] = name
                break
            skipped.append(name)
        else:
            return None
    left = {parts.weights[name].shape for name in itertools.chain(skipped, rest)}
    return None if left & set(shapes.values()) else chosen
