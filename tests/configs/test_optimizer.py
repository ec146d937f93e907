from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from traindoctor.configs import load_settings, optimizer_spec
from traindoctor.configs.optimizer import TORCH, normal_name
from traindoctor.model import OptimizerSpec, Series, Setting
from traindoctor.optim.optimizer import FORMS, optimizer_of

if TYPE_CHECKING:
    from pathlib import Path


def of(**values: object) -> dict[str, Setting]:
    return {
        (key if key == "framework" else f"optimizer.{key}"): Setting(value, f"config.yaml:{n}")
        for n, (key, value) in enumerate(values.items(), 1)
    }


def rate(tag: str, *values: float, quantity: str = "learning_rate") -> Series:
    n = len(values)
    return Series(quantity, tag, np.arange(n, dtype=np.int64), np.array(values, dtype=np.float64), np.full(n, np.nan))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Adam", "adam"),
        ("torch.optim.Adam", "adam"),
        ("adamw_torch", "adamw"),
        ("adamw_torch_fused", "adamw"),
        ("adamw_hf", "adamw"),
        ("adamw_bnb_8bit", "adamw"),
        ("paged_adamw_8bit", "adamw"),
        ("paged_adamw_32bit", "adamw"),
        ("bitsandbytes.optim.AdamW8bit", "adamw"),
        ("deepspeed.ops.adam.FusedAdam", "adam"),
        ("DeepSpeedCPUAdam", "adam"),
        ("tf.keras.optimizers.RMSprop", "rmsprop"),
        ("momentum", "sgd"),
        ("SGD", "sgd"),
        ("AdamOptimizer", "adam"),
        ("Adam_W", "adamw"),
        ("Lion", "lion"),
        ("adafactor", "adafactor"),
    ],
)
def test_names(written: str, name: str) -> None:
    assert normal_name(written) == name


def test_defaults_of_pytorch_are_filled_in() -> None:
    spec = optimizer_spec(of(name="torch.optim.AdamW", lr=1e-3), [])
    assert spec is not None
    assert (spec.name, spec.lr, spec.beta1, spec.beta2, spec.eps, spec.weight_decay) == ("adamw", 1e-3, 0.9, 0.999, 1e-8, 1e-2)
    assert spec.origin["name"] == "config.yaml:1"
    assert spec.origin["eps"] == "default of PyTorch"
    assert spec.momentum is None


def test_defaults_of_keras() -> None:
    spec = optimizer_spec(of(name="Adam", framework="tensorflow"), [])
    assert spec is not None
    assert (spec.dialect, spec.eps, spec.origin["eps"]) == ("keras", 1e-7, "default of Keras")


def test_the_trainer_of_hugging_face_does_not_decay_weights() -> None:
    spec = optimizer_spec(of(name="adamw_torch"), [])
    assert spec is not None
    assert spec.weight_decay == 0.0


def test_the_rate_comes_from_the_log_when_no_setting_has_it() -> None:
    spec = optimizer_spec(of(name="sgd"), [rate("loss", 3.0, quantity="loss"), rate("lr", 0.0, np.nan, 0.2, 0.1)])
    assert spec is not None
    assert (spec.lr, spec.origin["lr"]) == (0.2, "first value of tag lr")


def test_the_name_comes_from_a_tag() -> None:
    spec = optimizer_spec({}, [rate("lr-AdamW/pg1", 0.1)])
    assert spec is not None
    assert (spec.name, spec.lr, spec.origin["name"]) == ("adamw", 0.1, "tag lr-AdamW/pg1")


def test_the_name_is_inferred_from_what_only_one_family_has() -> None:
    adam, sgd = optimizer_spec(of(lr=0.1, beta1=0.9), []), optimizer_spec(of(lr=0.1, momentum=0.9), [])
    assert adam is not None
    assert sgd is not None
    assert (adam.name, adam.origin["name"]) == ("adam", "inferred from beta1")
    assert (sgd.name, sgd.momentum) == ("sgd", 0.9)
    assert optimizer_spec(of(lr=0.1), [rate("lr", 0.1)]) is None
    assert optimizer_spec({}, []) is None


def test_momentum_as_a_name() -> None:
    spec = optimizer_spec(of(name="momentum", lr=0.1), [])
    assert spec is not None
    assert (spec.name, spec.momentum) == ("sgd", 0.9)


@pytest.mark.parametrize("betas", [[0.8, 0.98], (0.8, 0.98), "(0.8, 0.98)", "[0.8,0.98]", "0.8 0.98"])
def test_betas_of_all_shapes(betas: object) -> None:
    spec = optimizer_spec(of(name="adam", betas=betas), [])
    assert spec is not None
    assert (spec.beta1, spec.beta2) == (0.8, 0.98)


def test_limits_are_kept_and_nonsense_is_not() -> None:
    spec = optimizer_spec(of(name="adam", lr=0, beta1=1.0, eps=0.0), [])
    assert spec is not None
    assert (spec.lr, spec.beta1, spec.eps) == (0.0, 1.0, 0.0)
    spec = optimizer_spec(
        of(name="adam", lr="fast", beta1=-1, eps=[], betas={}, weight_decay=None, amsgrad="maybe", beta2=float("nan")), []
    )
    assert spec is not None
    assert (spec.lr, spec.beta1, spec.beta2, spec.eps, spec.amsgrad) == (None, 0.9, 0.999, 1e-8, False)
    assert optimizer_spec(of(name=7), []) is None


def test_the_rest_of_what_optimizers_have_is_read_and_filled_in() -> None:
    def made(**values: object) -> OptimizerSpec:
        spec = optimizer_spec(of(**values), [])
        assert spec is not None
        return spec

    rprop = made(name="torch.optim.Rprop", etas=[0.4, 1.5])
    assert (rprop.eta_minus, rprop.eta_plus, rprop.step_min, rprop.step_max) == (0.4, 1.5, 1e-6, 50.0)
    assert (rprop.origin["eta_minus"], rprop.origin["step_max"]) == ("config.yaml:2", "default of PyTorch")
    asgd = made(name="ASGD", lambd=0.1)
    assert (asgd.lambd, asgd.alpha) == (0.1, 0.75)
    factor = made(name="adafactor", beta2_decay=-0.5, relative_step=False)
    assert (factor.beta2_decay, factor.eps2, factor.relative_step, factor.eps) == (-0.5, 1e-3, False, None)
    muon = made(name="Muon", adjust_lr="match_rms_adamw", ns_steps=4)
    assert (muon.adjust_lr, muon.ns_steps, muon.nesterov) == ("match_rms_adamw", 4, True)
    assert made(name="sgd", momentum=0.9, dampening=0.5).dampening == 0.5
    assert made(name="rmsprop", centered=True).centered is True
    nadam = made(name="nadam", decoupled=True)
    assert (nadam.decoupled, nadam.momentum_decay) == (True, 4e-3)
    assert made(name="adagrad", framework="keras").initial_accumulator == 0.1
    assert made(name="StableAdamW").beta2 == 0.99
    assert made(name="adam", dampening=0.5).dampening is None


@pytest.mark.parametrize("framework", ["torch", "keras", "jax"])
@pytest.mark.parametrize("name", sorted(TORCH))
def test_what_is_filled_in_can_be_run(name: str, framework: str) -> None:
    """An optimizer of the config is one whose recurrence can be stepped, unless this framework lacks it."""
    spec = optimizer_spec(of(name=name, lr=1e-3, framework=framework), [])
    assert spec is not None
    if name in FORMS[spec.dialect]:
        assert optimizer_of(spec).start((4, 3)).t == 0
    else:
        assert (spec.dialect, name) in {("keras", "radam"), ("keras", "rprop"), ("keras", "asgd"), ("keras", "stableadamw")} | {
            ("optax", one) for one in ("rprop", "asgd", "muon", "stableadamw")
        }


def test_the_settings_stand_in_the_block_of_the_optimizer(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "optimizer:\n  name: NAdam\n  lr: 0.002\n  momentum_decay: 0.01\n  decoupled_weight_decay: true\ndampening: 3\n"
    )
    settings, _ = load_settings([path], tmp_path)
    spec = optimizer_spec(settings, [])
    assert spec is not None
    assert (spec.momentum_decay, spec.decoupled, spec.dampening) == (0.01, True, None)
    assert "optimizer.dampening" not in settings
