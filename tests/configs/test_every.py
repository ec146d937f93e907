from pathlib import Path

import pytest

from traindoctor.configs.every import differences, is_kept_or_shown, known_settings, other_settings, same
from traindoctor.model import OptimizerSpec, Setting
from traindoctor.rule import run_of


def told(**values):
    return {key.replace("__", "."): Setting(value, "config.yaml:1") for key, value in values.items()}


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        (1e-3, 0.001, True),
        (1, 1.0, True),
        (True, 1, False),
        ("Adam", "adam ", True),
        ((0.9, 0.999), [0.9, 0.999], True),
        ([1, 2], [1, 2, 3], False),
        (float("nan"), float("nan"), True),
        (None, 0, False),
        ("1", 1, False),
    ],
)
def test_values_that_are_one(a, b, alike):
    assert same(a, b) is alike


def test_what_is_not_set_differs_from_no_neutral_value():
    good, bad = told(gradient__accumulation_steps=1, optimizer__weight_decay=0.0), told(schedule__name="Constant")
    assert differences(good, bad, known=True) == ()
    assert [d.key for d in differences(good, told(gradient__accumulation_steps=2), known=True)] == ["gradient.accumulation_steps"]


def test_a_config_that_is_missing_makes_no_difference():
    assert differences({}, told(optimizer__lr=0.1), known=True, comparable=False) == ()


def test_defaults_and_names_of_the_optimizer_are_filled_in():
    spec = OptimizerSpec("adam", lr=0.1, eps=1e-8, origin={"eps": "default of PyTorch"})
    known = known_settings(run_of(spec, loss=[1.0, 0.5]))
    assert known["optimizer.eps"] == Setting(1e-8, "default of PyTorch")
    assert known["optimizer.name"].value == "adam"
    assert "optimizer.dialect" not in known


def test_keys_without_a_word_in_the_vocabulary(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("optimizer:\n  name: adam\n  lr: 0.1\nmodel:\n  width: 32\ndropout: 0.1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    found = other_settings(tmp_path, ["config.yaml", "broken.yaml", "missing.yaml"])
    assert found == {"model.width": Setting(32, "config.yaml:5"), "dropout": Setting(0.1, "config.yaml:6")}


@pytest.mark.parametrize(
    ("key", "shown"),
    [("output_dir", True), ("trainer.log_every", True), ("wandb.project", True), ("model.name", False), ("dropout", False)],
)
def test_what_trains_nothing(key, shown):
    assert is_kept_or_shown(key) is shown
