"""Which tag is which quantity, and which series speaks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from traindoctor.model import Series
from traindoctor.readers.tags import choose_primary, quantity_of, side_quantity_of, with_quantities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPELLINGS = {
    "loss": "loss train_loss train/loss epoch_loss Loss train_loss_step train_loss_epoch total_loss Training_Loss loss/train "
    "loss_metrics/global_avg_loss loss/total training/loss TrainLoss train.loss train-loss",
    "val_loss": "val_loss val/loss eval_loss valid_loss validation/loss Loss_val test_loss Loss/test dev_loss "
    "validation/epoch_loss",
    "learning_rate": "lr learning_rate train/learning_rate learning-rate lr/pg0 x/lr0 train_lr info/learner/cur_lr lr-AdamW/pg1 "
    "lr-Adam lr-SGD/pg1 LearningRate optim/lr",
    "grad_norm": "grad_norm train/grad_norm grad-norm grad_gnorm gnorm grad_2.0_norm_total grad_norm_total global_grad_norm "
    "gradient_norm GradNorm grads/global_norm grad_norm_before_clip norm",
    "weight_norm": "weight_norm param_norm weights_norm train/weight_norm params-norm",
    "update_norm": "update_norm train/update_norm",
    "accuracy": "accuracy acc train/accuracy train_acc",
    "val_accuracy": "val_accuracy val/acc validation/accuracy test/accuracy epoch_val_accuracy",
    "loss_scale": "loss_scale loss-scale loss_scaler train/loss_scale",
    "epoch": "epoch train/epoch",
    "loss_term": "loss/orientation loss/position position_loss train/box_loss max_margin_loss",
    "val_loss_term": "val/box_loss loss/val_position test/aux_loss",
    "grad_norm_layer": "grad_norm/layer1.weight grad_2.0_norm/fc.weight layer3/grad_norm gradients/fc1/norm",
    "weight_norm_layer": "weight_norm/layer1.weight layer3/weight_norm",
    "": "config/lr config/grad_norm_clipping perplexity val/ppl time train/loss_time layer_norm step lr_decay grad_norm_clipped "
    "best_loss w1 mfu iteration-time reward num_examples score grad_norm_std "
    "grad_norm_clip / _ loss_ratio max_loss min_loss train/loss_std val/loss_max median_loss",
}

SIDE_SPELLINGS = {
    "step_time": "step_time iter_time batch_time time_per_step iteration-time time/step train/step_time step_time_ms",
    "data_time": "data_time time/data dataload_time train/data_time data_time_s data_loading_time",
    "reward": "reward train/reward rollout/ep_rew_mean charts/episodic_return mean_reward episode_return",
    "entropy": "entropy train/entropy policy/entropy",
    "batch_size": "batch_size train/batch_size batch-size",
    "log_z": "log_z train/log_z logsumexp logits/logsumexp",
    "update_ratio": "update_ratio ud_ratio update_to_weight",
    "update_ratio_layer": "update_ratio/fc1 train/update_ratio/2.weight update_to_weight/fc1 ud/fc1 fc1/update_ratio",
    "update_norm_layer": "update_norm/fc1 updates/norm/embeddings.weight l2_norm/update/fc1.weight",
    "zero_share": "dead_relu_fraction zero_fraction activations/zero_share",
    "zero_share_layer": "zero_fraction/relu1 dead/relu1 train/dead_relu/1 activations/1/zero_share sparsity/relu1",
    "activation_std_layer": "activations/fc1/std act_std/fc1",
    "activation_mean_layer": "activations/fc1/mean",
    "attention_logit": "max_attn_logit attn/max_logit attention_logits/max",
    "attention_logit_layer": "max_attn_logit/layer_0 layer_0/max_attn_logit layers.0/attention/max_logit",
    "grad_norm_layer": "gradients/fc1.weight gradients/0.weight fc1.weight.grad grad/fc1.weight grads/fc1 gradients/fc1/l2 "
    "l2_norm/grad/blocks.0.proj.weight debug/grad_norm/h.0.attn.weight layer_grad_l2_norm/fc1.weight",
    "weight_norm_layer": "weights/fc1.weight params/0.bias weights/rnn.weight_hh_l0",
    "": "time time_step timestep time_elapsed epoch_time samples_per_sec val/step_time val/reward reward_std rewards/accuracies "
    "config/batch_size val/batch_size max_logit attention_entropy dead/agents sparsity num_zeros grad_zero_fraction/fc1 "
    "l2_norm/grad/global l2_norm/moment/fc1.weight "
    "weights/box weights/fc1 fc1.weight gradients/max gradients/fc1/mean gate/zeros weights/decay.weight utd_ratio / _ "
    + "gradients/fc1"
    * 50,
}


@pytest.mark.parametrize(("tag", "quantity"), [(tag, q) for q, tags in SIDE_SPELLINGS.items() for tag in tags.split()])
def test_side_spellings(tag: str, quantity: str) -> None:
    assert quantity_of(tag) == ""
    assert side_quantity_of(tag) == quantity


@pytest.mark.parametrize(("tag", "quantity"), [(tag, q) for q, tags in SPELLINGS.items() for tag in tags.split()])
def test_spellings(tag: str, quantity: str) -> None:
    assert quantity_of(tag, {}) == quantity


def test_tags_with_blanks() -> None:
    assert quantity_of("lm loss", {}) == "loss"
    assert quantity_of("lm loss vs samples", {}) == ""
    assert quantity_of("", {}) == ""


def test_aliases_win() -> None:
    assert quantity_of("my/own/name", {"loss": ("my/own/name",)}) == "loss"
    assert quantity_of("lr", {"loss": ("lr",)}) == "loss"


def series(tag: str, values: list[float]) -> Series:
    n = len(values)
    return Series("", tag, np.arange(n), np.array(values), np.full(n, np.nan), "f")


def primary(*given: Series, aliases: Mapping[str, Sequence[str]] | None = None) -> dict[str, str]:
    return {q: s.tag for q, s in choose_primary(with_quantities(given, aliases), aliases).items()}


def test_a_loss_per_step_speaks_before_a_mean_over_an_epoch() -> None:
    assert primary(series("train_loss_epoch", [1.0] * 9), series("train_loss_step", [1.0] * 5)) == {"loss": "train_loss_step"}


def test_more_points_speak_first_then_the_usual_spelling() -> None:
    assert primary(series("train/loss", [1.0] * 5), series("loss", [1.0] * 50)) == {"loss": "loss"}
    assert primary(series("loss/train", [1.0] * 5), series("loss", [1.0] * 5)) == {"loss": "loss"}


def test_the_loss_that_turns_nan_speaks_when_the_other_hides_it() -> None:
    broken = series("train/loss", [1.0, 0.5] + [float("nan")] * 8)
    assert primary(series("loss", [1.0] * 50), broken) == {"loss": "train/loss"}
    barely = series("train/loss", [1.0] * 8 + [float("nan")])
    assert primary(series("loss", [1.0] * 50), barely) == {"loss": "loss"}
    assert primary(series("loss", [1.0] * 50 + [float("inf")]), broken) == {"loss": "loss"}


def test_an_alias_speaks_whatever_else_is_there() -> None:
    named = {"loss": ("mine",)}
    assert primary(series("loss", [1.0] * 50), series("mine", [1.0]), aliases=named) == {"loss": "mine"}


def test_a_part_of_a_loss_speaks_only_where_no_total_is() -> None:
    total = primary(series("loss/position", [1.0] * 5), series("loss/total", [2.0] * 5))
    assert total == {"loss_term": "loss/position", "loss": "loss/total"}
    assert primary(series("train/box_loss", [1.0] * 5))["loss"] == "train/box_loss"


def test_validation_speaks_before_test() -> None:
    assert primary(series("test_loss", [1.0] * 9), series("val_loss", [1.0] * 5)) == {"val_loss": "val_loss"}


def test_nothing_speaks_for_nothing() -> None:
    assert choose_primary(()) == {}
    assert primary(series("loss", [])) == {}


def test_the_held_out_part_speaks_where_no_total_does() -> None:
    named = with_quantities([series("train/box_loss", [1.0, 0.5]), series("val/box_loss", [1.0]), series("val/cls_loss", [2.0])])
    assert {s.tag: s.quantity for s in named} == {
        "train/box_loss": "loss",
        "val/box_loss": "val_loss",
        "val/cls_loss": "val_loss_term",
    }


@pytest.mark.parametrize(
    "tag", ["loss (rank 3)", "loss (set aside at the restart at step 8)", "lr (set aside, file begun later)"]
)
def test_what_another_process_logged_takes_no_role(tag: str) -> None:
    assert quantity_of(tag, {}) == ""


def test_a_side_quantity_whose_values_cannot_be_one_has_no_role() -> None:
    mean, norm = series("gradients/fc1.weight", [1.0, -1.0]), series("gradients/fc2.weight", [1.0, float("nan"), 0.0])
    assert [s.quantity for s in with_quantities([mean, norm])] == ["", "grad_norm_layer"]


def test_time_is_that_of_a_step_beside_the_time_of_its_data_alone() -> None:
    data, time = series("data_time", [0.1, 0.1, 0.2]), series("time", [0.5, 0.4, 0.6])
    assert primary(data, time) == {"data_time": "data_time", "step_time": "time"}
    assert primary(time) == {}
    assert primary(data, series("time", [1.0, 2.0, 3.0])) == {"data_time": "data_time"}
    assert primary(data, time, series("step_time", [0.5])) == {"data_time": "data_time", "step_time": "step_time"}


def test_an_alias_names_a_side_quantity_too() -> None:
    assert primary(series("r", [1.0]), series("reward", [1.0]), aliases={"reward": ("r",)}) == {"reward": "r"}
