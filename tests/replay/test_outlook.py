"""Where the optimizer stands: what was asked for, the units of its steps, and when nothing can be said."""

import math

import numpy as np
import pytest

from traindoctor.errors import TraindoctorError
from traindoctor.model import Curve, OptimizerSpec, Replay, Run, Segment, Series
from traindoctor.replay.outlook import outlook
from traindoctor.signals.measurements import Measurements

ADAM = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
STEP = np.arange(400)
FALLING = 10.0 ** (-STEP / 40.0)
NONE = Curve("", "observed", STEP[:0], FALLING[:0])


def series(quantity, value, step=STEP, tag=""):
    return Series(quantity, tag or quantity, step, np.asarray(value, dtype=float), np.zeros(step.size))


def measured(*logged, spec=ADAM, n_parameters=None, **more):
    primary = {s.quantity: s for s in logged if s.quantity != "grad_norm_layer"}
    return Measurements(Run("run", "run", "", tuple(logged), primary, optimizer=spec, **more), n_parameters)


def replay(onset=None):
    return Replay("closed", "", Segment(0, 400, onset), NONE, None, None, math.nan, 0.2, False)


LOSS, NORM = series("loss", FALLING**2), series("grad_norm", FALLING)


def test_the_whole_comes_first_then_the_layers():
    layers = [series("grad_norm_layer", FALLING * f, tag=tag) for f, tag in ((0.6, "head"), (0.8, "body"))]
    told = outlook(measured(LOSS, NORM, *layers), replay())
    assert [loop.name for loop in told.layers] == ["all parameters", "head", "body"]
    assert "number of parameters is not known" in told.forecast.refusal
    assert told.refusal == ""


def test_layers_alone_give_no_forecast():
    m = measured(LOSS, series("grad_norm_layer", FALLING, tag="head"))
    told = outlook(m, replay())
    assert (told.layers[0].name, told.forecast) == ("head", None)
    with pytest.raises(TraindoctorError, match="holds it by layer"):
        outlook(m, replay(), probe=(10, 3.0))


def test_a_run_that_has_failed_gets_no_forecast_but_from_a_probe():
    m = measured(LOSS, NORM, n_parameters=100)
    assert outlook(m, replay()).forecast is not None
    assert outlook(m, replay(onset=200)).forecast is None
    assert outlook(m, replay(onset=200), probe=(50, 3.0)).forecast is not None
    late = np.where(STEP < 250, FALLING**2, FALLING[250] ** 2 * 10.0 ** ((STEP - 250) / 20.0))
    assert outlook(measured(series("loss", late), NORM, n_parameters=100), replay()).forecast is None


@pytest.mark.parametrize(
    ("m", "words"),
    [(measured(LOSS, NORM, spec=None), "no optimizer settings are known"), (measured(LOSS), "no gradient norm was logged")],
)
def test_a_refusal_has_its_way_out(m, words):
    told = outlook(m, replay())
    assert told.refusal == words
    assert told.ways_out
    assert told.layers == ()


def test_an_optimizer_without_a_second_moment():
    m = measured(LOSS, NORM, spec=OptimizerSpec("sgd", lr=0.1, momentum=0.9))
    assert outlook(m, replay()).forecast is None
    assert np.isnan(outlook(m, replay()).layers[0].total).all()
    assert "no second moment" in outlook(m, replay(), probe=(10, 1.0)).forecast.refusal


def test_a_decaying_rate_goes_on_as_logged():
    """Under a cosine that ends with the log nothing is met; under a constant rate it is."""
    cosine = series("learning_rate", 0.5e-3 * (1.0 + np.cos(np.pi * STEP / 399.0)))
    constant = outlook(measured(LOSS, NORM), replay(), probe=(200, 30.0)).forecast
    assert constant.met is not None
    assert outlook(measured(LOSS, NORM, cosine), replay(), probe=(200, 30.0)).forecast.interval is None


def test_epochs_are_turned_into_steps_and_back():
    epoch = np.arange(4)
    by_epoch = [series(q, FALLING[99::100] ** p, epoch) for q, p in (("loss", 2), ("grad_norm", 1))]
    rate = series("learning_rate", np.full(4, 1e-3), epoch)
    m = measured(*by_epoch, rate, step_unit="epoch", restarts=(2,))
    assert "log counts epochs" in outlook(m, replay()).refusal
    told = outlook(m, replay(), steps_per_epoch=100, probe=(3, 30.0), resume="fresh")
    assert told.layers[0].step.tolist() == [99, 199, 299, 399]
    assert told.logged(told.layers[0].step).tolist() == [0, 1, 2, 3]
    assert told.layers[0].taken.tolist() == [100.0, 200.0, 100.0, 200.0]
    assert told.forecast.step[0] == 399
    with pytest.raises(TraindoctorError, match="epoch 4 lies outside") as raised:
        outlook(m, replay(), steps_per_epoch=100, probe=(4, 30.0))
    assert raised.value.ways_out == ("one from 0 to 3",)


def test_what_resumed_processes_found_changes_the_moments():
    m = measured(LOSS, NORM, restarts=(200,))
    kept, fresh = (outlook(m, replay(), resume=kind) for kind in ("kept", "fresh"))
    assert fresh.layers[0].total[0, -1] < 0.1 * kept.layers[0].total[0, -1]
    assert fresh.layers[0].total[0, :200] == pytest.approx(kept.layers[0].total[0, :200])
    assert not fresh.remarks


def test_what_had_no_place_is_a_remark():
    told = outlook(measured(LOSS, NORM), replay(), resume="fresh", steps_per_epoch=10)
    assert len(told.remarks) == 2
    assert told.steps_per_epoch is None
    assert told.notes[:2] == told.remarks
    assert outlook(measured(LOSS), replay(), resume="fresh").remarks
