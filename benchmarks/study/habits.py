"""How people log: tag spellings, intervals, formats and config layouts, drawn per run from its name."""

from __future__ import annotations

import csv
import json
import math
import random
import time
from collections.abc import Sequence  # noqa: TC003
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
# gradient norm, weight norm, update over weight, share of zeros of one layer
LAYERS = (
    ("grad_norm/{}", "weight_norm/{}", "update_ratio/{}", "zero_fraction/{}"),
    ("grad_2.0_norm/{}", "weight_2.0_norm/{}", "", ""),
    ("gradients/{}", "weights/{}", "update_to_weight/{}", "activations/{}/zero_share"),
    ("train/grad_norm/{}", "train/param_norm/{}", "train/update_ratio/{}", "train/dead_relu/{}"),
    ("grad_norm/{}", "", "", ""),
)


@dataclass(frozen=True)
class Habit:
    every: int  # steps per logged point; 0: one row per epoch
    form: str  # events, csv, sparse-csv, jsonl, hf
    tier: int  # 1 loss and lr, 2 with norms, 3 with per-layer statistics
    spelling: int
    log_lr: bool
    weight_norm: bool
    val: bool  # validation loss, and accuracy where there are classes
    layers: int  # how layers are spelt, see LAYERS
    window: bool  # log the mean loss since the last point
    config: str  # layout, "" for no config
    damage: str = ""
    clock: bool = False  # a column with the time of each row


def habit_of(name: str, plan: Plan, per_epoch: int, forced: dict[str, Any]) -> Habit:
    draw = random.Random("habit " + name)
    steps = plan.steps
    choices = [e for e in (1, 2, 5, 8, 10, 20, 50) if steps / e >= 25] or [1]
    every = draw.choice(choices)
    while steps / every > 1500:
        every *= 2
    if per_epoch > 4 and 8 <= steps // per_epoch <= 40 and draw.random() < 0.3:
        every = 0
    form = draw.choice(("events", "events", "csv", "sparse-csv", "jsonl", "hf"))
    tier = draw.choice((1, 1, 2, 2, 3))
    values = {
        "every": every,
        "form": form,
        "tier": tier,
        "spelling": draw.randrange(len(SPELLINGS)),
        "log_lr": draw.random() < 0.8,
        "weight_norm": draw.random() < 0.6,
        "val": draw.random() < 0.6,
        "layers": draw.randrange(len(LAYERS)),
        "window": every > 1 and draw.random() < 0.2,
        "config": draw.choice(("flat", "flat", "nested", "nested", "target", "hf", "training", "")),
        "clock": draw.random() < 0.4,
    }
    values.update(forced)
    if values["every"] == 0 and values["form"] == "hf":  # Trainer counts steps
        values["form"] = "jsonl"
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
    schedule |= plan.hook.get("schedule_settings", {})
    clip = {"grad_clip": plan.clip} if plan.clip is not None else {}
    extra = {"gradient_accumulation_steps": plan.accumulate} if plan.accumulate > 1 else {}
    precision = {"precision": "float16"} if plan.hook.keys() & {"half", "amp"} else {}
    precision = {"precision": plan.hook["precision"]} if "precision" in plan.hook else precision
    if layout == "flat":
        out = {"seed": plan.seed, "optimizer": name, "lr": plan.lr}
        if adam:
            out |= {"beta1": betas[0], "beta2": betas[1], "eps": kw.pop("eps", 1e-8)}
        return out | kw | batch | length | schedule | clip | extra | precision
    if layout == "nested":
        inner = {"name": name, "lr": plan.lr} | ({"betas": betas} if adam and betas != [0.9, 0.999] else {}) | kw
        return {"seed": plan.seed, "optimizer": inner, "train": batch | length | clip | extra | precision} | (
            {"scheduler": {"name": schedule.pop("scheduler")} | schedule} if schedule else {}
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
            out |= {"lr_scheduler_type": schedule.pop("scheduler")} | schedule
        out["max_grad_norm"] = plan.clip or 0.0  # unsaid, Trainer clips at 1.0
        return out | kw | extra | ({"fp16_full_eval": True} | precision if precision else {})
    settings = {"optimizer": CLASSES[name], "learning_rate": plan.lr} | ({"betas": betas} if adam else {}) | kw
    return {"training": settings | batch | length | schedule | clip | extra | precision, "seed": plan.seed}


Row = tuple[int, int, dict[str, float]]  # step, epoch, values


def layers_at(spelling: tuple[str, str, str, str], trace: Trace, step: int) -> dict[str, float]:
    """Per-layer values of a step that was looked at."""
    grad, weight, update, zeros = spelling
    values: dict[str, float] = {}
    for name, (g, w, u) in trace.layers.items():
        if math.isnan(g[step]):
            continue
        values[grad.format(name)] = float(g[step])
        if weight:
            values[weight.format(name)] = float(w[step])
        if update:
            values[update.format(name)] = float(u[step] / max(w[step], 1e-30))
    for name, share in trace.zeros.items() if zeros else ():
        if not math.isnan(share[step]):
            values[zeros.format(name)] = float(share[step])
    return values


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
        for name, series in trace.extra.items():
            if not math.isnan(series[step]) and not name.startswith(RANK):
                values[name] = float(series[step])
        if habit.tier >= 3:
            values |= layers_at(LAYERS[habit.layers], trace, step)
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
    if habit.val:
        for step, loss, accuracy in trace.val:
            values = {tags[4]: loss} | ({} if math.isnan(accuracy) else {tags[5]: accuracy})
            held.append((step // per_epoch if habit.every == 0 else step, step // per_epoch, values))
    return rows, held


#: How a series of another process is noted: "rank 1|loss".
RANK = "rank "


def write_events(folder: Path, rows: list[Row], held: list[Row], wall: np.ndarray, resumed_at: Sequence[int] = ()) -> None:
    """One event file, and one more with half an hour before it for each resume; `wall`: seconds of each step."""
    from torch.utils.tensorboard import SummaryWriter

    writer, left, shift = SummaryWriter(str(folder)), list(resumed_at), 0.0
    clock = time.time() + np.cumsum(wall)
    for step, _, values in sorted(rows + held, key=lambda r: r[0]):
        if left and step >= left[0]:
            writer.close()
            shift += 1800.0
            writer = SummaryWriter(str(folder), filename_suffix=f".resumed{len(resumed_at) - len(left) or ''}")
            left = [r for r in left if r > step]
        for tag, value in values.items():
            writer.add_scalar(tag, value, step, walltime=clock[min(step, len(clock) - 1)] + shift)
    writer.close()


def write_ranks(folder: Path, trace: Trace, tags: Sequence[str], habit: Habit) -> None:
    """An event file for each other process whose series were noted, with the tags of the first one."""
    names = dict(zip(("loss", "lr", "grad_norm", "weight_norm"), tags, strict=False))
    n, per_epoch = len(trace.loss), trace.steps_per_epoch
    at = range(0, n, habit.every) if habit.every else [min(n, k + per_epoch) - 1 for k in range(0, n, per_epoch)]
    for rank in sorted({name.partition("|")[0] for name in trace.extra if name.startswith(RANK)}):
        mine = {name.partition("|")[2]: one for name, one in trace.extra.items() if name.startswith(f"{rank}|")}
        seen = [k for k in mine if k == "loss" or (habit.tier >= 2 and (k != "weight_norm" or habit.weight_norm))]
        rows = [(step if habit.every else i, 0, {names[k]: float(mine[k][step]) for k in seen}) for i, step in enumerate(at)]
        apart = folder / rank.replace(" ", "_")
        write_events(apart, rows, [], trace.wall)
        for file in apart.iterdir():
            file.rename(folder / f"{file.name}.{apart.name}")
        apart.rmdir()


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


def write_jsonl(file: Path, rows: list[Row], held: list[Row], by_epoch: bool) -> None:
    """One JSON object a line, NaN as Python writes it."""
    with file.open("w", encoding="utf-8") as stream:
        for step, epoch, values in sorted(rows + held, key=lambda r: r[0]):
            stream.write(json.dumps(({"epoch": epoch} if by_epoch else {"step": step, "epoch": epoch}) | values) + "\n")


#: Our tags -> those of Hugging Face's Trainer.
TRAINER = ("loss", "learning_rate", "grad_norm", "weight_norm", "eval_loss", "eval_accuracy")


def write_trainer_state(file: Path, rows: list[Row], held: list[Row], tags: Sequence[str], per_epoch: int) -> None:
    """`trainer_state.json` as Hugging Face's Trainer writes it."""
    names = dict(zip(tags, TRAINER, strict=True))
    history = [
        {names.get(k, k): v for k, v in values.items()} | {"epoch": round(step / per_epoch, 4), "step": step}
        for step, _, values in sorted(rows + held, key=lambda r: r[0])
    ]
    state = {"best_metric": None, "epoch": history[-1]["epoch"], "global_step": history[-1]["step"], "log_history": history}
    file.write_text(json.dumps(state, indent=1))


def write_run(folder: Path, plan: Plan, habit: Habit, trace: Trace, label: dict[str, Any]) -> None:
    logs = folder / "logs"
    logs.mkdir(parents=True)
    rows, held = rows_of(plan, habit, trace)
    if habit.clock and habit.form not in ("events", "hf"):
        clock = time.time() + np.cumsum(trace.wall)
        for step, _, values in rows:
            at = (step + 1) * trace.steps_per_epoch - 1 if habit.every == 0 else step
            values["timestamp"] = round(float(clock[min(at, len(clock) - 1)]), 3)
    if habit.damage == "repeat":  # a crash and a restart from an older step
        cut = len(rows) * 2 // 3
        rows = rows[:cut] + rows[cut - len(rows) // 10 :]
    if habit.form == "events":
        resumed = plan.hook.get("resumed", plan.hook.get("lose_state", ()))
        resumed = (resumed,) if isinstance(resumed, int) else resumed
        at = [r // trace.steps_per_epoch for r in resumed] if habit.every == 0 else resumed
        write_events(logs, rows, held, trace.wall, at)
        tags = [t.format(cls=CLASSES[plan.optimizer]) for t in SPELLINGS[habit.spelling]]
        write_ranks(logs, trace, tags, habit)
        if habit.damage == "cut":
            file = next(logs.iterdir())
            data = file.read_bytes()
            file.write_bytes(data[: int(len(data) * 0.9) + 3])
    elif habit.form == "jsonl":
        write_jsonl(logs / random.Random(folder.name).choice(("metrics.jsonl", "log.jsonl")), rows, held, habit.every == 0)
    elif habit.form == "hf":
        tags = [t.format(cls=CLASSES[plan.optimizer]) for t in SPELLINGS[habit.spelling]]
        write_trainer_state(logs / "trainer_state.json", rows, held, tags, trace.steps_per_epoch)
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
