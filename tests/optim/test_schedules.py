"""The learning rates of schedules against the frameworks: stored numbers of all, and the torch that is installed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from traindoctor.optim.schedules import FOLLOWS_A_METRIC, SCHEDULES, ScheduleSpec, learning_rate
from traindoctor.optim.schedules.pytorch import reduce_lr_on_plateau

HERE = Path(__file__).parents[2] / "fixtures" / "schedules"
spec_of_module = importlib.util.spec_from_file_location("make_schedule_fixtures", HERE / "make.py")
make = importlib.util.module_from_spec(spec_of_module)
spec_of_module.loader.exec_module(make)
STORED = {name: json.loads((HERE / f"{name}.json").read_text()) for name in make.CASES}
ALL = [(framework, case) for framework, cases in make.CASES.items() for case in cases]
#: Classes of torch.optim.lr_scheduler that are bases of the others.
BASES = {"LRScheduler"}
COMPOSED = {"SequentialLR", "ChainedScheduler"}


def spec_of(framework, name, lr, settings):
    settings = make.with_factors(dict(settings))
    parts = tuple(spec_of(framework, *part) for part in settings.pop("parts", ()))
    return ScheduleSpec(f"{framework}.{name}", lr, settings, parts)


@pytest.mark.parametrize(("framework", "case"), ALL)
def test_stored_numbers(framework, case):
    stored = STORED[framework]
    ours = learning_rate(spec_of(framework, *make.CASES[framework][case]), np.array(stored["steps"]))
    peak = max(np.max(stored["rates"][case]), 1e-300)
    # relative, but where a rate has fallen to rounding: near zero a cosine in torch's recursion keeps only the peak's digits
    rtol, atol = (0.0, 3e-7) if framework == "keras" else (1e-12, 1e-14)  # Keras computed in float32
    np.testing.assert_allclose(ours, stored["rates"][case], rtol=rtol, atol=atol * peak)


@pytest.mark.parametrize("case", make.TORCH)
def test_installed_torch_at_every_step(case):
    pytest.importorskip("torch")
    name, lr, settings = make.TORCH[case]
    theirs = make.torch_rates(name, lr, settings, 400)
    ours = learning_rate(spec_of("torch", name, lr, settings), np.arange(400))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14 * lr)


@pytest.mark.parametrize("name", make.PLATEAU)
def test_reduce_on_plateau(name):
    ours = reduce_lr_on_plateau(np.array(make.metric()), 0.1, **make.PLATEAU[name])
    np.testing.assert_allclose(ours, STORED["torch"]["plateau"][name], rtol=1e-12)
    assert np.unique(ours).size > 1


def test_every_scheduler_of_torch_is_covered_or_follows_a_metric():
    torch = pytest.importorskip("torch")
    module = torch.optim.lr_scheduler
    public = {name for name in module.__all__ if isinstance(getattr(module, name), type)} | {"SWALR"}
    ours = {name.removeprefix("torch.") for name in (*SCHEDULES, *FOLLOWS_A_METRIC) if name.startswith("torch.")}
    assert public - BASES == ours | COMPOSED


def test_every_case_names_a_schedule_and_every_schedule_has_a_case():
    named = {f"{framework}.{case[0]}" for framework, cases in make.CASES.items() for case in cases.values()}
    assert named - {"torch.SequentialLR", "torch.ChainedScheduler"} == set(SCHEDULES)


def test_a_schedule_called_each_epoch_holds_its_rate():
    spec = ScheduleSpec("torch.StepLR", 1.0, {"step_size": 2, "gamma": 0.5}, every=5)
    np.testing.assert_array_equal(learning_rate(spec, np.arange(22)), np.repeat([1.0, 0.5, 0.25], [10, 10, 2]))


def test_join_schedules_of_optax():
    parts = (
        ScheduleSpec("optax.linear_schedule", 0.0, {"end_value": 1.0, "transition_steps": 10}),
        ScheduleSpec("optax.cosine_decay_schedule", 1.0, {"decay_steps": 90}),
    )
    joined = ScheduleSpec("optax.join_schedules", 0.0, {"boundaries": [10]}, parts)
    peak = ScheduleSpec("optax.warmup_cosine_decay_schedule", 1.0, {"init_value": 0.0, "warmup_steps": 10, "decay_steps": 100})
    steps = np.arange(120)
    np.testing.assert_allclose(learning_rate(joined, steps), learning_rate(peak, steps), rtol=1e-15)


def test_one_cycle_has_no_rate_after_its_end():
    spec = ScheduleSpec("torch.OneCycleLR", 0.1, {"max_lr": 1.0, "total_steps": 10})
    np.testing.assert_array_equal(np.isnan(learning_rate(spec, np.array([9, 10, 11, 50]))), [False, False, True, True])


@pytest.mark.parametrize("name", ["torch.ReduceLROnPlateau", "huggingface.greedy", "torch.NoSuchLR"])
def test_what_is_no_function_of_the_step_says_so(name):
    with pytest.raises(LookupError, match=r"metric|known"):
        learning_rate(ScheduleSpec(name, 0.1), np.arange(3))


def test_no_steps_give_no_rates():
    for name, (kind, lr, settings) in make.TORCH.items():
        assert learning_rate(spec_of("torch", kind, lr, settings), np.zeros(0, dtype=np.int64)).shape == (0,), name
