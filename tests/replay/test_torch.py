import random
import subprocess
import sys

import numpy as np
import pytest

from traindoctor.errors import TraindoctorError, UnreadableInputError

torch = pytest.importorskip("torch")

from traindoctor.replay.torch import capture, load_checkpoint, probe, replay, try_candidates, where_stuck  # noqa: E402

F = torch.nn.functional


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def net():
    return torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1)
    )


def batch(i):
    generator = torch.Generator().manual_seed(i)
    x = torch.randn(12, 6, generator=generator)
    return x, x[:, :1] * x[:, 1:2]


def loss_of(model):
    return lambda b: F.mse_loss(model(b[0]), b[1])


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw-amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001, centered=True, momentum=0.5),
}
SCHEDULES = {
    "none": lambda _: None,
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 200),
    "warmup-then-step": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=50), torch.optim.lr_scheduler.StepLR(o, 40)], [50]
    ),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=3),
    "one-cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.05, total_steps=201),
}


def train(model, optimizer, scheduler, start, stop, *, clip=None, accumulation=1, feed=batch):
    """The loop of a user: what the replay has to reproduce."""
    losses, of = [], loss_of(model)
    for step in range(start, stop):
        optimizer.zero_grad()
        total = 0.0
        for j in range(accumulation):
            loss = of(feed(step * accumulation + j))
            (loss / accumulation if accumulation > 1 else loss).backward()
            total += loss.item()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(total / accumulation)
        elif scheduler is not None:
            scheduler.step()
        losses.append(total / accumulation)
    return losses


def equal(one, other):
    """Whether nested state dicts are the same, bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.mark.parametrize(
    ("optimizer", "schedule", "clip", "accumulation"),
    [
        ("sgd", "none", None, 1),
        ("sgd", "one-cycle", 0.5, 1),
        ("adam", "none", None, 1),
        ("adam", "cosine", 0.3, 3),
        ("adamw-amsgrad", "warmup-then-step", None, 1),
        ("adamw-amsgrad", "plateau", None, 2),
        ("rmsprop", "cosine", None, 1),
    ],
)
def test_the_second_half_comes_out_bit_by_bit(tmp_path, optimizer, schedule, clip, accumulation):
    model = net()
    opt = OPTIMIZERS[optimizer](model.parameters())
    scheduler = SCHEDULES[schedule](opt)
    how = {"clip": clip, "accumulation": accumulation}
    train(model, opt, scheduler, 0, 100, **how)
    torch.save(capture(model, opt, scheduler, step=100), tmp_path / "checkpoint.pt")
    losses = train(model, opt, scheduler, 100, 200, **how)
    end = capture(model, opt, scheduler, step=200)

    # the replay starts in a process that knows the checkpoint alone: other weights, another random state
    torch.manual_seed(77)
    fresh = net()
    opt2 = OPTIMIZERS[optimizer](fresh.parameters())
    again = replay(
        fresh, opt2, loss_of(fresh), batch, steps=100, checkpoint=tmp_path / "checkpoint.pt",
        scheduler=SCHEDULES[schedule](opt2), clip_norm=clip, accumulation_steps=accumulation,
    )  # fmt: skip
    assert again.loss.tolist() == losses
    assert equal(again.final["model"], end["model"])
    assert equal(again.final["optimizer"]["state"], end["optimizer"]["state"])
    assert torch.equal(again.final["rng"]["torch"], end["rng"]["torch"])
    assert again.step.tolist() == list(range(100, 200))


def test_a_data_loader_that_shuffles_is_followed():
    data = torch.utils.data.TensorDataset(*(torch.cat(t) for t in zip(*(batch(i) for i in range(5)), strict=True)))
    loader = torch.utils.data.DataLoader(data, batch_size=12, shuffle=True)
    model = net()
    opt = OPTIMIZERS["adam"](model.parameters())
    start = capture(model, opt)
    losses = []
    for _ in range(4):
        for b in loader:
            losses += train(model, opt, None, 0, 1, feed=lambda _, b=b: b)
    assert replay(model, opt, loss_of(model), loader, steps=20, checkpoint=start).loss.tolist() == losses


def test_figures_of_one_step_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(3.0)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    one = replay(model, opt, lambda x: (model(x) ** 2).sum(), [torch.ones(1, 1)], steps=2, clip_norm=1.5)
    assert one.loss == pytest.approx([9.0, 2.85**2])
    assert one.grad_norm == pytest.approx([6.0, 5.7])  # before the clip
    assert one.update_norm == pytest.approx([0.15, 0.15])
    assert one.weight_norm == pytest.approx([2.85, 2.70])
    assert one.lr == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("fails_at", [None, 3])
def test_everything_is_left_as_it_was(fails_at):
    model = net()
    opt = OPTIMIZERS["adam"](model.parameters())
    scheduler = SCHEDULES["cosine"](opt)
    train(model, opt, scheduler, 0, 5)
    grads = [p.grad for p in model.parameters()]
    kept = [g.clone() for g in grads]
    group, state, weight = opt.param_groups[0], opt.state, model[0].weight
    moment = opt.state[weight]["exp_avg"]
    before = capture(model, opt, scheduler)
    calls = iter(range(99))

    def loss(b):
        random.random()
        np.random.rand()  # noqa: NPY002
        if next(calls) == fails_at:
            raise RuntimeError("the data is gone")
        model.eval()
        return loss_of(model)(b)

    if fails_at is None:
        replay(model, opt, loss, batch, steps=10, scheduler=scheduler, settings={"optimizer.lr": 1.0})
    else:
        with pytest.raises(RuntimeError, match="the data is gone"):
            replay(model, opt, loss, batch, steps=10, scheduler=scheduler, settings={"optimizer.amsgrad": True})
    assert equal(before, capture(model, opt, scheduler))
    assert model.training
    assert opt.param_groups[0] is group
    assert opt.state is state
    assert model[0].weight is weight
    assert opt.state[weight]["exp_avg"] is moment
    assert all(p.grad is g and torch.equal(g, k) for p, g, k in zip(model.parameters(), grads, kept, strict=True))


# -- checkpoints of others --------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_model():
    small, wide = torch.nn.Linear(3, 1), torch.nn.Linear(4, 1)
    opt = torch.optim.SGD(small.parameters(), lr=0.1)
    state = capture(wide, torch.optim.SGD(wide.parameters(), lr=0.1))
    with pytest.raises(TraindoctorError, match=r"another model: other shapes: weight \(1, 4\), here \(1, 3\)"):
        replay(small, opt, lambda _: 0, batch, steps=1, checkpoint=state)
    with pytest.raises(TraindoctorError, match=r"lacks bias, weight; has 0.bias, 0.weight.* beside"):
        replay(small, opt, lambda _: 0, batch, steps=1, checkpoint=capture(net(), opt))


def test_a_checkpoint_of_another_optimizer():
    model = net()
    sgd, adam = OPTIMIZERS["sgd"](model.parameters()), OPTIMIZERS["adam"](model.parameters())
    with pytest.raises(TraindoctorError, match="another optimizer: it has the settings momentum, here they are betas"):
        replay(model, adam, loss_of(model), batch, steps=1, checkpoint=capture(model, sgd))
    parts = OPTIMIZERS["adam"]([{"params": [p]} for p in model.parameters()])
    with pytest.raises(TraindoctorError, match=r"groups of \[1, 1, 1, 1, 1, 1\] parameters, here they are of \[6\]"):
        replay(model, adam, loss_of(model), batch, steps=1, checkpoint=capture(model, parts))
    train(model, adam, None, 0, 1)
    state = capture(model, adam)
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(2, 2)
    with pytest.raises(TraindoctorError, match=r"exp_avg of 0.weight is \(2, 2\), here \(16, 6\)"):
        replay(model, adam, loss_of(model), batch, steps=1, checkpoint=state)
    with pytest.raises(TraindoctorError, match="no state of the scheduler"):
        replay(model, adam, loss_of(model), batch, steps=1, checkpoint=capture(model, adam), scheduler=SCHEDULES["cosine"](adam))


def test_other_names_of_the_parts_are_known(tmp_path):
    model = net()
    opt = OPTIMIZERS["adam"](model.parameters())
    torch.save(
        {"state_dict": model.state_dict(), "optimizer_states": [opt.state_dict()], "global_step": 7, "epoch": 1},
        tmp_path / "a.ckpt",
    )
    assert load_checkpoint(tmp_path / "a.ckpt").keys() == {"model", "optimizer", "step"}
    assert replay(model, opt, loss_of(model), batch, steps=2, checkpoint=tmp_path / "a.ckpt").step.tolist() == [7, 8]


class Bomb:
    def __reduce__(self):
        return (print, ("ran code",))


def test_a_pickle_is_not_run(tmp_path, capsys):
    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(UnreadableInputError, match="more than tensors and plain values"):
        load_checkpoint(tmp_path / "bomb.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_no_checkpoint_at_all(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UnreadableInputError):
        load_checkpoint(tmp_path / "a.pt")
    with pytest.raises(UnreadableInputError):
        load_checkpoint(tmp_path / "missing.pt")


def test_a_file_of_weights_alone(tmp_path):
    torch.save(net().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UnreadableInputError, match=r"no state dict of the model; its keys are 0\.bias"):
        load_checkpoint(tmp_path / "weights.pt")


def test_generators_in_another_form():
    model = net()
    opt = OPTIMIZERS["adam"](model.parameters())
    plain = {**capture(model, opt), "rng": torch.get_rng_state()}
    first = replay(model, opt, loss_of(model), batch, steps=2, checkpoint=plain).loss
    torch.rand(3)
    assert np.array_equal(replay(model, opt, loss_of(model), batch, steps=2, checkpoint=plain).loss, first)
    with pytest.raises(UnreadableInputError, match="a form that is not known"):
        replay(model, opt, loss_of(model), batch, steps=2, checkpoint={**plain, "rng": {"cpu": torch.get_rng_state()}})


def test_batches_that_end():
    model = net()
    with pytest.raises(TraindoctorError, match="end after 2 of 5 steps"):
        replay(model, OPTIMIZERS["adam"](model.parameters()), loss_of(model), iter([batch(0), batch(1)]), steps=5)


# -- candidates -------------------------------------------------------------------------------------------------------


def line_fit(lr, **options):
    """A quadratic of largest curvature about 2 (SGD's limit is lr = 1): at lr = 1.2 it diverges, at 0.3 it converges."""
    x = torch.linspace(-1.7, 1.7, 32)[:, None]
    y = 0.5 * x + 0.2
    model = torch.nn.Linear(1, 1)
    opt = torch.optim.SGD(model.parameters(), lr=lr, **options)
    return model, opt, (lambda _: F.mse_loss(model(x), y)), [None]


def test_candidates_are_told_apart():
    told = try_candidates(
        *line_fit(1.2),
        {"a third": {"optimizer.lr": 0.3}, "more": {"optimizer.lr": 1.5}, "clip": {"gradient.clip_norm": 1e3}},
        steps=40,
    )
    assert (told.depth, told.reproduces, told.refusal, told.error) == ("exact", True, "", 0.0)
    assert [t.verdict for t in told.trials] == ["no effect", "repairs", "worse", "no effect"]
    assert told.trials[0].title == "as recorded"
    assert told.segment.stop == 40


def test_a_candidate_is_what_training_with_it_is():
    """From the first step on, each setting is the same as an optimizer built with it."""
    for name, settings, build in (
        (
            "adam",
            {"optimizer.lr": 3e-3, "optimizer.betas": (0.8, 0.99), "optimizer.eps": 1e-2},
            {"lr": 3e-3, "betas": (0.8, 0.99), "eps": 1e-2},
        ),
        ("adam", {"optimizer.amsgrad": True, "optimizer.weight_decay": 0.1}, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
        ("sgd", {"optimizer.momentum": 0.5, "optimizer.nesterov": False}, {"lr": 0.02, "momentum": 0.5, "weight_decay": 1e-3}),
    ):
        model = net()
        start = {k: v.clone() for k, v in model.state_dict().items()}
        opt = OPTIMIZERS[name](model.parameters())
        state = torch.get_rng_state()
        tried = replay(model, opt, loss_of(model), batch, steps=30, settings=settings)
        torch.set_rng_state(state)
        model.load_state_dict(start)
        losses = train(model, type(opt)(model.parameters(), **build), None, 0, 30)
        assert tried.loss == pytest.approx(losses, rel=1e-5)


def test_settings_switched_on_within_a_run():
    model = net()
    for name, settings in (
        ("adam", {"optimizer.amsgrad": True}),
        ("sgd", {"optimizer.momentum": 0.0, "optimizer.nesterov": False}),
        ("rmsprop", {"optimizer.momentum": 0.9}),
    ):
        opt = OPTIMIZERS[name](model.parameters())
        if name == "rmsprop":
            opt = torch.optim.RMSprop(model.parameters(), lr=1e-3)
        train(model, opt, None, 0, 5)
        assert np.isfinite(replay(model, opt, loss_of(model), batch, steps=5, settings=settings).loss).all()


def test_amsgrad_goes_on_from_the_second_moment_of_now():
    model = net()
    opt = OPTIMIZERS["adam"](model.parameters())
    train(model, opt, None, 0, 20)
    v = opt.state[model[0].weight]["exp_avg_sq"].clone()
    after = replay(model, opt, loss_of(model), batch, steps=3, settings={"optimizer.amsgrad": True}).final
    assert (after["optimizer"]["state"][0]["max_exp_avg_sq"] >= v).all()


@pytest.mark.parametrize("schedule", ["none", "cosine", "warmup-then-step"])
def test_lr_and_decay_scale_the_schedule_that_is_there(schedule):
    model = net()
    opt = OPTIMIZERS["sgd"](model.parameters())
    scheduler = SCHEDULES[schedule](opt)
    plain = replay(model, opt, loss_of(model), batch, steps=20, scheduler=scheduler)
    settings = {"optimizer.lr": 0.01, "schedule.name": "linear"}
    tried = replay(model, opt, loss_of(model), batch, steps=20, scheduler=scheduler, settings=settings)
    assert tried.lr == pytest.approx(plain.lr * 0.5 * (1.0 - np.arange(20) / 20))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("optimizer.lr", -1.0, "must be 0 or more"),
        ("optimizer.lr", float("nan"), "must be 0 or more"),
        ("optimizer.lr", "fast", "must be 0 or more"),
        ("optimizer.betas", (0.9, 1.0), "below 1"),
        ("optimizer.betas", 0.9, "two numbers"),
        ("optimizer.amsgrad", 1, "true or false"),
        ("gradient.clip_norm", 0.0, "above 0"),
        ("schedule.name", "magic", "linear or cosine"),
        ("batch_size", 3, "not a setting that a replay changes"),
        ("optimizer.eps", 0.1, "SGD has no eps"),
    ],
)
def test_a_setting_out_of_range_is_told(setting, value, message):
    with pytest.raises(TraindoctorError, match=message):
        try_candidates(*line_fit(0.1), {"bad": {setting: value}}, steps=3)


def test_a_recorded_loss_that_is_missed_refuses():
    args = line_fit(0.3)
    losses = replay(*args, steps=30).loss
    assert try_candidates(*args, {}, steps=30, recorded=losses).reproduces
    told = try_candidates(*args, {"a": {"optimizer.lr": 0.1}}, steps=30, recorded=losses * 1.5)
    assert not told.reproduces
    assert told.trials == ()
    assert "misses the logged loss" in told.refusal
    with pytest.raises(TraindoctorError, match="30 losses are needed"):
        try_candidates(*args, {}, steps=30, recorded=losses[:-1])


def test_training_that_does_not_repeat_itself_refuses():
    model, opt, loss, batches = line_fit(0.3)
    source = random.SystemRandom()
    told = try_candidates(model, opt, lambda b: loss(b) * source.random(), batches, {"a": {}}, steps=5)
    assert "does not repeat itself" in told.refusal
    assert told.trials == ()


# -- the over-trained perceptron --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def perceptron():
    """A perceptron that Adam fits exactly and then goes on with: (step -> model, optimizer, loss, checkpoint), losses."""
    torch.manual_seed(545345)
    x, y = torch.randn(64, 1000), torch.randn(64, 1)
    model = torch.nn.Linear(1000, 1)
    opt = torch.optim.Adam(model.parameters())

    def loss(_=None):
        return ((model(x) - y) ** 2).sum()

    checkpoints, losses = {}, []
    for step in range(2501):
        if step in (1000, 2000, 2200, 2500):
            checkpoints[step] = capture(model, opt, step=step)
        opt.zero_grad()
        value = loss()
        value.backward()
        opt.step()
        losses.append(value.item())
    return model, opt, loss, checkpoints, losses


@pytest.mark.parametrize(("step", "margin", "rms"), [(1000, 16.6, 0.902), (2000, 32.1, 0.468), (2500, 38.2, 0.353)])
def test_margin_and_second_moment_of_the_perceptron(perceptron, step, margin, rms):
    model, opt, loss, checkpoints, _ = perceptron
    model.load_state_dict(checkpoints[step]["model"])
    opt.load_state_dict(checkpoints[step]["optimizer"])
    before = capture(model, opt)
    point = where_stuck(model, loss, opt)
    assert point.margin == pytest.approx(margin, abs=0.06)
    assert point.limit == pytest.approx(38.0)
    assert point.lambda_max == pytest.approx(3028.0, abs=1.0)
    assert probe(opt).total_rms == pytest.approx(rms, abs=6e-4)
    assert point.kind == ("bouncing" if step == 2500 else "slope")
    assert equal(before, capture(model, opt))


def test_what_repairs_the_perceptron_from_before_the_onset(perceptron):
    model, opt, loss, checkpoints, losses = perceptron
    told = try_candidates(
        model, opt, loss, [None],
        {"eps 1e-4": {"optimizer.eps": 1e-4}, "eps 0.1": {"optimizer.eps": 0.1}, "amsgrad": {"optimizer.amsgrad": True}},
        steps=600, checkpoint=checkpoints[2200], history=losses[:2200],
    )  # fmt: skip
    assert told.trials[0].loss.value[:301].tolist() == losses[2200:]
    assert [t.verdict for t in told.trials] == ["no effect", "no effect", "repairs", "repairs"]


# -- where it stands --------------------------------------------------------------------------------------------------


def test_probe_by_group_and_layer():
    model = net()
    opt = torch.optim.AdamW([{"params": model[0].parameters()}, {"params": model[4].parameters(), "betas": (0.9, 0.5)}])
    with pytest.raises(TraindoctorError, match="no second moment"):
        probe(opt)
    train(model, opt, None, 0, 7)
    told = probe(opt, model)
    assert told.names == ("0.weight", "0.bias", "4.weight", "4.bias")
    assert told.group.tolist() == [0, 0, 1, 1]
    v_hat = opt.state[model[4].weight]["exp_avg_sq"].double() / (1.0 - 0.5**7)
    assert told.rms[2] == pytest.approx(float(v_hat.mean().sqrt()))
    assert told.total_rms**2 == pytest.approx(np.sum(told.n * told.rms**2) / told.n.sum())
    assert told.group_rms[0] ** 2 == pytest.approx(np.sum(told.n[:2] * told.rms[:2] ** 2) / told.n[:2].sum())
    with pytest.raises(TraindoctorError, match="SGD holds no second moment"):
        probe(OPTIMIZERS["sgd"](model.parameters()))


def test_second_moment_of_rmsprop_and_adagrad():
    for opt_of in (lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.5), lambda p: torch.optim.Adagrad(p, lr=0.1)):
        model = torch.nn.Linear(1, 1, bias=False)
        opt = opt_of(model.parameters())
        opt.zero_grad()
        (3.0 * model.weight).sum().backward()
        opt.step()
        assert probe(opt).total_rms == pytest.approx(np.sqrt(4.5) if isinstance(opt, torch.optim.RMSprop) else 3.0)


def test_the_hessian_of_torch_is_the_hessian():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    x, y = torch.randn(20, 3).double(), torch.randn(20, 1).double()
    names = [n for n, _ in model.named_parameters()]

    def of(*values):
        return F.mse_loss(torch.func.functional_call(model, dict(zip(names, values, strict=True)), x), y)

    blocks = torch.autograd.functional.hessian(of, tuple(model.parameters()))
    full = torch.cat(
        [torch.cat([b.reshape(p.numel(), -1) for b in row], 1) for p, row in zip(model.parameters(), blocks, strict=True)]
    )
    value = np.linalg.eigvalsh(full.detach().numpy())
    opt = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.3, momentum=0.9, dampening=0.5)
    point = where_stuck(model, lambda: F.mse_loss(model(x), y), opt)
    assert point.lambda_max == pytest.approx(value[-1] + 0.3)
    assert point.lambda_min == pytest.approx(value[0] + 0.3)
    assert point.margin == pytest.approx(0.05 * (value[-1] + 0.3))
    assert point.limit == pytest.approx(7.6)


def test_the_origin_of_a_deep_linear_net():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False))
    for p in model.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(64, 8)
    point = where_stuck(model, lambda: F.mse_loss(model(x), x))
    assert point.kind == "saddle"
    assert point.grad_norm == 0.0
    assert point.lambda_max == pytest.approx(-point.lambda_min, rel=1e-3)
    assert point.escape_decrease > 0.05 * point.loss
    assert point.escape.shape == (128,)


def test_a_trained_classifier_is_at_a_minimum():
    x = torch.randn(100, 3).double()
    y = (x[:, 0] + 0.5 * torch.randn(100) > 0).double()
    model = torch.nn.Linear(3, 1).double()
    opt = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=1e-2)

    def loss():
        return F.binary_cross_entropy_with_logits(model(x)[:, 0], y)

    assert where_stuck(model, loss, opt).kind == "slope"
    for _ in range(500):
        opt.zero_grad()
        loss().backward()
        opt.step()
    assert where_stuck(model, loss, opt).kind == "minimum"


def test_dropout_batch_norm_and_frozen_parameters_are_left_alone():
    model = net()
    model[0].weight.requires_grad_(False)
    x, y = batch(0)
    opt = OPTIMIZERS["adam"](p for p in model.parameters() if p.requires_grad)
    train(model, opt, None, 0, 3)
    before = capture(model, opt)
    kept = [p.grad for p in model.parameters()]
    one, two = (where_stuck(model, lambda: F.mse_loss(model(x), y), opt) for _ in range(2))
    assert one.text == two.text
    assert one.spectrum.top_vectors.shape[0] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert equal(before, capture(model, opt))
    assert all(p.grad is g for p, g in zip(model.parameters(), kept, strict=True))


def test_a_loss_that_cannot_be_probed_is_told():
    model = torch.nn.Linear(2, 1)
    with pytest.raises(TraindoctorError, match="scalar tensor with a graph"):
        where_stuck(model, lambda: 1.0)
    with pytest.raises(TraindoctorError, match="not finite"):
        where_stuck(model, lambda: model.weight.sum() * float("nan"))
    model.requires_grad_(False)
    with pytest.raises(TraindoctorError, match="no parameter"):
        where_stuck(model, lambda: model.weight.sum())


def test_without_torch_the_message_is_the_way_out():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "try:\n    import traindoctor.replay.torch\n"
        "except ImportError as error:\n    from traindoctor.errors import TraindoctorError\n"
        "    assert isinstance(error, TraindoctorError); print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'traindoctor[torch]'" in out
