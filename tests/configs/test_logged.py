# ruff: noqa: E501 -- a case of a table is one line
from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.configs import optimizer_spec, settings_from, with_defaults


def read(mapping: dict[str, object]) -> dict[str, object]:
    return {name: one.value for name, one in settings_from(mapping, "W&B config").items()}


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"lr": 0.1, "optimizer": "adam"}, {"optimizer.lr": 0.1, "optimizer.name": "adam"}),
        ({"optimizer": {"name": "adam", "lr": 0.1}}, {"optimizer.lr": 0.1, "optimizer.name": "adam"}),
        ({"optimizer/name": "adam", "optimizer.lr": 0.1}, {"optimizer.lr": 0.1, "optimizer.name": "adam"}),
        ({"lr": "0.001", "betas": "(0.9, 0.98)", "nesterov": "True"}, {"optimizer.lr": 1e-3, "optimizer.beta2": 0.98, "optimizer.nesterov": True}),
        ({"lr": "1e-3", "epochs": "10", "seed": "None"}, {"optimizer.lr": 1e-3, "epochs": 10}),
        ({"optimizer": "{'name': 'sgd', 'lr': 0.5}"}, {"optimizer.name": "sgd", "optimizer.lr": 0.5}),
        ({"lr": {"value": 0.1, "desc": None}}, {"optimizer.lr": 0.1}),
        ({"args": {"lr": 0.1}, "config": {"batch_size": 8}}, {"optimizer.lr": 0.1, "batch_size": 8}),
        ({"lr": "auto", "betas": ["a", "b"], "optimizer": object(), "": 3, ".": 4}, {}),
        ({"lr": 0.1, "lr/decay": 0.5, "lr.x.y": 3}, {"optimizer.lr": 0.1, "schedule.decay": 0.5}),
    ],
)  # fmt: skip
def test_what_logs_hold(mapping: dict[str, object], expected: dict[str, object]) -> None:
    held = read(mapping)
    assert {name: held.get(name) for name in expected} == expected
    assert {name.partition(".")[0] for name in held} <= {"optimizer", "schedule", "epochs", "batch_size", "seed"}
    assert expected or not held


def test_a_printed_optimizer() -> None:
    text = (
        "AdamW (\nParameter Group 0\n    amsgrad: False\n    betas: (0.9, 0.95)\n    eps: 1e-08\n    lr: 0.0003\n    weight_decay: 0.1\n"
        "\nParameter Group 1\n    lr: 0.7\n)"
    )
    held = read({"optimizer": text})
    assert (held["optimizer.name"], held["optimizer.lr"], held["optimizer.beta2"]) == ("AdamW", 3e-4, 0.95)


def test_each_has_the_origin_that_was_given_and_the_dialect_its_defaults() -> None:
    mapping = {
        "output_dir": "x",
        "per_device_train_batch_size": 8,
        "learning_rate": "3e-05",
        "optim": "adamw_torch",
        "eval/loss": 1,
    }
    found = settings_from(mapping, "params of MLflow")
    assert {one.origin for one in found.values()} == {"params of MLflow"}
    assert found["dialect"].value == "Hugging Face TrainingArguments"
    spec = optimizer_spec(found, [])
    assert spec is not None
    assert (spec.lr, spec.origin["lr"]) == (3e-5, "params of MLflow")
    assert (spec.eps, spec.origin["eps"]) == (1e-8, "default of Hugging Face TrainingArguments")
    assert with_defaults(found)["gradient.clip_norm"].origin == "default of Hugging Face TrainingArguments"
    assert with_defaults(with_defaults(found)) == with_defaults(found)


def test_a_hostile_mapping_ends() -> None:
    deep: dict[str, object] = {"lr": 0.1}
    for _ in range(5_000):
        deep = {"a": deep}
    around: dict[str, object] = {}
    around["self"] = around
    wide = {f"k{n}": n for n in range(200_000)}
    began = time.monotonic()
    for mapping in (deep, around, wide, {"x": "(" * 9_999}, {"x": "{" * 20_000}, {"a." * 50_000: 1}, {"x": [[[]]] * 100_000}):
        settings_from(mapping, "here")
    assert time.monotonic() - began < 8.0


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


@given(
    st.dictionaries(
        st.text(max_size=12),
        st.recursive(
            _VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
    )
)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_any_mapping_is_read(mapping: dict[str, object]) -> None:
    for one in settings_from(mapping, "log").values():
        assert one.value is not None
        assert one.origin.startswith("log")
