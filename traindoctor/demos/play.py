"""A demo from start to end: train, write a real log, diagnose it by the real pipeline, retrain with the first fix, judge."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.code.loops import training_loops
from traindoctor.code.order import clears_correctly
from traindoctor.demos.lr_too_high import LR_TOO_HIGH
from traindoctor.demos.missing_zero_grad import MISSING_ZERO_GRAD
from traindoctor.demos.no_warmup import NO_WARMUP
from traindoctor.demos.over_trained_adam import OVER_TRAINED_ADAM
from traindoctor.demos.ravine import RAVINE
from traindoctor.demos.saddle import SADDLE
from traindoctor.demos.story import Performance, Retraining
from traindoctor.demos.training import KNOWN, train
from traindoctor.errors import TraindoctorError, did_you_mean
from traindoctor.pipeline import diagnose
from traindoctor.replay.verdict import course, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from traindoctor.demos.story import Demo
    from traindoctor.demos.training import Problem, Recipe, Training
    from traindoctor.model import Fix, Report

DEMOS: Mapping[str, Demo] = {
    demo.name: demo for demo in (OVER_TRAINED_ADAM, SADDLE, RAVINE, MISSING_ZERO_GRAD, NO_WARMUP, LR_TOO_HIGH)
}
#: A setting that stands in the script and not in a config: the script is the evidence for it.
OF_THE_SCRIPT = "gradient.zero_grad"


def find(name: str) -> Demo:
    """Return the demo of a name.

    Raises: TraindoctorError naming the nearest when there is none.
    """
    if (wanted := name.strip().lower()) in DEMOS:
        return DEMOS[wanted]
    raise TraindoctorError(name, "no demo has this name", *did_you_mean(wanted, DEMOS, 0.4), "traindoctor demo --list")


def play(demo: Demo, seed: int, folder: Path) -> Performance:
    """Return what came of a demo; the logs are left under `folder`: of the faulty runs, and of those trained again.

    Raises: TraindoctorError when there is already something under the names it would write.
    """
    problem = demo.problem(seed)
    runs = train(problem, (*demo.faulty, *demo.beside))
    faulty = runs[: len(demo.faulty)]
    paths = [_place(folder, demo, recipe) for recipe in demo.faulty]
    for path, training in zip(paths, faulty, strict=True):
        write_log(path, training, problem, seed, demo.script)
    report = diagnose(paths)
    retrainings, why_not = [], []
    for path, training, fix in zip(paths, faulty, first_fixes(report), strict=True):
        settings = None if fix is None else changed(fix, path)
        if fix is not None and settings is not None:
            retrainings.append(_retrain(problem, training, fix.title, settings, fix))
        elif fix is not None:
            why_not.append(f"{fix.title}: not something that this demo can train")
        for title, remedy in (demo.remedies or {}).items():
            retrainings.append(_retrain(problem, training, title, remedy))
    for i, again in enumerate(retrainings):
        path = _place(folder, demo, again.faulty.recipe, f"repair-{i + 1}")
        write_log(path, again.training, problem, seed, _patched(demo.script, again.fix))
    return Performance(demo, seed, runs, tuple(demo.measure(runs, seed)), report, tuple(retrainings), tuple(why_not))


def first_fixes(report: Report) -> list[Fix | None]:
    """Return the first fix of the first finding of each run, None where there is none."""
    return [run.findings[0].fixes[0] if run.findings and run.findings[0].fixes else None for run in report.runs]


def changed(fix: Fix, path: Path) -> Mapping[str, object] | None:
    """Return the settings that a fix changes, those of a patched script included; None when the trainer does not know them.

    `path`: the folder of the run's log. A patch of the script counts when the patched script clears its gradients.
    """
    if fix.settings:
        return fix.settings if set(fix.settings) <= KNOWN else None
    script = path / "train.py"
    if not fix.patch or not script.is_file():
        return None
    loops = training_loops(_patched(script.read_text(encoding="utf-8"), fix), script.name)
    return {OF_THE_SCRIPT: True} if loops and all(clears_correctly(loop) for loop in loops) else None


def apply_patch(text: str, patch: str) -> str:
    """Return the text with a unified diff of it applied.

    Raises: ValueError where the text is not what the diff was made of.
    """
    old, made, at = text.splitlines(), list[str](), 0
    for line in patch.splitlines():
        if start := re.match(r"@@ -(\d+)(?:,(\d+))? ", line):
            # a hunk without old lines names the line it comes after
            begin = int(start[1]) - (start[2] != "0")
            made += old[at:begin]
            at = begin
        elif line.startswith(("---", "+++", "\\")):
            continue
        elif line.startswith("+"):
            made.append(line[1:])
        else:
            if at >= len(old) or old[at] != line[1:]:
                raise ValueError(f"line {at + 1} is not {line[1:]!r}")
            if line.startswith(" "):
                made.append(old[at])
            at += 1
    return "\n".join([*made, *old[at:]]) + "\n"


def write_log(path: Path, training: Training, problem: Problem, seed: int, script: str = "") -> None:
    """Write a run as people leave it behind: metrics.csv, config.yaml, and train.py where there is a script.

    Raises: TraindoctorError when the folder exists and is not empty, or cannot be written.
    """
    if path.is_dir() and any(path.iterdir()):
        raise TraindoctorError(str(path), "is there already, and nothing is overwritten", "another folder for --keep")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with (path / "metrics.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["step", "loss", "grad_norm", "weight_norm", "lr"])
            columns = (training.loss, training.grad_norm, training.weight_norm, training.lr)
            for step, *values in zip(training.step, *columns, strict=True):
                writer.writerow([int(step), *(f"{value:.8g}" for value in values)])
        (path / "config.yaml").write_text(config_of(training.recipe, problem, seed), encoding="utf-8")
        if script:
            (path / "train.py").write_text(script, encoding="utf-8")
    except OSError as error:
        raise TraindoctorError(str(path), f"cannot be written: {error.strerror or error}", "another folder for --keep") from error


def config_of(recipe: Recipe, problem: Problem, seed: int) -> str:
    """Return the settings of a run as a YAML file, one block per first name."""
    blocks: dict[str, list[str]] = {}
    for key, value in recipe.settings.items():
        block, _, name = key.partition(".")
        if key != OF_THE_SCRIPT:
            blocks.setdefault(block, []).append(f"  {name}: {_yaml(value)}\n")
    lines = [f"seed: {seed}\n", *(f"{block}:\n{''.join(entries)}" for block, entries in blocks.items())]
    return "".join([*lines, f"train:\n  steps: {problem.n_steps}\n  log_every: {problem.every}\n"])


def _retrain(
    problem: Problem, faulty: Training, title: str, settings: Mapping[str, object], fix: Fix | None = None
) -> Retraining:
    (training,) = train(problem, [faulty.recipe.change(title, settings)])
    before, after = course(faulty.step, faulty.loss), course(training.step, training.loss)
    return Retraining(title, settings, fix, faulty, training, before, after, judge(before, after))


def _place(folder: Path, demo: Demo, recipe: Recipe, suffix: str = "") -> Path:
    """Return the folder of a run's log, named like the demo, and like the recipe where there are several."""
    parts: Sequence[str] = [demo.name, *([_slug(recipe.title)] if len(demo.faulty) > 1 else []), *([suffix] if suffix else [])]
    return folder / "-".join(parts)


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-")


def _patched(script: str, fix: Fix | None) -> str:
    return apply_patch(script, fix.patch) if script and fix is not None and fix.patch and not fix.settings else script


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    return np.format_float_positional(value, trim="0") if isinstance(value, float) else str(value)
