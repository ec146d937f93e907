"""The recurrences against torch.optim: stored numbers, and the torch that is installed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from traindoctor.optim import adagrad, adam, rmsprop, sgd

HERE = Path(__file__).parents[2] / "fixtures" / "optim"
STORED = json.loads((HERE / "torch.json").read_text())
GRAD = np.array(STORED["grad"])


def our_updates(kind, settings, start, grad):
    settings = dict(settings)
    if "betas" in settings:
        settings["beta1"], settings["beta2"] = settings.pop("betas")
    decay = settings.pop("weight_decay", 0.0)
    module = {"SGD": sgd, "Adam": adam, "AdamW": adam, "RMSprop": rmsprop, "Adagrad": adagrad}[kind]
    initial = {"initial": settings.pop("initial_accumulator_value")} if "initial_accumulator_value" in settings else {}
    state = module.start(grad[0].shape, **initial)
    updates = []
    for now in grad:
        update, state = module.step(now, state, **settings)
        if kind == "AdamW":
            update = update + adam.decoupled_decay(np.array(start), lr=settings["lr"], weight_decay=decay)
        updates.append(update)
    assert state.t == len(grad)
    return np.array(updates)


@pytest.mark.parametrize("name", STORED["cases"])
def test_stored_torch_numbers(name):
    case = STORED["cases"][name]
    ours = our_updates(case["class"], case["settings"], case["start"], GRAD)
    assert GRAD.shape[0] == 200
    np.testing.assert_allclose(ours, case["update"], rtol=0.0, atol=1e-12 * case["settings"]["lr"])


@pytest.mark.parametrize("name", STORED["cases"])
def test_installed_torch(name):
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("make_optim_fixtures", HERE / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.CASES.keys() == STORED["cases"].keys()
    kind, settings = make.CASES[name]
    np.testing.assert_array_equal(make.gradients(), GRAD)
    ours = our_updates(kind, settings, make.start_of(settings), GRAD)
    np.testing.assert_allclose(ours, make.torch_updates(name, GRAD), rtol=0.0, atol=1e-12 * settings["lr"])
