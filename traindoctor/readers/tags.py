"""Tags as people log them -> the quantities we know: "train/loss", "Loss" -> `loss`; which series speaks for each.

Source of the spellings: a tally over 3,277 real log files.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from traindoctor.model import Series


def spellings(text: str) -> tuple[str, ...]:
    """Return the words of a list that is written as a text."""
    return tuple(text.split())


#: First parts of tags that hold settings, no series.
SETTINGS = frozenset({"config", "cfg", "hparams", "hparam", "hp", "args"})
TRAIN = frozenset({"train", "training", "tr", "trn"})
VALIDATION = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev", "holdout"})
TEST = frozenset({"test", "testing"})
#: Words around a quantity that do not change what it is.
NOISE = frozenset(
    spellings(
        "step epoch batch iter iteration avg average mean running info learner metrics metric scalars scalar stats log "
        "logs per default policy main charts current cur smoothed raw"
    )
)
#: A tag with one of these words is none of our quantities, whatever else is in it.
OTHER = frozenset(
    spellings(
        "time sec secs seconds ms ppl perplexity memory mem speed throughput duration std var variance clipping clip "
        "clipped ratio threshold min minimum best delta count num weight_decay spike spikes samples tokens"
    )
)
LOSSES = frozenset(
    spellings(
        "loss lm_loss total_loss loss_total loss_global_loss ce_loss loss_ce cross_entropy_loss cross_entropy "
        "crossentropy nll_loss loss_nll nll mse_loss ctc_loss losses_total losses_total_loss losses loss_loss total "
        "objective cost loss_sum sum_loss overall_loss loss_overall loss_all mlm_loss xent bce_loss lm_loss_loss "
        "global_loss loss_global l"
    )
)
EXACT = {
    "loss": ("loss", "train_loss", "train/loss", "training/loss", "loss/train", "train/total_loss", "total_loss", "lm loss"),
    "val_loss": ("val_loss", "val/loss", "validation/loss", "valid_loss", "eval_loss", "eval/loss"),
    "learning_rate": ("lr", "learning_rate", "train/learning_rate", "train/lr"),
    "grad_norm": ("grad_norm", "train/grad_norm", "grad-norm", "gnorm"),
    "weight_norm": ("weight_norm", "param_norm", "params_norm"),
}
ACCURACIES = frozenset(
    spellings(
        "acc accuracy top1 top_1 acc1 acc_1 top1_acc acc_top1 top_1_accuracy accuracy_top1 accuracy_top_1 accuracy_score "
        "categorical_accuracy sparse_categorical_accuracy binary_accuracy multiclass_accuracy multiclassaccuracy "
        "top1_accuracy"
    )
)
SCALES = frozenset(
    spellings("loss_scale loss_scaling grad_scale amp_scale scaler_scale grad_scaler_scale scaler loss_scaler loss_scale_factor")
)

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")
_BEFORE = r"(?:global_|total_|l2_|overall_|model_|all_)*"
_BETWEEN = r"_?(?:l2_|2_0_|2_|global_|total_)*"
_AFTER = r"(?:_(?:total|global|all|l2|2|2_0|overall|unclipped|pre|before|preclip))*"
_GRAD = re.compile(rf"{_BEFORE}(?:grad|grads|gradient|gradients|g){_BETWEEN}g?norm{_AFTER}")
_WEIGHT = re.compile(rf"{_BEFORE}(?:weights?|params?|parameters?|w|theta){_BETWEEN}norms?{_AFTER}")
_UPDATE = re.compile(rf"{_BEFORE}(?:updates?|step|delta){_BETWEEN}norms?{_AFTER}")
#: What the stitching calls the values of another process, and those that a restart made void.
_NOT_THE_RUN = re.compile(r" \((?:rank \d+|set aside[^()]*)\)$")
_RATE = re.compile(r"lr_?\d*|learning_?rates?(?:_\d+)?")


def words(tag: str) -> list[str]:
    """Return the words of a tag in lower case: `train/Loss_step` -> train, loss, step."""
    return [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub("_", tag).lower()) if word]


def quantity_of(tag: str, aliases: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return the quantity that a tag logs, "" for none that is known.

    `aliases`: quantity -> the tags that mean it, as logged; they win.
    """
    for quantity, tags in (aliases or {}).items():
        if tag in tags:
            return quantity
    return _quantity(tag)


@lru_cache(maxsize=65_536)  # a thousand runs log the same tags
def _quantity(tag: str) -> str:
    """Return the quantity that the name of a tag tells of."""
    if _NOT_THE_RUN.search(tag):
        return ""
    parts = words(tag)
    if not parts or parts[0] in SETTINGS or re.search(r"\bvs\b", tag):
        return ""
    if parts in (["epoch"], ["epochs"], ["train", "epoch"], ["current", "epoch"], ["trainer", "epoch"]):
        return "epoch"
    held_out = any(part in VALIDATION or part in TEST for part in parts)
    split = TRAIN | VALIDATION | TEST
    core = [part for part in parts if part not in split and part not in NOISE]
    if not core:  # `step_norm` and the like keep a word of noise; `train/epoch` has none left
        return ""
    whole = "_".join(core)
    if whole in SCALES:
        return "loss_scale"
    if not held_out:
        rate = _rate(parts)
        if rate:
            return rate
        norm = _norm(tag, [part for part in parts if part not in split and part not in NOISE - {"step"}])
        if norm:
            return norm
    if any(part in OTHER for part in core):
        return ""
    if whole in ACCURACIES:
        return "val_accuracy" if held_out else "accuracy"
    if whole == "cost" and {"batch", "reader"} & set(parts):  # PaddlePaddle calls seconds so
        return ""
    if whole in LOSSES - {"total", "l"} or (whole == "total" and "loss" in parts):
        return "val_loss" if held_out else "loss"
    if ("loss" in core or "losses" in core) and not {"scale", "weight", "weights"} & set(core):
        return "val_loss_term" if held_out else "loss_term"
    return ""


def _rate(parts: list[str]) -> str:
    """Return "learning_rate" when the words say so."""
    text = "_".join(parts)
    if any(word in parts for word in ("decay", "mult", "multiplier", "scale", "ratio", "min", "max", "warmup", "factor", "loss")):
        return ""
    if any(_RATE.fullmatch(part) for part in parts) or re.search(r"(?:^|_)learning_rate(?:_|$)", text):
        return "learning_rate"
    return ""


def _norm(tag: str, core: list[str]) -> str:
    """Return the quantity of a tag that logs the norm of gradient, weights or update, of all of the model or of a part."""
    if words(tag) in (["norm"], ["grad"]):  # llm.c, and scripts that print Grad beside Loss
        return "grad_norm"
    core = core[1:] if core and core[0] in ("optim", "optimizer", "opt") else core  # a group of OLMo's and others' tags
    text = "_".join(core)
    if any(word in OTHER and word not in ("clip", "clipped") for word in core) or "norm" not in text:
        return ""
    clipped = any(word in ("clip", "clipped", "after", "post") for word in core)
    before = any(word in ("before", "pre", "unclipped", "preclip") for word in core)
    if clipped and not before:
        return ""
    text = "_".join(word for word in core if word not in ("clip", "clipped"))
    for pattern, quantity in ((_GRAD, "grad_norm"), (_WEIGHT, "weight_norm"), (_UPDATE, "update_norm")):
        if pattern.fullmatch(text) or (text == "grad_gnorm" and quantity == "grad_norm"):
            return quantity
        if quantity == "update_norm":
            break
        if pattern.match(text) or re.search(rf"(?:^|_)(?:{pattern.pattern})$", text):
            return f"{quantity}_layer" if "/" in tag or "." in tag or ":" in tag or len(core) > 2 else ""
        if quantity == "grad_norm" and core[0] in ("grad", "grads", "gradient", "gradients") and core[-1] == "norm":
            return "grad_norm_layer"
        if quantity == "weight_norm" and core[0] in ("weight", "weights", "param", "params", "parameters") and core[-1] == "norm":
            return "weight_norm_layer"
    return ""


def with_quantities(series: Iterable[Series], aliases: Mapping[str, Sequence[str]] | None = None) -> tuple[Series, ...]:
    """Return the series with their quantities set.

    Parts of a loss, where no total was logged: a single one is the loss; of several, the one with the most points is.
    """
    named = [replace(s, quantity=quantity_of(s.tag, aliases)) for s in series]
    for whole, part in (("loss", "loss_term"), ("val_loss", "val_loss_term")):
        terms = [s for s in named if s.quantity == part]
        if terms and not any(s.quantity == whole for s in named):
            chosen = max(terms, key=len)  # the first of those with the most points
            named = [replace(s, quantity=whole) if s is chosen else s for s in named]
    return tuple(named)


def choose_primary(series: Sequence[Series], aliases: Mapping[str, Sequence[str]] | None = None) -> dict[str, Series]:
    """Return for each quantity the one series that speaks for it; quantities in the order in which they were logged.

    An alias first; a value per step before a mean over an epoch; then the one with more points; then the usual
    spelling; then the first one logged. Of two losses the one that turns NaN for good speaks, where the other is finite
    throughout: a mean over what was finite hides it.
    """
    groups: dict[str, list[Series]] = {}
    for one in series:
        if one.quantity and len(one):
            groups.setdefault(one.quantity, []).append(one)
    primary = {}
    for quantity, members in groups.items():
        chosen = min(members, key=lambda s: _rank(s, quantity, aliases or {}))
        if quantity == "loss" and chosen.tag not in (aliases or {}).get("loss", ()) and np.isfinite(chosen.value).all():
            broken = [s for s in members if np.isnan(s.value).mean() > 0.5 and not np.isnan(s.value).all()]
            chosen = broken[0] if broken else chosen
        primary[quantity] = chosen
    return primary


def _rank(series: Series, quantity: str, aliases: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
    tag, named, exact = series.tag, list(aliases.get(quantity, ())), EXACT.get(quantity, ())
    parts = words(tag)
    return (
        named.index(tag) if tag in named else len(named),
        int(any(part in TEST for part in parts)),
        int("epoch" in (parts[0], parts[-1]) and quantity != "epoch"),
        -len(series),
        exact.index(tag.lower()) if tag.lower() in exact else len(exact),
        len(parts) if quantity in ("loss", "grad_norm", "weight_norm") else 0,
    )
