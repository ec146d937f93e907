import numpy as np
import pytest

from traindoctor.model import Evidence, Finding, Fix, OptimizerSpec, Run, Series
from traindoctor.replay.divergence import replay_divergence
from traindoctor.replay.vital_signs import MOST_EVIDENCE, MOST_LAYERS, vital_signs
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


def run_of(optimizer=None, n_parameters=None, **quantities):
    made = tuple(
        Series(q, f"log/{q}", np.arange(len(v)), np.asarray(v, dtype=float), np.full(len(v), np.nan), "log.csv")
        for q, v in quantities.items()
    )
    return Measurements(Run("run", "", "", made, {s.quantity: s for s in made}, optimizer=optimizer), n_parameters)


def finding_of(*sources, **settings):
    evidence = tuple(Evidence(True, "log", f"e{i}", "", 3.0 + i, source=source) for i, source in enumerate(sources))
    fixes = (Fix("a change", settings={f"optimizer.{k}": v for k, v in settings.items()}),) if settings else ()
    return Finding("TD999", "test", "error", 0.9, "", "", evidence=evidence, fixes=fixes)


def sign_of(m, name, finding=None):
    return next(sign for sign in vital_signs(m, None, finding) if sign.name == name)


ADAM = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)


def test_eps_far_below_is_told_in_words_and_near_it_is_a_line():
    m = run_of(ADAM, 100, grad_norm=np.full(200, 1.0))
    sign = sign_of(m, "√v̂ against eps")
    np.testing.assert_allclose(sign.curves[0].value, 0.1)
    assert sign.limit is None
    assert "eps 1e-08 lies 7.0 decades below" in sign.explanation
    near = sign_of(run_of(OptimizerSpec("adam", lr=1e-3, beta2=0.999, eps=0.01), 100, grad_norm=np.ones(200)), "√v̂ against eps")
    assert near.limit == 0.01
    assert not near.limit_is_bound


def test_an_eps_that_every_parameter_meets_is_shown_without_their_number():
    large = OptimizerSpec("adam", lr=1e-3, beta2=0.999, eps=10.0)
    sign = sign_of(run_of(large, grad_norm=np.ones(200)), "√v̂ against eps")
    assert sign.limit == 10.0
    np.testing.assert_allclose(sign.curves[0].value, 1.0)
    assert "√v̂, relative" in [s.name for s in vital_signs(run_of(ADAM, grad_norm=np.ones(200)), None, None)]


def test_the_effective_rate_and_the_new_eps_where_the_scale_is_known():
    m = run_of(ADAM, 100, grad_norm=np.full(200, 1.0))
    fix = finding_of("log.csv: log/grad_norm", eps=0.1)
    rate = sign_of(m, "Effective learning rate", fix)
    assert [c.role for c in rate.curves] == ["observed", "counterfactual"]
    np.testing.assert_allclose(rate.curves[0].value, 1e-2, rtol=1e-6)
    np.testing.assert_allclose(rate.curves[1].value, 5e-3, rtol=1e-6)
    assert [c.name for c in sign_of(m, "√v̂ against eps", fix).curves] == ["√v̂", "eps 0.1"]


def test_updates_over_weights_as_logged_else_what_sgd_makes_of_the_gradient():
    logged = sign_of(run_of(update_norm=[0.1, 0.2], weight_norm=[10.0, 10.0]), "Update-to-weight ratio")
    np.testing.assert_allclose(logged.curves[0].value, [0.01, 0.02])
    assert "as logged" in logged.explanation
    assert logged.limit == 1e-3
    assert not logged.limit_is_bound
    sgd = OptimizerSpec("sgd", lr=0.1, momentum=0.9)
    made = sign_of(run_of(sgd, grad_norm=[1.0, 1.0], weight_norm=[10.0, 10.0]), "Update-to-weight ratio")
    np.testing.assert_allclose(made.curves[0].value, 0.1)
    assert made.explanation.startswith("At most")
    assert "Update-to-weight ratio" not in names(run_of(ADAM, grad_norm=[1.0, 1.0], weight_norm=[10.0, 10.0]))


def test_what_speaks_for_the_finding_comes_first():
    m = run_of(grad_norm=np.ones(9), learning_rate=np.ones(9), val_accuracy=np.ones(9), loss_scale=np.ones(9), loss=np.ones(9))
    sources = (
        "log.csv: log/loss_scale",
        "log.csv: log/learning_rate and log.csv: log/loss",
        "log.csv: log/val_accuracy; at the end",
    )
    signs = vital_signs(m, None, finding_of(*sources))
    assert [sign.name for sign in signs] == ["Validation accuracy", "Learning rate", "Loss scale", "Gradient norm"]
    assert all("Evidence of TD999." in sign.explanation for sign in signs[:3])
    assert "Evidence" not in signs[3].explanation
    assert [sign.name for sign in vital_signs(m, None, None)] == ["Gradient norm", "Learning rate"]


def test_of_many_tags_that_speak_the_heaviest_are_shown():
    made = {f"metric_{i}": np.ones(9) for i in range(MOST_EVIDENCE + 2)}
    signs = vital_signs(run_of(**made), None, finding_of(*(f"log.csv: log/{name}" for name in made)))
    assert [sign.name for sign in signs] == ["Metric 4", "Metric 3", "Metric 2"]


def test_ranks_that_differ_stand_in_one_figure():
    step = np.arange(9)
    both = [
        Series("weight_norm" if not rank else "", tag, step, np.full(9, 1.0 + rank), np.full(9, np.nan), "log.csv")
        for rank, tag in enumerate(("norm", "norm (rank 1)"))
    ]
    run = Run("run", "", "", tuple(both), {"weight_norm": both[0]})
    signs = vital_signs(Measurements(run), None, finding_of("log.csv: norm, rank 1"))
    assert [curve.name for sign in signs for curve in sign.curves].count("norm (rank 1)") == 1


def test_layers_that_all_go_alike_have_no_figure():
    norms = {f"layer{i}": np.exp(-np.arange(300) / 100.0) for i in range(4)}
    assert names(measured(OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999), norms)) == []


@pytest.mark.parametrize(("momentum", "limit"), [(None, 2.0), (0.9, 3.8)])
def test_a_divergence_has_its_margin_from_the_rate_of_growth(momentum, limit):
    spec, product = OptimizerSpec("sgd", lr=0.1, momentum=momentum), 1.2 * limit
    weight, velocity, loss = 1e-3, 0.0, []
    for _ in range(200):
        loss.append(1.0 + 0.5 * (product / 0.1) * weight**2)
        velocity = (momentum or 0.0) * velocity + product / 0.1 * weight
        weight -= 0.1 * velocity
        if loss[-1] > 1e25:
            break
    m = run_of(spec, loss=loss)
    replay = replay_divergence(m)
    assert replay.reproduces
    fix = finding_of("log.csv: log/loss", lr=0.02)
    (sign,) = [sign for sign in vital_signs(m, replay, fix) if sign.name == "Stability margin"]
    assert sign.limit == pytest.approx(limit)
    assert sign.curves[0].value == pytest.approx(product, rel=0.02)
    assert sign.curves[1].value == pytest.approx(product / 5.0, rel=0.02)
