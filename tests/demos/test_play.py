"""Each demo is diagnosed with its cause from its own log, its fix repairs when trained again, and what it shows is so."""

import dataclasses
import json

import numpy as np
import pytest

from traindoctor.code.loops import training_loops
from traindoctor.code.order import missing_zero_grad
from traindoctor.configs.patch import patch_for
from traindoctor.demos import lr_too_high, no_warmup, over_trained_adam, ravine, saddle
from traindoctor.demos import missing_zero_grad as no_zero_grad
from traindoctor.demos.networks import saturated
from traindoctor.demos.play import DEMOS, apply_patch, config_of, find, play
from traindoctor.demos.stage import to_dict
from traindoctor.demos.training import train
from traindoctor.errors import TraindoctorError
from traindoctor.model import Fix, Setting
from traindoctor.optim.stability import stability_limit
from traindoctor.readers.discover import read_runs
from traindoctor.replay.verdict import course, judge

#: Demo -> the first cause of each of its logs; empty where no rule names the failure.
CAUSES = {
    "over-trained-adam": ["TD101"],
    "saddle": [""],
    "ravine": ["TD201"],
    "missing-zero-grad": ["TD301"],
    "no-warmup": ["TD201"],
    "lr-too-high": ["TD201", "TD201"],
}
QUICKEST = ("saddle", "missing-zero-grad", "no-warmup")


def quick(name):
    """Return the demo without what it shows beside: the runs that are diagnosed, and their repair."""
    return dataclasses.replace(DEMOS[name], beside=(), measure=lambda _runs, _seed: ())


def test_every_demo_is_here():
    assert set(CAUSES) == set(DEMOS)


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_named_and_the_fix_repairs(name, tmp_path):
    performance = play(quick(name), 0, tmp_path)
    assert [run.findings[0].code if run.findings else "" for run in performance.report.runs] == CAUSES[name]
    assert [again.judgement.verdict for again in performance.retrainings] == ["repairs"] * len(performance.retrainings)
    by_report = [again for again in performance.retrainings if again.fix is not None]
    assert len(by_report) == sum(bool(code) for code in CAUSES[name])
    assert by_report or performance.demo.remedies
    assert not performance.why_not


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("name", CAUSES)
def test_it_is_no_accident_of_the_seed(name, seed, tmp_path):
    performance = play(quick(name), seed, tmp_path)
    assert [run.findings[0].code if run.findings else "" for run in performance.report.runs] == CAUSES[name]
    assert {again.judgement.verdict for again in performance.retrainings} == {"repairs"}


@pytest.mark.parametrize("name", QUICKEST)
def test_two_times_are_the_same(name, tmp_path):
    first, second = (json.dumps(to_dict(play(quick(name), 3, tmp_path / place)), allow_nan=False) for place in ("a", "b"))
    assert first == second
    assert str(tmp_path) not in first


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSES)
def test_two_whole_times_are_the_same(name, tmp_path):
    first, second = (json.dumps(to_dict(play(DEMOS[name], 0, tmp_path / place)), allow_nan=False) for place in ("a", "b"))
    assert first == second


# -- the logs -------------------------------------------------------------------------------------------------------------


def test_a_log_is_read_back_as_it_was_trained(tmp_path):
    performance = play(quick("lr-too-high"), 0, tmp_path)
    for training, place in zip(performance.runs, ("lr-too-high-adam-lr-1", "lr-too-high-sgd-lr-0.3"), strict=True):
        (run,) = read_runs(tmp_path / place)
        np.testing.assert_allclose(run.primary["loss"].value, training.loss, rtol=1e-7)
        np.testing.assert_allclose(run.primary["grad_norm"].value, training.grad_norm, rtol=1e-7)
        assert run.optimizer.name == training.recipe.spec.name
        assert run.optimizer.lr == training.recipe.spec.lr
    assert {p.name for p in tmp_path.iterdir()} == {
        "lr-too-high-adam-lr-1",
        "lr-too-high-sgd-lr-0.3",
        "lr-too-high-adam-lr-1-repair-1",
        "lr-too-high-sgd-lr-0.3-repair-2",
    }


def test_what_is_there_is_not_overwritten(tmp_path):
    play(quick("missing-zero-grad"), 0, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(TraindoctorError, match="nothing is overwritten"):
        play(quick("missing-zero-grad"), 1, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_script_is_the_evidence_and_the_patch_clears_it(tmp_path):
    performance = play(quick("missing-zero-grad"), 0, tmp_path)
    broken, patched = (tmp_path / place / "train.py" for place in ("missing-zero-grad", "missing-zero-grad-repair-1"))
    (loop,) = training_loops(broken.read_text(encoding="utf-8"), "train.py")
    assert missing_zero_grad(loop) is not None
    (loop,) = training_loops(patched.read_text(encoding="utf-8"), "train.py")
    assert missing_zero_grad(loop) is None
    assert "zero_grad" not in (tmp_path / "missing-zero-grad" / "config.yaml").read_text(encoding="utf-8")
    assert dict(performance.retrainings[0].settings) == {"gradient.zero_grad": True}


def test_patches():
    text = "a\nb\nc\nd\n"
    assert apply_patch(text, "--- a\n+++ b\n@@ -2,2 +2,3 @@\n b\n+x\n-c\n+y\n") == "a\nb\nx\ny\nd\n"
    assert apply_patch(text, "--- a\n+++ b\n@@ -4,0 +5 @@\n+e\n") == "a\nb\nc\nd\ne\n"
    with pytest.raises(ValueError, match="line 2 is not 'z'"):
        apply_patch(text, "@@ -2 +2 @@\n-z\n+y\n")


def test_a_patch_of_the_config_applies(tmp_path):
    problem = ravine.problem(0)
    text = config_of(ravine.OPTIMIZERS[1], problem, 0)
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    origin = {"optimizer.lr": Setting(0.018, "config.yaml:4")}
    patch = patch_for(tmp_path, origin, {"optimizer.lr": 0.01}, ("config.yaml",))
    assert "lr: 0.01\n" in apply_patch(text, patch)


def test_a_fix_that_cannot_be_trained_says_so(monkeypatch, tmp_path):
    fix = Fix("Use another data set", settings={"data.name": "other"})
    monkeypatch.setattr("traindoctor.demos.play.first_fixes", lambda report: [fix for _ in report.runs])
    performance = play(quick("ravine"), 0, tmp_path)
    assert performance.retrainings == ()
    assert performance.why_not == ("Use another data set: not something that this demo can train",)


def test_the_nearest_name_is_told():
    assert find(" Saddle ") is DEMOS["saddle"]
    with pytest.raises(TraindoctorError) as caught:
        find("sadle")
    assert "saddle" in caught.value.ways_out[0]


# -- what is shown is so --------------------------------------------------------------------------------------------------


def test_the_eps_that_is_enough_is_worked_out_from_the_data():
    x = over_trained_adam.data(0)[0]
    np.testing.assert_allclose(over_trained_adam.steepest(0), np.linalg.eigvalsh(2.0 * x @ x.T)[-1])
    assert stability_limit(over_trained_adam.OVER_TRAINED_ADAM.faulty[0].spec) == pytest.approx(38.0)


@pytest.mark.slow
def test_the_usual_advice():
    demo = over_trained_adam.OVER_TRAINED_ADAM
    runs = train(demo.problem(0), (*demo.faulty, *demo.beside))
    figures = [course(run.step, run.loss) for run in runs]
    verdicts = {run.recipe.title: judge(figures[0], f).verdict for run, f in zip(runs, figures, strict=True)}
    assert verdicts["eps 1e-4"] == "no effect"
    assert verdicts["clip norm at 1"] in ("no effect", "worse")
    assert verdicts["eps 0.1"] == verdicts["amsgrad"] == verdicts["cosine decay to 0"] == "repairs"
    longer = dataclasses.replace(demo.problem(0), n_steps=20_000, every=50)
    (small,) = train(longer, [demo.beside[-1]])
    late = course(small.step, small.loss)
    assert late.onset == pytest.approx(16_000, rel=0.1)
    assert late.tail > 1e4 * late.best


def test_a_saddle_is_told_from_a_minimum():
    demo = saddle.SADDLE
    stuck, carried, adam = train(demo.problem(0), (*demo.faulty, *demo.beside))
    assert stuck.loss[-1] == pytest.approx(1.0, abs=1e-5)
    assert stuck.grad_norm[-1] < 1e-3 * stuck.grad_norm[0]
    assert saddle.stands(stuck).kind == "saddle"
    assert saddle.stands(stuck).lambda_min == pytest.approx(-2.0, abs=1e-4)
    assert saddle.stands(carried).kind == "minimum"
    assert carried.loss[-1] < 1e-12
    assert adam.loss[-1] < 0.5


def test_the_hessian_of_the_walled_saddle():
    gradient = saddle.walled(0).gradient
    for place in ([0.3, 1.7], [1.0, 1.0], [-3.0, 0.2]):
        at = np.array(place)
        rows = [(gradient((at + h)[None], 0)[1] - gradient((at - h)[None], 0)[1])[0] / 2e-5 for h in 1e-5 * np.eye(2)]
        np.testing.assert_allclose(saddle.hessian(at), rows, atol=1e-6)
        slopes = [(gradient((at + h)[None], 0)[0] - gradient((at - h)[None], 0)[0])[0] / 2e-5 for h in 1e-5 * np.eye(2)]
        np.testing.assert_allclose(gradient(at[None], 0)[1][0], slopes, atol=1e-6)


def test_settings_on_the_saddle_in_both_dialects():
    rows = {row[0]: row[1:] for row in saddle.variants(0).rows}
    assert rows == {
        "default": ("(-0.568, -3.786)",) * 2,
        "beta1 0": ("(-0.592, -3.959)",) * 2,
        "beta1 0.1": ("(-0.591, -3.957)",) * 2,
        "beta1 0.5": ("(-0.589, -3.940)",) * 2,
        "beta1 0.999": ("(-0.046, -1.991)",) * 2,
        "beta1 1": ("NaN", "NaN"),
        "beta2 0": ("(0.064, -2.090)",) * 2,
        "beta2 0.9": ("(-0.001, -2.196)",) * 2,
        "beta2 1": ("NaN", "(-3.000, 0.800)"),
        "eps 0": ("(-0.568, -3.786)",) * 2,
        "eps 0.1": ("(-0.595, -3.583)", "(-0.637, -3.270)"),
        "eps 1": ("(-0.813, -1.791)", "(-1.076, -0.403)"),
    }


def test_limits_and_steps_in_the_ravine():
    rows = {row[0]: row for row in ravine.side_by_side(0).rows}
    for name, limit in (("SGD", 0.02), ("SGD, momentum 0.9", 0.038)):
        assert float(rows[name][1]) == pytest.approx(limit)
        assert limit / 1.06 < float(rows[name][2]) < limit
    assert rows["Adagrad"][2].startswith("none to")
    needed = {name: int(row[4].replace(",", "")) for name, row in rows.items()}
    assert needed["SGD, momentum 0.9"] < needed["SGD"] / 10
    assert needed["Adam"] < needed["SGD"] / 10
    fits = {name: int(row[5].split()[0]) for name, row in rows.items()}
    assert fits["Adam"] > 5 * fits["SGD"]


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_said_of_optimizers(seed):
    wild, calm = (ravine.mean_square_adagrad(seed, 0.3, decays=decays) for decays in (False, True))
    low = int(wild[:300].argmin())
    assert low > 100  # long after the descent
    burst = low + int(wild[low:].argmax())
    assert wild[low] < 1e-20 < 1.0 < wild[burst]  # it explodes ...
    assert wild[burst:].min() < 1e-20  # ... and corrects itself
    assert calm[1500:].max() < 1e-20 < 1.0 < wild[1500:].max()  # a decay calms it
    sgd, _, _, rmsprop, _ = ravine.OPTIMIZERS
    (walls,) = train(ravine.problem(seed), [sgd.change("walls", {"optimizer.lr": 0.9999 * ravine.theory(sgd)})])
    assert walls.grad_norm[500] > 0.8 * walls.grad_norm[0]  # stuck, and the gradient is not small
    assert np.all(np.sign(walls.weights[:499, 0]) == -np.sign(walls.weights[1:500, 0]))  # from wall to wall
    constant, decayed = train(
        ravine.problem(seed),
        [rmsprop.change("c", {"optimizer.lr": 0.1}), rmsprop.change("d", {"optimizer.lr": 0.1, "schedule.name": "linear"})],
    )
    assert decayed.loss[-100:].max() < 1e-6 * constant.loss[-100:].max()


def test_adagrad_corrects_itself_at_a_far_rate():
    (run,) = train(ravine.problem(0), [ravine.OPTIMIZERS[2].change("wild", {"optimizer.lr": 10.0})])
    assert run.loss.max() > 10.0 * run.loss[0]
    assert run.loss[-1] < 1e-12


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_period_is_the_one_predicted(seed):
    (table,) = no_zero_grad.periods((), seed)
    for _, predicted, seen in table.rows:
        assert float(seen) == pytest.approx(float(predicted), rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_a_warmup_to_the_same_rate_cures(seed):
    wrecked, warmed, _ = train(no_warmup.problem(seed), (*no_warmup.NO_WARMUP.faulty, *no_warmup.NO_WARMUP.beside))
    assert np.median(wrecked.loss[-60:]) > 0.9 * np.log(no_warmup.N_CLASSES)  # no better than a guess
    assert np.median(warmed.loss[-60:]) < 0.3 * np.log(no_warmup.N_CLASSES)
    assert warmed.lr.max() == pytest.approx(wrecked.lr.max())
    assert wrecked.weight_norm[20] > 2.0 * wrecked.weight_norm[0] > 1.5 * warmed.weight_norm[20]
    x = no_warmup.data(seed)[0]
    (early,) = no_warmup.first_steps((wrecked, warmed), seed)
    after = {row[0]: int(row[3].rstrip("%")) for row in early.rows}
    assert after["no warmup"] > 50 > 20 > after["warmup 100, same peak"]
    assert saturated(x, wrecked.last, no_warmup.WIDTHS) > 0.9 > saturated(x, warmed.last, no_warmup.WIDTHS)


def test_beyond_the_limit_sgd_is_lost_and_adam_bounces():
    adam, sgd = train(lr_too_high.problem(0), lr_too_high.LR_TOO_HIGH.faulty)
    assert not np.isfinite(sgd.loss[-1])
    assert np.isfinite(adam.loss).all()
    assert np.median(adam.grad_norm[-100:]) > 0.1 * adam.grad_norm[0]  # stuck, and the gradient is not small
    (table,) = lr_too_high.ladder((), 0)
    best = min(table.rows, key=lambda row: float(row[1]))
    assert float(best[0]) < 0.1
