"""Reports built by hand: the over-trained perceptron with true curves, a healthy run, an undecided one, a hostile one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from traindoctor.model import (
    Curve,
    Damage,
    Evidence,
    Finding,
    Fix,
    Location,
    NotChecked,
    OptimizerSpec,
    Replay,
    ReplayResult,
    Report,
    Rival,
    Run,
    RunReport,
    Segment,
    Series,
    Setting,
    Trial,
    VitalSign,
)

N_STEPS = 6000
NAMES = {
    "TD001": "steps-go-back",
    "TD101": "second-moment-collapse",
    "TD102": "eps-dominates",
    "TD103": "beta2-too-low",
    "TD104": "beta1-too-high",
    "TD105": "frozen-second-moment",
    "TD201": "learning-rate-too-high",
    "TD202": "learning-rate-zero",
    "TD203": "warmup-too-short",
    "TD204": "rate-reset-on-resume",
    "TD301": "gradients-not-zeroed",
    "TD302": "clipped-too-tightly",
    "TD303": "vanishing-with-depth",
    "TD401": "float16-overflow",
    "TD501": "bad-batch",
    "TD502": "not-shuffled",
    "TD601": "softmax-twice",
    "TD701": "overfitting",
    "TD702": "leaking-validation",
}
#: title, settings, eps, beta2, amsgrad, clip
CANDIDATES = (
    ("as recorded", {}, 1e-8, 0.999, False, np.inf),
    ("eps 1e-3", {"optimizer.eps": 1e-3}, 1e-3, 0.999, False, np.inf),
    ("eps 1e-2", {"optimizer.eps": 1e-2}, 1e-2, 0.999, False, np.inf),
    ("eps 0.1", {"optimizer.eps": 0.1}, 0.1, 0.999, False, np.inf),
    ("eps 1.0", {"optimizer.eps": 1.0}, 1.0, 0.999, False, np.inf),
    ("amsgrad true", {"optimizer.amsgrad": True}, 1e-8, 0.999, True, np.inf),
    ("beta2 0.99", {"optimizer.betas": (0.9, 0.99)}, 1e-8, 0.99, False, np.inf),
    ("clip_norm 1.0", {"gradient.clip_norm": 1.0}, 1e-8, 0.999, False, 1.0),
)


@lru_cache(maxsize=1)
def simulated() -> dict[str, np.ndarray]:
    """Train the perceptron of 1,000 inputs on 64 points, every candidate as one column."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal((64, 1000)), np.ones(64)])
    y = rng.standard_normal((64, 1))
    n = len(CANDIDATES) + 1  # the last column is the recorded one, started a rounding error away
    eps = np.array([c[2] for c in CANDIDATES] + [1e-8])
    beta2 = np.array([c[3] for c in CANDIDATES] + [0.999])
    amsgrad = np.array([c[4] for c in CANDIDATES] + [False])
    clip = np.array([c[5] for c in CANDIDATES] + [np.inf])
    w = np.repeat(rng.uniform(-1, 1, (1001, 1)) / np.sqrt(1000), n, axis=1)
    w[:, -1] *= 1 + 1e-9
    m, v, peak = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    loss, norm, root, margin = np.empty((N_STEPS, n)), np.empty((N_STEPS, n)), np.empty((N_STEPS, n)), {}
    noise = np.random.default_rng(1)
    for t in range(1, N_STEPS + 1):
        residual = x @ w - y
        residual += 2e-7 * noise.standard_normal(residual.shape)  # the rounding of float32
        loss[t - 1] = (residual**2).sum(axis=0)
        grad = 2 * (x.T @ residual)
        norm[t - 1] = np.sqrt((grad**2).sum(axis=0))
        grad *= np.minimum(1.0, clip / norm[t - 1])
        m += 0.1 * (grad - m)
        v += (1 - beta2) * (grad**2 - v)
        peak = np.where(amsgrad, np.maximum(peak, v), v)
        scale = np.sqrt(peak / (1 - beta2**t)) + eps
        w -= 1e-3 * (m / (1 - 0.9**t)) / scale
        root[t - 1] = np.sqrt((v[:, :] / (1 - beta2**t)).mean(axis=0))
        if t % 100 == 0:
            margin[t] = [2e-3 * np.linalg.eigvalsh((x / scale[:, i]) @ x.T)[-1] for i in (0, 3)]
    return {
        "loss": loss,
        "norm": norm,
        "root": root,
        "margin_step": np.array(list(margin), dtype=np.int64),
        "margin": np.array(list(margin.values())),
    }


def series(quantity: str, tag: str, value: np.ndarray, step: np.ndarray | None = None, source: str = "metrics.csv") -> Series:
    value = np.asarray(value, dtype=np.float64)
    steps = np.arange(value.size, dtype=np.int64) if step is None else np.asarray(step, dtype=np.int64)
    return Series(quantity, tag, steps, value, np.full(value.size, np.nan), source)


def run_with(name: str, *made: Series, **more: object) -> Run:
    return Run(
        name=name,
        path=f"runs/{name}",
        root="/home/someone/project",
        series=made,
        primary={s.quantity: s for s in made if s.quantity},
        **more,  # type: ignore[arg-type]
    )


PATCH = """--- a/config.yaml
+++ b/config.yaml
@@ -2,4 +2,5 @@
 optimizer:
   name: adam
   lr: 0.001
+  eps: 0.1
 train:
"""


@lru_cache(maxsize=1)
def failed_run() -> RunReport:
    data = simulated()
    steps = np.arange(N_STEPS, dtype=np.int64)
    onset = int(np.flatnonzero(data["loss"][400:, 0] > 1e-9)[0]) + 400
    run = run_with(
        "perceptron-overtrained",
        series("loss", "train/loss", data["loss"][:, 0]),
        series("grad_norm", "grad_norm", data["norm"][:, 0]),
        series("learning_rate", "lr", np.full(N_STEPS, 1e-3)),
        series("", "gpu_temp", np.full(N_STEPS, 61.0)),
        series("loss", "train/loss_smooth", data["loss"][::10, 0], steps[::10]),
        settings={
            "optimizer.eps": Setting(1e-8, "default in train.py:29"),
            "optimizer.lr": Setting(0.001, "config.yaml:4"),
            "optimizer.betas": Setting((0.9, 0.999), "default in train.py:27"),
            "optimizer.name": Setting("adam", "config.yaml:3"),
            "seed": Setting(545345, "config.yaml:1"),
            "steps": Setting(6000, "config.yaml:6"),
        },
        optimizer=OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, origin={"lr": "config.yaml:4"}),
        files=("metrics.csv",),
        config_files=("config.yaml",),
        code_files=("train.py",),
    )
    primary = dict(run.primary)
    primary["loss"] = run.series[0]
    run = Run(**{k: getattr(run, k) for k in run.__slots__} | {"primary": primary})  # type: ignore[arg-type]
    tail = slice(5 * N_STEPS // 6, None)
    tails = data["loss"][tail].max(axis=0)
    verdicts = ["no effect", "no effect", "no effect", "repairs", "repairs", "repairs", "no effect", "worse"]
    best = [int(np.argmax(data["loss"][:, i] <= 1e-10)) or None for i in range(len(CANDIDATES))]
    trials = tuple(
        Trial(
            title,
            settings,
            verdicts[i],  # type: ignore[arg-type]
            float(tails[i]),
            None if best[i] is None else best[i] / best[0],
            Curve(title, "counterfactual", steps, data["loss"][:, i]),
        )
        for i, (title, settings, *_rest) in enumerate(CANDIDATES)
    )
    observed, reproduced = data["loss"][:, 0], data["loss"][:, -1]
    log_ratio = np.log10(reproduced / observed)
    smooth = np.convolve(log_ratio, np.ones(101) / 101, mode="same")
    replay = Replay(
        depth="closed",
        model="one noisy quadratic mode, mean-field second moment, λ 2,714 from loss and gradient norm",
        segment=Segment(1800, N_STEPS, onset),
        observed=Curve("observed", "observed", steps, observed),
        reproduced=Curve("reproduced", "reproduced", steps[1800:], reproduced[1800:]),
        residual=Curve("residual", "observed", steps[1800:], smooth[1800:]),
        error=float(np.median(np.abs(smooth[onset:]))),
        bound=1.0,
        reproduces=True,
        trials=trials,
    )
    effective = 1e-3 / (data["root"] + 1e-8)
    signs = (
        VitalSign(
            "Gradient norm",
            "Small for 1,900 steps; it rises with the loss, not before it.",
            (
                Curve("grad_norm", "observed", steps, data["norm"][:, 0]),
                Curve("eps 0.1", "counterfactual", steps, data["norm"][:, 3]),
            ),
            log_scale=True,
        ),
        VitalSign(
            "√v̂",
            "Second moment from the gradient norm, rms per parameter; `eps` lies seven decades too low to stop it.",
            (Curve("rms √v̂", "observed", steps, data["root"][:, 0]),),
            log_scale=True,
            limit=1e-8,
            limit_name="eps, as recorded",
        ),
        VitalSign(
            "Effective learning rate",
            "lr / (√v̂ + eps). It grows at constant `lr`.",
            (
                Curve("recorded", "observed", steps, effective[:, 0]),
                Curve("eps 0.1", "counterfactual", steps, 1e-3 / (data["root"][:, 3] + 0.1)),
            ),
            log_scale=True,
        ),
        VitalSign(
            "Stability margin",
            "lr·λmax(P⁻¹H), measured every 100 steps of the replay.",
            (
                Curve("margin", "observed", data["margin_step"], data["margin"][:, 0]),
                Curve("forecast", "forecast", np.array([1000, onset]), np.array([data["margin"][9, 0], 38.0])),
                Curve("eps 0.1", "counterfactual", data["margin_step"], data["margin"][:, 1]),
            ),
            log_scale=False,
            limit=38.0,
            limit_name="(2 + 2β₁) / (1 − β₁), stable below",
        ),
        VitalSign("Learning rate", "As logged.", (Curve("lr", "observed", steps, np.full(N_STEPS, 1e-3)),), log_scale=False),
    )
    after = {"tail_loss_max": float(tails[3])}
    before = {"tail_loss_max": float(tails[0])}
    finding = Finding(
        code="TD101",
        name="second-moment-collapse",
        severity="error",
        confidence=0.93,
        title=f"Training failed from step {onset:,}: Adam's second moment collapsed, and the effective learning rate outgrew "
        "what the loss surface allows.",
        message="Gradients near zero let v decay by beta2 a step; lr / √v̂ grew until the step was unstable.",
        segment=Segment(onset, N_STEPS, onset),
        evidence=(
            Evidence(
                True,
                "replay",
                "stability_margin",
                "The margin is at its limit of 38 when the loss leaves its floor, and hovers there to the end.",
                6.0,
                38.0,
                "1",
                "replay, every 100 steps; arXiv:2207.14484",
                onset,
            ),
            Evidence(
                True,
                "replay",
                "repair",
                "With `eps` 0.1 the highest loss at the end falls from 6.8e-3 to 3.2e-11.",
                6.0,
                -8.3,
                "decades",
                "replay, `--set optimizer.eps=0.1`",
            ),
            Evidence(
                True,
                "log",
                "growth",
                "The effective learning rate grew this much while the learning rate stayed at 1e-3.",
                3.0,
                213.0,
                "times",
                "metrics.csv: grad_norm, lr",
            ),
            Evidence(
                True,
                "log",
                "onset",
                "The loss leaves its floor here; nothing else changes at this step.",
                1.5,
                float(onset),
                "step",
                "metrics.csv: train/loss",
            ),
            Evidence(
                False,
                "log",
                "root_v",
                "This is √v̂ at the onset, far above `eps` 1e-8. The textbook sign, √v̂ close to eps, is "
                "absent. This cause does not need it.",
                0.7,
                0.39,
                "1",
                "metrics.csv: grad_norm, 1,001 parameters",
            ),
        ),
        rivals=(
            Rival(
                "TD201",
                "learning-rate-too-high",
                0.04,
                "The same 1e-3 reached 1e-12 in 392 steps and held for 1,900. Too high a rate shows from the start.",
                "One run with `amsgrad`, rate unchanged: it repairs this run; too high a rate it would not.",
            ),
            Rival(
                "TD501",
                "bad-batch",
                0.01,
                "Every step sees the same 64 rows, and the gradient norm does not lead the loss.",
                "One run without the row of largest residual.",
            ),
            Rival(
                "TD301",
                "gradients-not-zeroed",
                0.001,
                "`zero_grad` runs before `backward` in every step, train.py:46.",
                "None needed: the source decides.",
            ),
        ),
        consequences=("TD203",),
        fixes=(
            Fix(
                "Raise Adam's `eps` from 1e-8 to 0.1",
                {"optimizer.eps": 0.1},
                PATCH,
                ReplayResult("closed", "repairs", before, after),
                "The log asks for 0.071 to 0.076; 0.1 is the next round value. `eps` was not set: "
                "1e-8 is the default in train.py:29.",
            ),
            Fix(
                "Set `amsgrad` to true",
                {"optimizer.amsgrad": True},
                None,
                ReplayResult("closed", "repairs", before, {"tail_loss_max": float(tails[5])}),
            ),
            Fix("Stop at the lowest loss", {"steps": 400}),
        ),
        refutation="A run with `eps` 0.1 or `amsgrad` that leaves its floor all the same; or a checkpoint from the onset "
        "in which the margin is well below 38.",
    )
    second = Finding(
        code="TD702",
        name="no-validation",
        severity="warning",
        confidence=0.72,
        title="No validation loss: the run trained 64 points with 1,001 parameters and nothing watched for overfitting.",
        message="The training loss passed 1e-10; from there on it says nothing of new data.",
        segment=Segment(400, N_STEPS, 400),
        evidence=(
            Evidence(True, "code", "loader", "Only one loader is made.", 1.5, None, "1", "", None, Location("train.py", 31)),
        ),
        locations=(Location("train.py", 31),),
        fixes=(Fix("Log a validation loss every 100 steps"),),
    )
    silent = tuple(c for c in NAMES if c not in ("TD105", "TD303", "TD701", "TD702", "TD204"))
    return RunReport(
        run=run,
        verdict="failed",
        summary=finding.title,
        findings=(finding, second),
        checked=silent,
        not_checked=(
            NotChecked("TD303", "no gradient norm per layer was logged"),
            NotChecked("TD701", "no validation loss was logged"),
            NotChecked("TD105", "no checkpoint was given"),
            NotChecked("TD204", "the run was not resumed"),
        ),
        gaps=("no validation loss: overfitting cannot be told", "no gradient norms per layer"),
        replay=replay,
        vital_signs=signs,
    )


def healthy_run() -> RunReport:
    rng = np.random.default_rng(3)
    steps = np.arange(0, 20_000, 10, dtype=np.int64)
    loss = 2.4 * (1 + steps / 300.0) ** -0.35 + 0.03 * rng.standard_normal(steps.size)
    val = series("val_loss", "eval/loss", loss[::100] + 0.05, steps[::100], "events.out.tfevents.1")
    run = run_with(
        "small-gpt",
        series("loss", "train/loss", loss, steps, "events.out.tfevents.1"),
        val,
        series(
            "learning_rate",
            "train/lr",
            3e-4 * np.minimum(1, (steps + 1) / 800) * 0.5 * (1 + np.cos(np.pi * steps / 20_000)),
            steps,
        ),
        series("grad_norm", "train/grad_norm", 0.6 + 0.1 * np.abs(rng.standard_normal(steps.size)), steps),
        optimizer=OptimizerSpec("adamw", lr=3e-4, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, origin={"lr": "args.json"}),
        files=("events.out.tfevents.1",),
        restarts=(8000,),
    )
    return RunReport(
        run=run,
        verdict="healthy",
        summary="No fault found: 17 causes were checked and all are silent.",
        findings=(),
        checked=tuple(c for c in NAMES if c not in ("TD303", "TD105")),
        not_checked=(
            NotChecked("TD303", "no gradient norm per layer was logged"),
            NotChecked("TD105", "no checkpoint was given"),
        ),
    )


def undecided_run() -> RunReport:
    rng = np.random.default_rng(4)
    loss = np.concatenate([2 * np.exp(-np.arange(400) / 90), 0.02 + 0.3 * rng.random(200)])
    loss[450:455] = np.nan
    loss[520] = np.inf
    run = run_with(
        "notebook-7",
        series("loss", "Loss", loss),
        files=("history.json",),
        step_unit="epoch",
        damages=(Damage("truncated", "history.json", "the file ends inside a record; 600 epochs were kept", 18_211),),
    )
    finding = Finding(
        "TD201",
        "learning-rate-too-high",
        "warning",
        0.46,
        "Loss unsettled from epoch 400: too high a learning rate explains it, and so does a change of the data.",
        "The loss jumps and does not come back. The log does not say more.",
        Segment(400, 600, 400),
        (
            Evidence(
                True, "log", "jump", "The loss rises at once and stays there.", 1.5, 15.3, "times", "history.json: Loss", 400
            ),
        ),
        rivals=(
            Rival(
                "TD502",
                "not-shuffled",
                0.41,
                "Nothing speaks against it in this log.",
                "Log the learning rate and the batch order; one run with shuffling on.",
            ),
        ),
        fixes=(Fix("Halve the learning rate"),),
        refutation="A learning rate that stayed the same over epoch 400 in a log.",
    )
    return RunReport(
        run,
        "undecided",
        "Two causes fit epoch 400 equally well: the log has only a loss, and cannot tell them apart.",
        (finding,),
        ("TD201", "TD502", "TD202"),
        (NotChecked("TD101", "no gradient norm was logged"), NotChecked("TD102", "no optimizer is known")),
        gaps=("no logged learning rate: taken as constant", "no gradient norm: no eps can be sized"),
    )


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}\x1b[31m\u202e"


def hostile_run() -> RunReport:
    h = HOSTILE
    values = np.array([3.0, np.nan, -np.inf, 2.0, 1.0])
    run = Run(
        name=h,
        path="/home/secret-user/runs/" + h.replace("/", ""),
        root="/home/secret-user/runs",
        series=(series("loss", h, values, source=h), series("", h + "2", values)),
        primary={"loss": series("loss", h, values, source=h)},
        settings={"optimizer.eps": Setting(h, h), h: Setting(h, h)},
        optimizer=OptimizerSpec(h, lr=1e-3, origin={"lr": h}),
        damages=(Damage(h, "/home/secret-user/runs/" + "x.csv", h),),
        files=("/home/secret-user/runs/x.csv",),
    )
    curve = Curve(h, "counterfactual", np.arange(5), np.array([3.0, 2, 1, 0.5, 0.1]))
    finding = Finding(
        h,
        h,
        "error",
        0.5,
        h + ": " + h,
        h,
        Segment(1, 4, 2),
        (Evidence(True, "log", h, h, 1.0, h, h, h), Evidence(False, "code", h, h, 1.0, float("nan"), h, h, None, Location(h, 3))),
        (Location(h, 1),),
        (Rival(h, h, 0.2, h, h),),
        (h,),
        (
            Fix(
                h,
                {h: h},
                f"--- a/{h}\n+++ b/{h}\n@@ -1 +1 @@\n-{h}\n+{h}\n",
                ReplayResult("closed", "worse", {h: 1.0}, {h: 2.0}, h),
                h,
            ),
        ),
        h,
    )
    replay = Replay(
        "closed", h, Segment(0, 5), curve, curve, curve, 2.0, 1.0, False, h, (Trial(h, {h: h}, "worse", 1.0, None, curve, h),)
    )
    return RunReport(
        run,
        "failed",
        h,
        (finding,),
        (h,),
        (NotChecked(h, h),),
        (h,),
        replay,
        (VitalSign(h, h, (curve,), True, 0.2, h, h),),
    )


def report_of(*runs: RunReport) -> Report:
    return Report(runs, "0.1.0", names=NAMES)
