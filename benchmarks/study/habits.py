"""How people log: tag spellings, intervals, formats and config layouts, drawn per run from its name."""

from __future__ import annotations

import csv
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path  # noqa: TC003
from typing import Any

import numpy as np
import yaml
from training import Plan, Trace  # noqa: TC002

CLASSES = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
# loss, lr, grad norm, weight norm, validation loss, validation accuracy
SPELLINGS = (
    ("loss", "lr", "grad_norm", "weight_norm", "val_loss", "val_acc"),
    ("train/loss", "train/learning_rate", "train/grad_norm", "train/weight_norm", "val/loss", "val/accuracy"),
    ("train_loss", "learning_rate", "grad_norm", "param_norm", "valid_loss", "valid_acc"),
    ("Loss/train", "lr", "grad_norm", "weight_norm", "Loss/val", "Accuracy/val"),
    ("loss/train", "lr", "grad_norm", "weight_norm", "loss/val", "accuracy/val"),
    ("train_loss_step", "lr-{cls}", "grad_2.0_norm_total", "weight_norm", "val_loss", "val_accuracy"),
    ("training/loss", "lr-{cls}", "train/grad_norm", "train/weight_norm", "validation/loss", "validation/accuracy"),
    ("train/loss", "train/learning_rate", "train/grad_norm", "train/weight_norm", "eval/loss", "eval/accuracy"),
    ("total_loss", "lr/pg0", "grad_norm", "weight_norm", "eval_loss", "eval_accuracy"),
    ("train/loss", "lr", "grad-norm", "params-norm", "valid/loss", "valid/accuracy"),
)


@dataclass(frozen=True)
class Habit:
    every: int  # steps per logged point; 0: one row per epoch
    form: str  # events, csv, sparse-csv
    tier: int  # 1 loss and lr, 2 with norms, 3 with validation
    spelling: int
    log_lr: bool
    weight_norm: bool
    window: bool  # log the mean loss since the last point
    config: str  # layout, "" for no config
    damage: str = ""


def habit_of(name: str, plan: Plan, per_epoch: int, forced: dict[str, Any]) -> Habit:
    draw = random.Random("habit " + name)
    steps = plan.steps
    choices = [e for e in (1, 2, 5, 8, 10, 20, 50) if steps / e >= 25] or [1]
    every = draw.choice(choices)
    while steps / every > 1500:
        every *= 2
    if per_epoch > 4 and 8 <= steps // per_epoch <= 40 and draw.random() < 0.3:
        every = 0
    form = draw.choice(("events", "events", "csv", "sparse-csv"))
    tier = draw.choice((1, 2, 2, 3))
    values = {
        "every": every,
        "form": form,
        "tier": tier,
        "spelling": draw.randrange(len(SPELLINGS)),
        "log_lr": draw.random() < 0.8,
        "weight_norm": draw.random() < 0.6,
        "window": every > 1 and draw.random() < 0.2,
        "config": draw.choice(("flat", "flat", "nested", "nested", "target", "hf", "training", "")),
    }
    values.update(forced)
    return Habit(**values)


def config_of(plan: Plan, layout: str, trace: Trace) -> dict[str, Any]:
    kw = dict(plan.kw)
    batch = {"batch_size": trace.batch} if trace.steps_per_epoch > 1 else {}
    name, epochs = plan.optimizer, max(1, plan.steps // trace.steps_per_epoch)
    length = (
        {"epochs": epochs} if trace.steps_per_epoch > 1 and plan.steps % trace.steps_per_epoch == 0 else {"steps": plan.steps}
    )
    betas = list(kw.pop("betas", (0.9, 0.999)))
    adam = name in ("adam", "adamw")
    schedule = {"scheduler": plan.schedule.split(":")[0]} if plan.schedule else {}
    clip = {"grad_clip": plan.clip} if plan.clip is not None else {}
    extra = {"gradient_accumulation_steps": plan.accumulate} if plan.accumulate > 1 else {}
    precision = {"precision": "float16"} if "half" in plan.hook else {}
    if layout == "flat":
        out = {"seed": plan.seed, "optimizer": name, "lr": plan.lr}
        if adam:
            out |= {"beta1": betas[0], "beta2": betas[1], "eps": kw.pop("eps", 1e-8)}
        return out | kw | batch | length | schedule | clip | extra | precision
    if layout == "nested":
        inner = {"name": name, "lr": plan.lr} | ({"betas": betas} if adam and betas != [0.9, 0.999] else {}) | kw
        return {"seed": plan.seed, "optimizer": inner, "train": batch | length | clip | extra | precision} | (
            {"scheduler": {"name": schedule["scheduler"]}} if schedule else {}
        )
    if layout == "target":
        inner = (
            {"_target_": f"torch.optim.{CLASSES[name]}", "lr": plan.lr}
            | ({"betas": betas, "eps": kw.pop("eps", 1e-8)} if adam else {})
            | kw
        )
        return {
            "seed": plan.seed,
            "optim": inner,
            "data": batch,
            "trainer": {"max_steps": plan.steps} | clip | extra | precision,
        } | schedule
    if layout == "hf":
        out = {
            "optim": name + ("_torch" if name == "adamw" else ""),
            "learning_rate": plan.lr,
            "seed": plan.seed,
            "max_steps": plan.steps,
        }
        if adam:
            out |= {"adam_beta1": betas[0], "adam_beta2": betas[1], "adam_epsilon": kw.pop("eps", 1e-8)}
        if batch:
            out["per_device_train_batch_size"] = trace.batch
        if schedule:
            out["lr_scheduler_type"] = schedule["scheduler"]
        if plan.clip is not None:
            out["max_grad_norm"] = plan.clip
        return out | kw | extra | ({"fp16_full_eval": True} | precision if precision else {})
    settings = {"optimizer": CLASSES[name], "learning_rate": plan.lr} | ({"betas": betas} if adam else {}) | kw
    return {"training": settings | batch | length | schedule | clip | extra | precision, "seed": plan.seed}


Row = tuple[int, int, dict[str, float]]  # step, epoch, values


def rows_of(plan: Plan, habit: Habit, trace: Trace) -> tuple[list[Row], list[Row]]:
    """Training rows and validation rows as the log shows them."""
    tags = [t.format(cls=CLASSES[plan.optimizer]) for t in SPELLINGS[habit.spelling]]
    n, per_epoch = len(trace.loss), trace.steps_per_epoch
    rows: list[Row] = []
    quantise = "fp16_log" in plan.hook

    def row(step: int, loss: float) -> dict[str, float]:
        values = {tags[0]: float(np.float16(loss)) if quantise else loss}
        if habit.log_lr:
            values[tags[1]] = float(trace.lr[step])
        if habit.tier >= 2:
            values[tags[2]] = float(trace.grad_norm[step])
            if habit.weight_norm:
                values[tags[3]] = float(trace.weight_norm[step])
        if trace.extra_tag:
            values[trace.extra_tag] = float(trace.extra[step])
        return values

    if habit.every == 0:
        for epoch in range(-(-n // per_epoch)):
            part = trace.loss[epoch * per_epoch : (epoch + 1) * per_epoch]
            rows.append((epoch, epoch, row(min(n, (epoch + 1) * per_epoch) - 1, float(part.mean()))))
    else:
        before = 0
        for step in range(0, n, habit.every):
            loss = float(trace.loss[before : step + 1].mean()) if habit.window else float(trace.loss[step])
            rows.append((step, step // per_epoch, row(step, loss)))
            before = step + 1
    held: list[Row] = []
    if habit.tier >= 3:
        for step, loss, accuracy in trace.val:
            values = {tags[4]: loss} | ({} if math.isnan(accuracy) else {tags[5]: accuracy})
            held.append((step // per_epoch if habit.every == 0 else step, step // per_epoch, values))
    return rows, held


def write_events(folder: Path, rows: list[Row], held: list[Row], resumed_at: int | None = None) -> None:
    """One event file, or two with half an hour between them where the run was resumed."""
    from torch.utils.tensorboard import SummaryWriter

    writer, begun, shift = SummaryWriter(str(folder)), time.time(), 0.0
    for step, _, values in sorted(rows + held, key=lambda r: r[0]):
        if resumed_at is not None and step >= resumed_at and not shift:
            writer.close()
            writer, shift = SummaryWriter(str(folder), filename_suffix=".resumed"), 1800.0
        for tag, value in values.items():
            writer.add_scalar(tag, value, step, walltime=begun + 0.01 * step + shift)
    writer.close()


def write_csv(file: Path, rows: list[Row], held: list[Row], sparse: bool, by_epoch: bool) -> None:
    lines: list[dict[str, Any]] = []
    where = {}
    for step, epoch, values in rows:
        where[step] = len(lines)
        lines.append(({"epoch": epoch} if by_epoch else {"epoch": epoch, "step": step}) | values)
    late = []
    for step, epoch, values in held:
        if step in where and not sparse:
            lines[where[step]] |= values
        else:
            late.append((step, ({"epoch": epoch} if by_epoch else {"epoch": epoch, "step": step}) | values))
    if late:
        both = [(line.get("step", line["epoch"]), line) for line in lines] + late
        lines = [line for _, line in sorted(both, key=lambda p: p[0])]
    keys: list[str] = []
    for line in lines:
        keys += [k for k in line if k not in keys]
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=keys, restval="")
        table.writeheader()
        table.writerows(lines)


def write_run(folder: Path, plan: Plan, habit: Habit, trace: Trace, label: dict[str, Any]) -> None:
    import json

    logs = folder / "logs"
    logs.mkdir(parents=True)
    rows, held = rows_of(plan, habit, trace)
    if habit.damage == "repeat":  # a crash and a restart from an older step
        cut = len(rows) * 2 // 3
        rows = rows[:cut] + rows[cut - len(rows) // 10 :]
    if habit.form == "events":
        write_events(logs, rows, held, plan.hook.get("lose_state"))
        if habit.damage == "cut":
            file = next(logs.iterdir())
            data = file.read_bytes()
            file.write_bytes(data[: int(len(data) * 0.9) + 3])
    else:
        file = logs / random.Random(folder.name).choice(("metrics.csv", "log.csv", "training.csv", "progress.csv"))
        write_csv(file, rows, held, habit.form == "sparse-csv", habit.every == 0)
        if habit.damage == "cut":
            file.write_bytes(file.read_bytes()[:-17])
    if habit.config:
        (folder / "config.yaml").write_text(yaml.safe_dump(config_of(plan, habit.config, trace), sort_keys=False))
    label |= {
        "optimizer": plan.optimizer,
        "lr": plan.lr,
        "settings": plan.kw,
        "steps": len(trace.loss),
        "parameters": trace.parameters,
        "logging": asdict(habit),
    }
    (folder / "label.json").write_text(json.dumps(label, indent=1, default=str))
