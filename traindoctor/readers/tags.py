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
#: Words of a figure of a batch's losses that are not their average; those that no loss is called by stand in OTHER.
HIGHEST = frozenset({"max", "maximum", "highest", "median"})
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
#: Beside the quantities of the training itself: figures of layers, of attention, of a policy, and what a step takes. Nothing
#: is recognised as a log by these, and they decide nothing that is read.
SIDE: Mapping[str, frozenset[str]] = {
    "step_time": frozenset(
        spellings(
            "step_time iter_time iteration_time batch_time train_step_time time_per_step time_per_iter time_per_iteration "
            "time_per_batch sec_per_step secs_per_step seconds_per_step s_per_step sec_per_iter seconds_per_iter "
            "seconds_per_iteration s_per_iter elapsed_time_per_iteration step_duration iteration_duration step_seconds"
        )
    ),
    "data_time": frozenset(
        spellings(
            "data_time data_load_time data_loading_time dataload_time dataloading_time dataloader_time data_loader_time "
            "data_wait_time data_fetch_time batch_load_time batch_loading_time batch_generator_time loader_time time_dataload "
            "time_data_loading time_dataloader data_wait get_batch_time"
        )
    ),
    "reward": frozenset(
        spellings(
            "reward rewards return returns ep_rew ep_reward ep_ret ep_return episode_reward episode_rewards episode_return "
            "episode_returns episodic_reward episodic_return total_reward cumulative_reward reward_per_episode return_per_episode"
        )
    ),
    "entropy": frozenset(spellings("entropy policy_entropy action_entropy token_entropy entropy_policy")),
    "batch_size": frozenset(spellings("batch_size global_batch_size total_batch_size effective_batch_size batchsize")),
    "log_z": frozenset(spellings("log_z logz logsumexp log_sum_exp log_partition logits_logsumexp logits_log_z logit_logsumexp")),
    "update_ratio": frozenset(
        spellings(
            "update_ratio ud_ratio update_to_weight update_to_weights update_to_weight_ratio update_weight_ratio update_to_param "
            "update_to_param_ratio update_param_ratio weight_update_ratio param_update_ratio relative_update "
            "relative_update_norm update_over_weight update_over_weight_norm uw_ratio"
        )
    ),
    "zero_share": frozenset(
        spellings(
            "zero_fraction fraction_zero zero_share zero_ratio zero_frac frac_zero fraction_of_zeros activation_zero_fraction "
            "activations_zero_share activations_zero_fraction activation_sparsity activations_sparsity sparsity_activations "
            "relu_sparsity dead_fraction fraction_dead frac_dead dead_frac dead_share dead_ratio dead_relu dead_relus "
            "dead_relu_fraction dead_relu_ratio dead_relu_share fraction_dead_relu dead_neurons_fraction dead_neuron_fraction "
            "dead_neurons_ratio dead_neuron_ratio dead_units_fraction dead_unit_fraction dead_activations dead_pct dead_percent "
            "dead_relu_pct dead_relu_percent zero_pct zero_percent"
        )
    ),
    "attention_logit": frozenset(
        spellings(
            "max_attn_logit max_attn_logits attn_max_logit attn_max_logits attn_logit_max attn_logits_max max_attention_logit "
            "max_attention_logits attention_max_logit attention_max_logits attention_logit_max attention_logits_max "
            "max_qk_logit max_qk_logits qk_max_logit qk_logit_max qk_logits_max"
        )
    ),
}
#: Quantities that are never below zero: where a value is, the tag means something else.
SIZES = frozenset({"grad_norm", "weight_norm", "update_norm", "step_time", "data_time", "batch_size", "zero_share"})
#: Longer tags are none of these.
LONGEST = 300
#: Words around these that do not change what they are.
SIDE_NOISE = frozenset(
    spellings("avg average mean running info metric metrics stats logs charts current cur rollout perf performance timing timers")
)
#: What else names a quantity where the rest of the tag names a layer: `sparsity/relu1`, `activations/fc1/std`, `ud/fc1`.
BY_LAYER: Mapping[str, frozenset[str]] = {
    "update_ratio": SIDE["update_ratio"] | {"ud", "update_ratios", "relative_updates", "log10_update_ratio"},
    "zero_share": SIDE["zero_share"] | {"sparsity", "dead", "zeros", "inactive"},
    "attention_logit": SIDE["attention_logit"],
    "activation_std": frozenset({"activation_std", "activations_std", "act_std", "acts_std"}),
    "activation_mean": frozenset({"activation_mean", "activations_mean", "act_mean", "acts_mean"}),
    "update_norm": frozenset(spellings("update_norm update_norms updates_norm l2_norm_update")),
    "grad_norm": frozenset(
        spellings(
            "grad grads gradient gradients grad_norm grad_norms grad_l2 grads_l2 gradients_l2 grad_l2norm l2_norm_grad norm_grad "
            "layer_grad_l2_norm"
        )
    ),
    "weight_norm": frozenset(
        spellings("weight weights param params parameter parameters weight_norm param_norm weights_l2 params_l2 l2_norm_param")
    ),
}
#: Every quantity that a tag can be given, and that a rule may ask for.
QUANTITIES = frozenset(
    {*EXACT, *SIDE, *(f"{one}_layer" for one in BY_LAYER), "accuracy", "val_accuracy", "update_norm", "loss_scale", "loss_term"}
    | {"val_loss_term", "epoch"}
)
_PARTED_TIME = re.compile(r"(?:^|/)time/(step|iter|iteration|batch|data)$")
#: Words of layers, and of their parameters.
_PARAMETER = re.compile(r"(?:weight|bias|kernel|gamma|beta)(?:_?\w+_l\d+|_0|:0)?$|[._/][wb]$", re.IGNORECASE)
_LAYER = re.compile(
    r"(?:fc|conv|lin|linear|dense|layers?|blocks?|encoder|decoder|attn|attention|mlp|ffn|heads?|embed|embedding|wte|wpe|norm|bn|"
    r"ln|gru|lstm|rnn|hidden|relu|gelu|act|stem|features|classifier|stage|net|body|trunk|proj|resblock|h)(?:\d+)?|\d+"
)
#: Words of figures of a gradient that are no norm, and of weights that are those of a loss.
_NO_NORM = frozenset(
    spellings(
        "mean avg std var variance min max abs median clip clipped clipping scale scaler cos cosine sim similarity snr noise "
        "ratio count num nan inf zero zeros hist histogram sparsity penalty loss losses decay rank entropy lr rate value"
    )
)
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
    if core[0] in HIGHEST or core[-1] in HIGHEST:  # the average beside it speaks; max_margin_loss is a loss
        rest = core[1:] if core[0] in HIGHEST else core[:-1]
        if "_".join(rest) in LOSSES:
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


@lru_cache(maxsize=65_536)
def side_quantity_of(tag: str) -> str:
    """Return what a tag logs beside the training itself, "" for nothing known: `step_time`, `zero_share_layer`, ...

    Held-out values have none. Exact spellings only: what is not clearly one of them has no role.
    """
    parts = words(tag)
    if len(tag) > LONGEST or not parts or parts[0] in SETTINGS or _NOT_THE_RUN.search(tag) or (VALIDATION | TEST) & set(parts):
        return ""
    text = "_".join(_unit_taken_off([part for part in parts if part not in TRAIN and part not in SIDE_NOISE]))
    for quantity, texts in SIDE.items():
        if text in texts:
            return quantity
    parted = _PARTED_TIME.search(tag.lower())  # `time_step` counts the steps of a game
    if parted:
        return "data_time" if parted[1] == "data" else "step_time"
    return _side_of_layer(tag)


def _unit_taken_off(parts: list[str]) -> list[str]:
    return parts[:-1] if len(parts) > 2 and parts[-1] in ("s", "sec", "secs", "seconds", "ms") and parts[-2] != "per" else parts


def _side_of_layer(tag: str) -> str:
    """Return the quantity of a layer that the pieces of a tag name: `gradients/fc1.weight` -> `grad_norm_layer`."""
    pieces = [piece for piece in re.split(r"[/:]", tag) if piece]
    while pieces and set(words(pieces[0])) <= TRAIN | SIDE_NOISE | {"debug"}:
        pieces = pieces[1:]
    spelt = ["_".join(words(piece)) for piece in pieces]
    if len(pieces) == 1:  # fc1.weight.grad
        layer, dot, last = pieces[0].rpartition(".")
        return "grad_norm_layer" if dot and last in ("grad", "gradient") and _PARAMETER.search(layer) else ""
    for first, last in ((1, 0), (2, 0), (0, 1), (0, 2), (1, 1)):  # words before the layer, behind it, on both sides
        if len(pieces) <= first + last:
            continue
        text = "_".join([*spelt[:first], *spelt[len(spelt) - last :]])
        layer = "/".join(pieces[first : len(pieces) - last])
        for quantity, texts in BY_LAYER.items():
            if text in texts:
                return f"{quantity}_layer" if _is_layer(layer, quantity) else ""
    return ""


def _is_layer(text: str, quantity: str) -> bool:
    """Whether a piece of a tag names a layer, as surely as the quantity asks for it."""
    named = words(text)
    if not named or _NO_NORM & set(named):
        return False
    if quantity == "weight_norm":  # `weights/box` weighs a loss
        return bool(_PARAMETER.search(text))
    return bool(_PARAMETER.search(text)) or any(_LAYER.fullmatch(word) for word in named)


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
    named = [replace(s, quantity=quantity_of(s.tag, aliases) or _side_of(s)) for s in series]
    if any(s.quantity == "data_time" for s in named) and not any(s.quantity == "step_time" for s in named):
        named = [replace(s, quantity="step_time") if _takes_a_step(s) else s for s in named]
    for whole, part in (("loss", "loss_term"), ("val_loss", "val_loss_term")):
        terms = [s for s in named if s.quantity == part]
        if terms and not any(s.quantity == whole for s in named):
            chosen = max(terms, key=len)  # the first of those with the most points
            named = [replace(s, quantity=whole) if s is chosen else s for s in named]
    return tuple(named)


def _side_of(series: Series) -> str:
    """Return the side quantity of a series' tag where its values can be that."""
    quantity = side_quantity_of(series.tag)
    if quantity.removesuffix("_layer") not in SIZES or not len(series):
        return quantity
    known = series.value[np.isfinite(series.value)]
    return "" if known.size and float(known.min()) < 0.0 else quantity


def _takes_a_step(series: Series) -> bool:
    """Whether `time` is that of a step, as mmengine and detectron2 log it beside `data_time`: it does not only rise."""
    return (not series.quantity and words(series.tag)[-1:] == ["time"] and set(words(series.tag)) <= TRAIN | {"time"}) and bool(
        np.any(np.diff(series.value) < 0.0)
    )


def choose_primary(series: Sequence[Series], aliases: Mapping[str, Sequence[str]] | None = None) -> dict[str, Series]:
    """Return for each quantity the one series that speaks for it, in the order in which they were logged, the side ones last.

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
    return dict(sorted(primary.items(), key=lambda one: one[0] in SIDE or one[0].endswith("_layer")))


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
