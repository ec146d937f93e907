"""Every recurrence, through the one entry, against the framework it is taken from: stored numbers, and the installed torch.

Each case takes 1,000 steps with random gradients and weights, and a learning rate that is halved in the middle. Stored are
every 50th update and what all of them add up to: see fixtures/optim/cases.py and make.py.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.optim.optimizer import FAMILIES, optimizer_of, optimizers_of

HERE = Path(__file__).parents[2] / "fixtures" / "optim"
STORED = json.loads((HERE / "updates.json").read_text())


def module_of(name):
    spec = importlib.util.spec_from_file_location(f"optim_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = module_of("cases")


#: Float64 in and out, float32 within: Optax' decay rate of step t, Keras' mean and matrix norm (on JAX).
FLOAT32_WITHIN = {("optax", "adafactor"), ("keras", "Adafactor"), ("keras", "Muon")}


def bound_of(case):
    """Return the largest allowed distance of an update, in units of lr."""
    if case["package"] == "torch" and case["class"] == "Muon":
        return 0.1  # torch iterates in bfloat16, machine epsilon 2**-7, five times; 0.074 was seen; test_papers.py is exact
    if case["fused"]:
        return 2e-5  # float32, machine epsilon 1.2e-7; SGD's updates are up to 40 lr
    if (case["package"], case["class"]) in FLOAT32_WITHIN:
        return 1e-6
    return 1e-12


def our_updates(case):
    optimizer = optimizer_of(OptimizerSpec(**case["spec"]))
    state, updates = optimizer.start(tuple(case["shape"])), []
    for grad, weight, rate in zip(*cases.inputs(case), cases.rates(case["spec"]["lr"]), strict=True):
        update, state = optimizer.step(grad, weight, state, rate)
        updates.append(update)
    assert state.t == cases.N_STEPS == 1000
    return np.array(updates)


@pytest.mark.parametrize("name", cases.CASES)
def test_stored_numbers(name):
    case, stored = cases.CASES[name], STORED["cases"][name]
    ours, allowed = cases.summary(our_updates(case)), bound_of(case) * case["spec"]["lr"]
    assert len(stored["every_50th"]) == 20
    np.testing.assert_allclose(ours["every_50th"], stored["every_50th"], rtol=0.0, atol=allowed)
    for total in ("sum", "sum_of_sizes"):
        np.testing.assert_allclose(ours[total], stored[total], rtol=0.0, atol=allowed * cases.N_STEPS)


@pytest.mark.parametrize("name", [name for name, case in cases.CASES.items() if case["package"] == "torch"])
def test_installed_torch(name):
    pytest.importorskip("torch")
    case = cases.CASES[name]
    theirs = module_of("make").updates_of(case)
    assert np.abs(our_updates(case) - theirs).max() <= bound_of(case) * case["spec"]["lr"]


def test_every_recurrence_has_a_case():
    assert {case["spec"]["name"] for case in cases.CASES.values()} >= FAMILIES.keys()
    assert STORED["cases"].keys() == cases.CASES.keys()


@pytest.mark.parametrize(
    "name", ["sgd-momentum", "adamw", "nadam", "rmsprop-centered", "adafactor-matrix", "stableadamw", "keras-lamb"]
)
def test_candidates_together_equal_the_case_alone(name):
    """The candidate with the case's settings, between two others."""
    case = cases.CASES[name]
    shape = tuple(case["shape"])
    specs = [OptimizerSpec(**{**case["spec"], "weight_decay": decay}) for decay in (0.0, case["spec"].get("weight_decay"), 0.3)]
    together, state = optimizers_of(specs), None
    state, updates = together.start(shape), []
    for grad, weight, rate in zip(*cases.inputs(case), cases.rates(case["spec"]["lr"]), strict=True):
        update, state = together.step(grad, np.broadcast_to(weight, (3, *shape)), state, np.array([9.0 * rate, rate, 0.1 * rate]))
        updates.append(update[1])
    np.testing.assert_allclose(updates, our_updates(case), rtol=1e-13, atol=1e-15)
