"""What is measured over the layers of a run."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from traindoctor.model import QUANTILES, Histogram, Run, Series
from traindoctor.rule import run_of
from traindoctor.signals.layers import END, OVER_LAYERS, START, Layers, layer_of, trend_over
from traindoctor.signals.measurements import Measurements

RNG = np.random.default_rng(0)


def layers(every=1, **quantities):
    return Layers(run_of(every=every, **quantities))


def logged(*series):
    """A run of (tag, quantity, step, value)."""
    made = [
        Series(q, tag, np.asarray(step, dtype=np.int64), np.asarray(v, dtype=np.float64), np.full(len(step), np.nan), "log.csv")
        for tag, q, step, v in series
    ]
    return Run("r", "r", "", tuple(made), {})


def norms(level, n=50, spread=0.1):
    return level * np.exp(spread * RNG.normal(size=n))


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "quantity", "name"),
    [
        ("grad_2.0_norm/layer.weight", "grad_norm", "layer"),
        ("grad_norm/encoder.0.weight", "grad_norm", "encoder.0"),
        ("gradients/fc1.weight", "grad_norm", "fc1"),
        ("train/grad_norm/layers.2", "grad_norm", "layers.2"),
        ("grad_norm/fc_2", "grad_norm", "fc_2"),
        ("layer_0/grad_norm", "grad_norm", "layer_0"),
        ("fc1.bias.grad", "grad_norm", "fc1.bias"),
        ("grad_norm_fc1", "grad_norm", "fc1"),
        ("encoder.layers.0.grad_norm", "grad_norm", "encoder.layers.0"),
        ("grad_norm/_orig_mod.net.0.weight", "grad_norm", "net.0"),
        ("gradients/fc1.weight (norm of the histogram)", "grad_norm", "fc1"),
        ("grad_norm/max", "grad_norm", ""),
        ("grad_norm", "grad_norm", ""),
        ("weights/fc1.weight", "weight_norm", "fc1"),
        ("params/fc1.weight_norm", "weight_norm", "fc1"),
        ("weight_2.0_norm/0.weight", "weight_norm", "0"),
        ("dense/kernel:0", "weight_norm", "dense"),
        ("dense/bias_0", "weight_norm", "dense.bias_0"),
        ("layer_0/weight_norm", "weight_norm", "layer_0"),
        ("grad_norm/norm.weight", "grad_norm", "norm"),
        ("weights/norm.weight", "weight_norm", "norm"),
        ("weights/norm.bias", "weight_norm", "norm.bias"),
        ("grad_norm/blocks.0.norm", "grad_norm", "blocks.0.norm"),
        ("train/grad_norm_fc1", "grad_norm", "fc1"),
        ("grad_norm_layer_1", "grad_norm", "layer_1"),
        ("l2_norm/grad/h.0.proj.weight", "grad_norm", "h.0.proj"),
        ("grad/h.0.proj.weight.norm", "grad_norm", "h.0.proj"),
        ("layer_grad_l2_norm/fc1.weight", "grad_norm", "fc1"),
        ("updates/norm/wte.weight", "update_norm", "wte"),
        ("params/fc1_norm", "weight_norm", "fc1"),
        ("weight_norm/weight", "weight_norm", "weight"),
        ("grad_norm/weight", "grad_norm", "weight"),
        ("sparsity/relu_2", "zero_share", "relu_2"),
        ("train/update_ratio/fc1.weight", "update_ratio", "fc1"),
        ("update_to_weight/fc1", "update_ratio", "fc1"),
        ("activations/relu1/zero_share", "zero_share", "relu1"),
        ("train/dead_relu/1", "zero_share", "1"),
        ("activations/fc1/std", "activation_std", "fc1"),
        ("layers.0/attention/max_logit", "attention_logit", "layers.0"),
    ],
)
def test_the_name_of_a_layer(tag, quantity, name):
    assert layer_of(tag, quantity) == name


@pytest.mark.parametrize(
    ("logged_as", "in_depth"),
    [
        ("conv2 fc1 conv1 fc2 fc10", "conv1 conv2 fc1 fc2 fc10"),
        (
            "bn1 conv1 fc layer1.0.conv1 layer10.0.conv1 layer2.0.conv1",
            "bn1 conv1 layer1.0.conv1 layer2.0.conv1 layer10.0.conv1 fc",
        ),
        ("lm_head h.0.attn h.0.mlp h.10.attn h.2.attn wte", "wte h.0.attn h.0.mlp h.2.attn h.10.attn lm_head"),
        ("b.0.attn.qkv b.0.attn.proj b.0.fc1 b.1.attn.qkv head", "b.0.attn.qkv b.0.attn.proj b.0.fc1 b.1.attn.qkv head"),
        ("first second third", "first second third"),
    ],
)
def test_the_order_of_depth(logged_as, in_depth):
    found = layers(**{f"grad_norm/{name}": [1.0, 2.0] for name in logged_as.split()})
    assert found.names == tuple(in_depth.split())


def test_the_kinds_of_layers():
    names = ("wte", "h.0.ln_1", "h.0.ln_1.bias", "h.0.attn", "h.0.attn.bias", "norm2", "head")
    found = layers(**{f"grad_norm/{name}.weight" if "bias" not in name else f"grad_norm/{name}": [1.0] for name in names})
    assert dict(zip(found.names, found.kinds, strict=True)) == {
        "wte": "embedding",
        "h.0.ln_1": "gain",
        "h.0.ln_1.bias": "gain",
        "h.0.attn": "matrix",
        "h.0.attn.bias": "bias",
        "norm2": "gain",
        "head": "matrix",
    }


# -- alignment --------------------------------------------------------------------------------------------------------


def test_quantities_are_aligned_by_layer_and_step():
    run = logged(
        ("grad_norm/fc1.weight", "grad_norm_layer", [0, 1, 2, 3], [1.0, 2.0, np.nan, np.inf]),
        ("grad_norm/fc2.weight", "grad_norm_layer", [0, 2, 2], [5.0, 6.0, 7.0]),
        ("weights/fc2.weight", "weight_norm_layer", [4, 0], [9.0, 8.0]),
    )
    found = Layers(run)
    assert found.names == ("fc1", "fc2")
    assert found.step.tolist() == [0, 1, 2, 3, 4]
    nan = np.nan
    np.testing.assert_array_equal(found.matrix("grad_norm"), [[1.0, 5.0], [2.0, nan], [nan, 7.0], [nan, nan], [nan, nan]])
    np.testing.assert_array_equal(found.matrix("weight_norm")[:, 1], [8.0, nan, nan, nan, 9.0])
    assert np.isnan(found.matrix("zero_share")).all()
    assert found.rows("grad_norm").shape == (3, 2)
    assert found.has("grad_norm")
    assert not found.has("weight_norm")
    assert found.source("grad_norm") == "log.csv: grad_norm/fc1.weight to grad_norm/fc2.weight"
    assert found.first_not_finite() == (2, ("fc1",))
    assert found.first_not_finite("weight_norm") is None


def test_values_that_cannot_be_what_the_tag_says_are_left_out():
    run = logged(
        ("gradients/fc1.weight", "grad_norm_layer", [0, 1], [1.0, -2.0]),
        ("exp_avg/fc1.weight.norm", "weight_norm_layer", [0, 1], [1.0, 2.0]),
        ("grad_norm/fc1/max", "grad_norm_layer", [0, 1], [1.0, 2.0]),
        ("dead/relu1", "zero_share_layer", [0, 1], [12.0, 15.0]),
        ("dead_percent/relu2", "zero_share_layer", [0, 1], [12.0, 50.0]),
        ("ud/fc1", "update_ratio_layer", [0, 1], [-3.0, -2.0]),
    )
    found = Layers(run)
    assert found.names == ("fc1", "relu2")
    assert found.matrix("zero_share")[:, 1].tolist() == [0.12, 0.5]
    assert found.matrix("update_ratio")[:, 0].tolist() == [1e-3, 1e-2]


def test_a_histogram_without_sums_gives_a_norm_from_its_quantiles():
    value = RNG.normal(size=10_000)
    row = np.quantile(value, QUANTILES)
    step, nan = np.arange(2), np.full(2, np.nan)
    made = [
        Histogram(f"gradients/fc{k}.weight", step, nan, np.full(2, 1e4), nan, nan, np.array([row * k, row * 0.0]), "run.wandb")
        for k in (1, 2)
    ]
    found = Layers(Run("r", "r", "", (), {}, histograms=tuple(made)))
    assert found.names == ("fc1", "fc2")
    exact = np.sqrt((value**2).sum())
    assert found.matrix("grad_norm")[0] == pytest.approx([exact, 2 * exact], rel=0.15)
    assert found.matrix("grad_norm")[1].tolist() == [0.0, 0.0]


# -- figures ----------------------------------------------------------------------------------------------------------


def test_gradients_that_vanish_by_a_factor_a_layer():
    given = {f"grad_norm/net.{k}.weight": norms(0.1 ** (5 - k)) for k in range(6)}
    given |= {f"grad_norm/net.{k}.bias": norms(1.0) for k in range(6)}
    found = layers(**given)
    trend = found.depth_trend()
    assert trend.factor == pytest.approx(0.1, rel=0.1)
    assert trend.span == pytest.approx(1e-5, rel=0.3)
    assert (trend.order, trend.n) == (1.0, 6)
    assert trend.scatter < 0.1
    assert found.grad_ratio(END) == pytest.approx(1e-5, rel=0.5)
    assert found.grad_ratio(END, first=1) == pytest.approx(1e-4, rel=0.5)


def test_matrices_that_are_too_large_show_in_the_biases():
    given = {f"grad_norm/net.{k}.weight": norms(1.0) for k in range(6)}
    given |= {f"grad_norm/net.{k}.bias": norms(10.0 ** (5 - k)) for k in range(6)}
    found = layers(**given)
    assert found.depth_trend().factor == pytest.approx(1.0, abs=0.1)
    assert found.depth_trend(kind="bias").factor == pytest.approx(10.0, rel=0.1)
    scale = found.input_scale()
    assert np.isnan(scale).sum() == 6
    assert trend_over(scale).factor == pytest.approx(0.1, rel=0.1)


def test_a_bias_before_a_normalisation_tells_nothing():
    given = {f"grad_norm/net.{k}.weight": norms(1.0) for k in range(5)}
    given |= {f"grad_norm/net.{k}.bias": norms(1e-7 if k < 2 else 1.0) for k in range(5)}
    found = layers(**given)
    assert found.depth_trend(kind="bias").n == 3
    assert np.isfinite(found.input_scale()).sum() == 3


def test_one_odd_layer_does_not_make_a_trend():
    found = layers(**{f"grad_norm/net.{k}": norms(1e-6 if k == 3 else 1.0) for k in range(8)})
    trend = found.depth_trend()
    assert trend.factor == pytest.approx(1.0, abs=0.1)
    assert layers(**{"grad_norm/a": [1.0], "grad_norm/b": [2.0]}).depth_trend() is None


def test_levels_growth_and_shares():
    grown = np.linspace(1.0, 10.0, 100)
    found = layers(
        **{
            "weight_norm/a": grown,
            "weight_norm/b": grown * 0 + 2.0,
            "grad_norm/a": grown * 0 + 3.0,
            "grad_norm/b": grown * 0 + 4.0,
        }
    )
    assert found.growth("weight_norm") == pytest.approx([9.55 / 1.41, 1.0], rel=0.02)
    assert found.level("weight_norm", START)[1] == 2.0
    assert found.grad_shares() == pytest.approx([9 / 25, 16 / 25])


def test_a_share_of_the_gradient_survives_extremes():
    found = layers(**{"grad_norm/a": [1e300] * 4, "grad_norm/b": [1e300] * 4, "grad_norm/c": [0.0] * 4})
    assert found.grad_shares() == pytest.approx([0.5, 0.5, 0.0])


def test_layers_without_gradient_and_layers_that_stand_still():
    moving = norms(1.0, 30)
    found = layers(
        **{"grad_norm/a": moving, "grad_norm/b": moving * 0, "weight_norm/a": moving, "weight_norm/b": moving * 0 + 0.3}
    )
    assert found.zero_gradient() == ("b",)
    assert found.frozen == ("b",)
    assert found.left_out == ()
    applied = {"grad_norm/a": moving, "grad_norm/b": moving, "weight_norm/a": moving, "weight_norm/b": moving * 0 + 0.3}
    assert layers(**applied).left_out == ("b",)
    assert layers(**{"grad_norm/a": moving * 0, "grad_norm/b": moving * 0}).zero_gradient() == ()
    assert layers(**{"weight_norm/a": moving * 0 + 1, "weight_norm/b": moving * 0 + 2}).frozen == ()
    assert layers(**{"weight_norm/a": moving * 0 + 1, "weight_norm/b": moving * 0 + 2}).still == ("a", "b")
    assert layers(**{"grad_norm/a": [1.0, 2.0], "grad_norm/b": [0.0, 0.0]}).zero_gradient() == ()


def test_a_log_that_rounds_does_not_freeze_a_layer():
    slow = np.round(2.0 + 1e-3 * np.arange(10) / 10, 4)
    assert layers(**{"weight_norm/a": slow, "weight_norm/b": [1.5] * 10}).frozen == ()
    assert layers(**{"weight_norm/a": np.round(2.0 + 0.1 * np.arange(10), 4), "weight_norm/b": [1.5] * 10}).frozen == ("b",)


def test_the_layer_whose_update_stands_out():
    given = {f"update_ratio/fc{k}": norms(1e-3 if k != 2 else 1e-1) for k in range(5)}
    found = layers(**given)
    deviation = found.update_deviation()
    assert deviation[2] == pytest.approx(2.0, abs=0.1)
    assert np.abs(np.delete(deviation, 2)).max() < 0.2
    norm = {f"update_norm/fc{k}": norms(1e-3 if k != 2 else 1e-1) for k in range(5)} | {
        f"weight_norm/fc{k}": norms(1.0) for k in range(5)
    }
    assert layers(**norm).update_deviation()[2] == pytest.approx(2.0, abs=0.1)


def test_steps_that_leave_the_weights_as_they_were():
    held = np.repeat(1.0 + np.arange(5) / 128, 10)
    found = layers(**{"weight_norm/a": held, "weight_norm/b": norms(1.0, 50)})
    assert found.held_share() == pytest.approx([45 / 49, 0.0])
    assert not found.in_bfloat16()
    assert layers(**{"weight_norm/a": held, "weight_norm/b": held * 2}).in_bfloat16()


# -- as measurements --------------------------------------------------------------------------------------------------


def test_what_rules_need():
    m = Measurements(run_of(**{"grad_norm/a": [1.0, 2.0], "grad_norm/b": [1.0, 2.0]}))
    assert m.has("layers")
    assert m.has("loss|layers")
    assert not Measurements(run_of(**{"grad_norm/a": [1.0, 2.0]})).has("layers")
    assert not Measurements(run_of(loss=[1.0])).has("layers")


def test_the_layers_speak_where_no_tag_speaks_for_all():
    m = Measurements(
        run_of(
            **{
                "attention_logit/0": [1.0, 50.0],
                "attention_logit/1": [3.0, 2.0],
                "zero_share/1": [0.0, 1.0],
                "zero_share/2": [0.5, 0.5],
            }
        )
    )
    assert m.has("attention_logit")
    assert m.series("attention_logit").value.tolist() == [3.0, 50.0]
    assert m.series("zero_share").value.tolist() == [0.25, 0.75]
    assert "2 layers" in m.series("zero_share").tag
    assert not m.has("reward")
    with pytest.raises(KeyError):
        m.series("log_z")
    whole = Measurements(run_of(zero_share=[0.1, 0.2], step_time=[1.0, 2.0]))
    assert whole.series("zero_share").value.tolist() == [0.1, 0.2]
    assert whole.has("step_time")


HOSTILE = {
    "nothing": {},
    "one point": {"grad_norm/a": [1.0], "weight_norm/a": [1.0], "grad_norm/b": [2.0]},
    "nan": {"grad_norm/a": [np.nan] * 9, "grad_norm/b": [np.nan] * 9, "weight_norm/a": [np.nan] * 9},
    "inf": {"grad_norm/a": [np.inf] * 9, "grad_norm/b": [1.0] * 9, "grad_norm/c": [1.0] * 9},
    "zeros": {f"{q}/{k}": [0.0] * 9 for q in ("grad_norm", "weight_norm", "update_ratio", "zero_share") for k in range(4)},
    "huge": {f"{q}/{k}": [1e300, 1e-300, 1e308] * 9 for q in ("grad_norm", "weight_norm", "update_norm") for k in range(4)},
    "negative": {f"{q}/{k}": [-1.0] * 9 for q in ("grad_norm", "weight_norm", "update_ratio") for k in range(4)},
    "empty": {"grad_norm/a": [], "grad_norm/b": []},
}


@pytest.mark.parametrize("given", HOSTILE.values(), ids=HOSTILE)
def test_hostile_values_fail_nowhere(given):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = layers(**given)
        for part in (START, END, (0.0, 1.0)):
            for quantity in ("grad_norm", "weight_norm", "update_ratio", "zero_share", "attention_logit"):
                assert found.level(quantity, part).shape == (found.n,)
                assert found.growth(quantity).shape == (found.n,)
                assert found.held_share(quantity).shape == (found.n,)
                found.depth_trend(part, quantity)
                found.in_bfloat16(quantity)
            assert found.input_scale(part).shape == (found.n,)
            assert np.isscalar(found.grad_ratio(part))
            assert found.grad_shares(part).shape == (found.n,)
            for quantity in OVER_LAYERS:
                found.over_layers(quantity)
            assert found.update_deviation(part).shape == (found.n,)
            assert isinstance(found.zero_gradient(part), tuple)
        assert isinstance(found.still, tuple)
        assert isinstance(found.left_out, tuple)
        assert isinstance(found.frozen, tuple)
        found.first_not_finite()
