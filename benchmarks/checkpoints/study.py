"""What checkpoints add: small trainings with a known fault and sound ones, diagnosed from the log with and without them.

    python benchmarks/checkpoints/study.py --out FOLDER [--seeds 4] [--first-seed 0] [--only GLOB] [--json FILE]

Each run logs the loss alone, as most people do, and saves a checkpoint in the middle and one at the end. Needs PyTorch; about
a second a run.
"""

import argparse
import csv
import fnmatch
import json
import sys
from collections import defaultdict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

STEPS = 400


# -- networks and data ------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """Rows of 20 numbers into four classes; a batch norm, so that there are buffers."""

    def __init__(self, width=48):
        super().__init__()
        self.first = nn.Linear(20, width)
        self.norm = nn.BatchNorm1d(width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.norm(self.first(x))))))


class Language(nn.Module):
    """The next of 500 tokens, most of them rare, by a causal transformer layer; embedding and head are tied."""

    def __init__(self, tokens=500, width=32):
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.place = nn.Parameter(torch.randn(16, width) * 0.02)
        self.layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(16))

    def forward(self, x):
        return self.head(
            self.norm(self.layer(self.embed(x) + self.place.to(self.embed.weight.dtype), self.mask.to(self.embed.weight.dtype)))
        )


class Task:
    def __init__(self, kind, seed, dtype=torch.float32, width=48):
        torch.manual_seed(seed)
        self.kind, self.dtype = kind, dtype
        self.model = (Classifier(width) if kind == "rows" else Language()).to(dtype)
        self.made = torch.Generator().manual_seed(seed + 1)
        self.truth = torch.randn(20, 4, generator=self.made)

    def batch(self, size=32):
        if self.kind == "rows":
            x = torch.randn(size, 20, generator=self.made)
            y = (x @ self.truth + 0.5 * torch.randn(size, 4, generator=self.made)).argmax(1)
            return x.to(self.dtype), y
        first = torch.randint(0, 8, (8, 1), generator=self.made)
        steps = torch.randint(1, 3, (8, 16), generator=self.made).cumsum(1)
        x = torch.cat([first, first + steps], 1) % 12
        rare = torch.rand(x.shape, generator=self.made) < 0.02
        return torch.where(rare, torch.randint(12, 500, x.shape, generator=self.made), x)[:, :-1], x[:, 1:]

    def loss(self, batch):
        x, y = batch
        out = self.model(x)
        return F.cross_entropy(out.float().flatten(0, -2), y.flatten())


# -- a training -------------------------------------------------------------------------------------------------------


class Run:
    """One training: `lines` of the log, checkpoints as it saves them, and what a case changes of it."""

    def __init__(self, folder, seed, kind="rows", dtype=torch.float32, **more):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.seed = folder, seed
        self.task = Task(kind, seed, dtype, **more)
        self.model = self.task.model
        self.lines = []
        self.optimizer = self.scheduler = self.scaler = None
        self.extra = {}

    def adam(self, cls=torch.optim.AdamW, **settings):
        self.optimizer = cls(self.model.parameters(), **{"lr": 2e-3, **settings})
        return self

    def save(self, step, epoch=None, model=None, name=None):
        parts = {
            "model": (model or self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "global_step": step,
            **self.extra,
        }
        if self.scheduler is not None:
            parts["scheduler"] = self.scheduler.state_dict()
        if self.scaler is not None:
            parts["scaler"] = self.scaler.state_dict()
        if epoch is not None:
            parts["epoch"] = epoch
        torch.save(parts, self.folder / (name or f"step_{step}.pt"))

    def log(self, step, loss):
        self.lines.append((step, float(loss), self.optimizer.param_groups[0]["lr"]))

    def train(self, steps=STEPS, start=0, each=None, save=True, per_epoch=50, step=True):
        for k in range(start, start + steps):
            self.optimizer.zero_grad()
            loss = self.task.loss(self.task.batch())
            loss.backward()
            if each is not None:
                each(k)
            if step:
                self.optimizer.step()
            self.log(k, loss.detach())
            if self.scheduler is not None and getattr(self, "paced", "step") == "step":
                self.scheduler.step()
            if self.scheduler is not None and getattr(self, "paced", "step") == "epoch" and (k + 1) % per_epoch == 0:
                self.scheduler.step()
            if save and k + 1 in (start + steps // 2, start + steps):
                self.save(k + 1, (k + 1) // per_epoch)
        return self

    def close(self):
        with (self.folder / "log.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["step", "loss", "lr"])
            writer.writerows(self.lines)


SOUND, FAULTS = {}, {}


def sound(run):
    SOUND[run.__name__] = run
    return run


def fault(*codes):
    def register(run):
        FAULTS[run.__name__] = (run, codes)
        return run

    return register


# -- sound trainings --------------------------------------------------------------------------------------------------


@sound
def adam(folder, seed):
    return Run(folder, seed).adam(torch.optim.Adam, lr=3e-3).train()


@sound
def adamw_cosine(folder, seed):
    run = Run(folder, seed, "tokens").adam(betas=(0.9, 0.95))
    run.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(run.optimizer, STEPS)
    return run.train()


@sound
def adamw_groups(folder, seed):
    run = Run(folder, seed, "tokens")
    held = list(run.model.parameters())
    groups = [{"params": [p for p in held if p.ndim > 1]}, {"params": [p for p in held if p.ndim < 2], "weight_decay": 0.0}]
    run.optimizer = torch.optim.AdamW(groups, lr=2e-3)
    return run.train()


@sound
def amsgrad(folder, seed):
    return Run(folder, seed).adam(amsgrad=True).train()


@sound
def nadam(folder, seed):
    return Run(folder, seed, "tokens").adam(torch.optim.NAdam).train()


@sound
def sgd(folder, seed):
    run = Run(folder, seed)
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    return run.train()


@sound
def sgd_momentum_steps(folder, seed):
    run = Run(folder, seed)
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    run.scheduler, run.paced = torch.optim.lr_scheduler.StepLR(run.optimizer, 3, 0.3), "epoch"
    return run.train()


@sound
def rmsprop(folder, seed):
    run = Run(folder, seed)
    run.optimizer = torch.optim.RMSprop(run.model.parameters(), lr=1e-3)
    return run.train()


@sound
def adagrad(folder, seed):
    run = Run(folder, seed)
    run.optimizer = torch.optim.Adagrad(run.model.parameters(), lr=0.02)
    return run.train()


@sound
def adafactor(folder, seed):
    run = Run(folder, seed, "tokens")
    run.optimizer = torch.optim.Adafactor(run.model.parameters(), lr=1e-2)
    return run.train()


@sound
def bfloat16_quick(folder, seed):
    return Run(folder, seed, "tokens", torch.bfloat16).adam(lr=3e-3, betas=(0.9, 0.95)).train()


@sound
def bfloat16_even(folder, seed):
    return Run(folder, seed, dtype=torch.bfloat16).adam(lr=3e-3).train()


@sound
def bfloat16_master(folder, seed):
    """Weights are saved in bfloat16 and trained in float32."""
    run = Run(folder, seed, "tokens").adam(lr=1e-3)
    for step in (STEPS // 2, STEPS):
        run.train(STEPS // 2, step - STEPS // 2, save=False)
        weights = {name: tensor.bfloat16() for name, tensor in run.model.state_dict().items()}
        torch.save({"model": weights, "optimizer": run.optimizer.state_dict(), "global_step": step}, folder / f"step_{step}.pt")
    return run


@sound
def bfloat16_to_the_end(folder, seed):
    """The rate has come to 0 where it was saved: no update arrives any more, as was meant."""
    run = Run(folder, seed, "tokens", torch.bfloat16).adam(lr=4e-3, betas=(0.9, 0.95))
    run.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(run.optimizer, STEPS)
    return run.train()


@sound
def body_saved(folder, seed):
    """The weights of a part of the model, with the state of the whole."""
    run = Run(folder, seed).adam().train(save=False)
    weights = {name: t for name, t in run.model.state_dict().items() if not name.startswith("head")}
    torch.save({"backbone": weights, "optimizer": run.optimizer.state_dict(), "step": STEPS}, folder / "body.pt")
    return run


@sound
def counts_epochs(folder, seed):
    """What its checkpoints call a step is an epoch."""
    run = Run(folder, seed).adam()
    run.train(save=False)
    torch.save({"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict(), "step": 8}, folder / "last.pt")
    return run


@sound
def counts_rows(folder, seed):
    """What its checkpoints call a step is a row of data."""
    run = Run(folder, seed).adam()
    run.train(save=False)
    torch.save({"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict(), "step": STEPS * 32}, folder / "last.pt")
    return run


@sound
def quick_momentum(folder, seed):
    return Run(folder, seed).adam(betas=(0.0, 0.99), lr=1e-3).train()


@sound
def half_with_eps(folder, seed):
    return Run(folder, seed, dtype=torch.float16).adam(lr=1e-3, eps=1e-4).train()


@sound
def frozen_body(folder, seed):
    run = Run(folder, seed)
    for p in (*run.model.first.parameters(), *run.model.second.parameters()):
        p.requires_grad_(False)
    run.optimizer = torch.optim.AdamW((p for p in run.model.parameters() if p.requires_grad), lr=1e-2)
    return run.train()


@sound
def frozen_and_held(folder, seed):
    run = Run(folder, seed)
    for p in run.model.first.parameters():
        p.requires_grad_(False)
    return run.adam().train()


@sound
def unused_layer(folder, seed):
    run = Run(folder, seed)
    run.model.pooler = nn.Linear(48, 48)
    return run.adam().train()


@sound
def averaged_beside(folder, seed):
    run = Run(folder, seed).adam()
    run.extra = {"model_ema": {k: v.clone() for k, v in run.model.state_dict().items()}}
    return run.train()


@sound
def loss_scaled(folder, seed):
    run = Run(folder, seed).adam()
    run.scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, growth_interval=100)
    return run.train()


@sound
def resumed_whole(folder, seed):
    run = Run(folder, seed, "tokens").adam()
    run.train(200)
    kept = torch.load(folder / "step_200.pt", weights_only=True)
    run.adam()
    run.optimizer.load_state_dict(kept["optimizer"])
    return run.train(200, 200)


@sound
def accumulated(folder, seed):
    run = Run(folder, seed).adam()
    for k in range(STEPS):
        loss = run.task.loss(run.task.batch()) / 4
        loss.backward()
        run.log(k, loss.detach() * 4)
        if k % 4 == 3:
            run.optimizer.step()
            run.optimizer.zero_grad()
        if k + 1 in (200, 400):
            run.save(k + 1)
    return run


@sound
def two_optimizers(folder, seed):
    run = Run(folder, seed)
    other = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 20))
    run.adam()
    second = torch.optim.Adam(other.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for k in range(STEPS):
        run.optimizer.zero_grad()
        loss = run.task.loss(run.task.batch())
        loss.backward()
        run.optimizer.step()
        second.zero_grad()
        other(torch.randn(16, 4)).pow(2).mean().backward()
        second.step()
        run.log(k, loss.detach())
        if k + 1 in (200, 400):
            state = {
                "encoder": run.model.state_dict(),
                "decoder": other.state_dict(),
                "opt_e": run.optimizer.state_dict(),
                "opt_d": second.state_dict(),
            }
            torch.save({**state, "step": k + 1}, folder / f"step_{k + 1}.pt")
    return run


@sound
def weights_alone(folder, seed):
    run = Run(folder, seed).adam().train(save=False)
    torch.save(run.model.state_dict(), folder / "model.pt")
    return run


@sound
def exact_fit(folder, seed):
    run = Run(folder, seed)
    batch = run.task.batch(24)
    run.task.batch = lambda size=32: batch
    run.adam()
    run.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(run.optimizer, 2 * STEPS)
    return run.train(2 * STEPS)


@sound
def saved_at_the_start(folder, seed):
    run = Run(folder, seed).adam()
    run.save(0)
    return run.train(save=False)


# -- faulty ones ------------------------------------------------------------------------------------------------------


@fault("TD103")
def eps_large(folder, seed):
    return Run(folder, seed, "tokens" if seed % 2 else "rows").adam(eps=(1.0, 0.3)[seed % 2], lr=1e-3).train()


@fault("TD102")
def eps_lost_in_half(folder, seed):
    return Run(folder, seed, dtype=torch.float16).adam(lr=1e-3).train(30 + 10 * seed)


@fault("TD401")
def lost_behind_the_log(folder, seed):
    """The log ends before the NaN, as where a job is killed; the checkpoint of the end does not."""
    run = Run(folder, seed, "tokens" if seed % 2 else "rows").adam()
    run.train(save=False)
    usual = run.task.loss
    last = list(run.model.parameters())[-1]
    run.task.loss = lambda batch: usual(batch) + torch.log(0.0 * last).mean()
    lines = list(run.lines)
    run.train(3, STEPS, save=False)
    run.lines = lines
    run.save(STEPS + 3)
    return run


@fault("TD311", "TD305")  # no state at all: a checkpoint cannot tell the two apart
def built_before_the_model(folder, seed):
    run = Run(folder, seed, "tokens" if seed % 2 else "rows").adam()
    run.task = Task(run.task.kind, seed + 100)
    old, run.model = run.model, run.task.model
    del old
    return run.train()


@fault("TD311")
def saves_another_model(folder, seed):
    """What is trained is a copy; the one that is saved and served never moves."""
    run = Run(folder, seed).adam()
    other = Task("rows", seed + 9).model
    run.train(save=False, steps=200)
    run.save(200, model=other)
    run.train(200, 200, save=False)
    run.save(400, model=other)
    return run


@fault("TD311")
def holds_another_size(folder, seed):
    run = Run(folder, seed).adam()
    run.train(20, save=False)
    run.lines.clear()
    state = run.optimizer.state_dict()
    run.task = Task("rows", seed + 100, width=(24, 32, 40, 64)[seed % 4])
    run.model = run.task.model
    run.train(step=False, save=False)
    torch.save({"model": run.model.state_dict(), "optimizer": state, "global_step": STEPS}, folder / "last.pt")
    return run


@fault("TD305", "TD311")
def never_stepped(folder, seed):
    return Run(folder, seed, "tokens" if seed % 2 else "rows").adam().train(step=False)


@fault("TD302")
def cleared_before_the_step(folder, seed):
    run = Run(folder, seed).adam(weight_decay=0.0)
    return run.train(each=lambda _: run.optimizer.zero_grad(set_to_none=False))


@fault("TD612")
def dead_from_the_start(folder, seed):
    run = Run(folder, seed)
    nn.init.constant_(run.model.second.bias, -50.0 - 10 * seed)
    return run.adam(torch.optim.Adam, lr=1e-3).train(1200)


@fault("TD408")
def scale_ran_down(folder, seed):
    run = Run(folder, seed).adam()
    run.scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    for k in range(STEPS):
        run.optimizer.zero_grad()
        loss = run.task.loss(run.task.batch())
        run.scaler.scale(loss).backward()
        if k % (6 + seed) == 0:
            run.model.head.bias.grad[0] = float("inf")
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.log(k, loss.detach())
        if k + 1 in (200, 400):
            run.save(k + 1)
    return run


@fault("TD409")
def updates_round_away(folder, seed):
    return (
        Run(folder, seed, "tokens" if seed % 2 else "rows", torch.bfloat16)
        .adam(lr=1e-5 * (1 + seed % 3), betas=(0.9, 0.95))
        .train()
    )


@fault("TD410")
def v_frozen(folder, seed):
    """One loud batch early on."""
    run = Run(folder, seed, "tokens" if seed % 2 else "rows", torch.bfloat16).adam(lr=3e-3)

    def shout(k):
        if k < 10:
            for p in run.model.parameters():
                p.grad.mul_(300.0)

    return run.train(2 * STEPS, each=shout)


@fault("TD805")
def state_not_loaded(folder, seed):
    run = Run(folder, seed, "tokens" if seed % 2 else "rows").adam(lr=1e-2)
    run.train(230 + 10 * seed, save=False)
    run.adam(lr=1e-2)
    run.train(150, 230 + 10 * seed)
    return run


@fault("TD207")
def schedule_stands(folder, seed):
    run = Run(folder, seed).adam(lr=2e-3)
    run.scheduler, run.paced = torch.optim.lr_scheduler.CosineAnnealingLR(run.optimizer, 8), "never"
    return run.train()


@fault("TD206")
def schedule_per_batch(folder, seed):
    run = Run(folder, seed).adam(lr=2e-3)
    schedulers = torch.optim.lr_scheduler
    run.scheduler = (
        schedulers.CosineAnnealingLR(run.optimizer, 8 + seed) if seed % 2 else schedulers.StepLR(run.optimizer, 3, 0.1)
    )
    return run.train()


def perceptron(folder, seed, **settings):
    """Linear regression with more features than rows, all rows in each step; saved twice on its floor."""
    run = Run(folder, seed)
    torch.manual_seed(545345 + seed)
    x, y = torch.randn(64, 1000), torch.randn(64, 1)
    run.model = run.task.model = nn.Linear(1000, 1)
    run.task.loss = lambda batch: (run.model(x) - y).pow(2).sum()
    run.adam(torch.optim.Adam, lr=1e-3, **settings)
    for k in range(6000):
        run.optimizer.zero_grad()
        loss = run.task.loss(None)
        loss.backward()
        if k in (1000, 1600):
            run.save(k)
        run.optimizer.step()
        if k % 10 == 0:
            run.log(k, loss.detach())
    return run


@fault("TD101")
def collapses(folder, seed):
    return perceptron(folder, seed)


@sound
def held_by_eps(folder, seed):
    return perceptron(folder, seed, eps=0.1)


@sound
def held_by_amsgrad(folder, seed):
    return perceptron(folder, seed, amsgrad=True)


# -- scoring ----------------------------------------------------------------------------------------------------------


def diagnosed(folder, checkpoints):
    """Return the codes that are named at warning or above, the verdict, and all pieces of evidence of kind "state"."""
    from traindoctor.pipeline import DiagnoseOptions, diagnose_run
    from traindoctor.readers.discover import read_runs
    from traindoctor.registry import load_rules

    causes = load_rules().causes
    (run,) = read_runs(folder / "log.csv")
    report = diagnose_run(run, causes, DiagnoseOptions(checkpoints=tuple(checkpoints)))
    named = [f for f in report.findings if not causes[f.code].standalone]
    alarms = [f.code for f in named if f.severity != "info"]
    return [f.code for f in named], alarms, report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, (make, codes) in {**{n: (m, ()) for n, m in SOUND.items()}, **FAULTS}.items():
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            folder = options.out / f"{name}-{seed}"
            if not fnmatch.fnmatch(folder.name, options.only):
                continue
            if not (folder / "log.csv").exists():
                make(folder, seed).close()
            files = sorted(folder.glob("*.pt"), key=lambda f: (f.stat().st_mtime_ns, f.name))
            _, alarms_without, _ = without(folder)
            firsts, alarms, report = diagnosed(folder, files[-2:])
            state = [(f.code, e.supports, e.name, e.value) for f in report.findings for e in f.evidence if e.kind == "state"]
            rows.append(
                {
                    "run": folder.name,
                    "fault": codes,
                    "named": firsts,
                    "alarms": alarms,
                    "without": alarms_without,
                    "verdict": report.verdict,
                    "state": state,
                }
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    summary(rows)


def without(folder):
    """Return the diagnosis of the log alone."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        shutil.copyfile(folder / "log.csv", Path(made) / "log.csv")
        return diagnosed(Path(made), ())


def summary(rows):
    """Print a line for each kind of run, and the sums."""
    by = defaultdict(list)
    for row in rows:
        by[row["run"].rsplit("-", 1)[0]].append(row)
    for name, some in by.items():
        codes = some[0]["fault"]
        if codes:
            alone = sum(is_first(r["without"], codes) for r in some)
            missed = [r["named"] for r in some if not is_first(r["named"], codes)]
            found = f"first {len(some) - len(missed)}, log alone {alone}"
            print(f"{name:26s} {'/'.join(codes):12s} n {len(some)}, {found} {missed or ''}")
        else:
            new = [added(r) for r in some if added(r)]
            print(f"{name:26s} sound        n {len(some)}, new alarms {len(new)} {new or ''}")
    sound, faulty = [r for r in rows if not r["fault"]], [r for r in rows if r["fault"]]
    first, alone = (sum(is_first(r[key], r["fault"]) for r in faulty) for key in ("named", "without"))
    sure = sum(is_first(r["alarms"], r["fault"]) for r in faulty)
    print(f"{len(faulty)} faults: {first} first with checkpoints ({sure} decided), {alone} from the log alone")
    print(f"{len(sound)} sound runs: {sum(bool(added(r)) for r in sound)} alarmed by their checkpoints")


def is_first(named, codes):
    return bool(named) and named[0] in codes


def added(row):
    return sorted(set(row["alarms"]) - set(row["without"]))


if __name__ == "__main__":
    sys.exit(main())
