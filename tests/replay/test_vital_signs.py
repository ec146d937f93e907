import numpy as np

from traindoctor.model import OptimizerSpec, Run, Series
from traindoctor.replay.vital_signs import MOST_LAYERS, vital_signs
from traindoctor.signals.measurements import Measurements


def measured(optimizer, norms, step_unit="step"):
    step = np.arange(len(next(iter(norms.values()))))
    series = tuple(
        Series("grad_norm" if tag == "grad_norm" else "grad_norm_layer", tag, step, np.asarray(value), np.full(step.size, np.nan))
        for tag, value in norms.items()
    )
    primary = {s.quantity: s for s in series if s.quantity == "grad_norm"}
    return Measurements(Run("run", "", "", series, primary, optimizer=optimizer, step_unit=step_unit))


def names(m):
    return [sign.name for sign in vital_signs(m, None, None)]


def test_layers_are_shown_with_the_one_that_fell_furthest_first():
    steps = np.arange(3000)
    norms = {f"layer{i}": np.exp(-steps / (100.0 * i)) for i in range(1, MOST_LAYERS + 3)}
    m = measured(OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999), norms)
    (sign,) = [sign for sign in vital_signs(m, None, None) if sign.name == "√v̂ by layer"]
    assert [curve.name for curve in sign.curves] == [f"layer{i}" for i in range(1, MOST_LAYERS + 1)]
    assert all(curve.value.max() == 1.0 for curve in sign.curves)
    assert "5 of 7 layers" in sign.explanation


def test_every_optimizer_with_a_second_moment_has_its_signs_and_no_other():
    norm = {"grad_norm": np.linspace(2.0, 1.0, 100)}
    for name in ("adam", "adamax", "lamb", "adafactor", "rmsprop"):
        assert "Effective learning rate" in names(measured(OptimizerSpec(name, lr=1e-3), norm))
    for name in ("sgd", "lion", "muon"):
        assert names(measured(OptimizerSpec(name, lr=1e-3), norm)) == ["Gradient norm"]


def test_a_log_of_epochs_has_no_second_moment():
    m = measured(OptimizerSpec("adam", lr=1e-3), {"grad_norm": np.ones(50), "a": np.ones(50)}, step_unit="epoch")
    assert names(m) == ["Gradient norm"]


def test_a_layer_without_a_gradient_is_left_out():
    assert names(measured(OptimizerSpec("adam", lr=1e-3), {"frozen": np.zeros(50)})) == []
