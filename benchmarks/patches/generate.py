# ruff: noqa: E501 -- a case of a table is one line
"""Configs and scripts of many dialects and layouts, each with a change of one setting, from a seed.

Every case knows its text, the change, and what the file must say afterwards to the loader of its user: PyYAML, tomllib, json,
Python itself, or a shell. Comments, blank lines, line ends, indentation, quotes and the spelling of numbers are drawn at random.
"""

import ast
import copy
import json
import random
import re
import shlex
import tomllib
from typing import NamedTuple

import yaml


class Case(NamedTuple):
    """A file, the change of a setting, and the path at which its loader finds the new value; `added`: the key was not there."""

    name: str
    text: str
    setting: str
    value: object
    path: tuple
    added: bool


class Dialect(NamedTuple):
    """Keys as a framework has them, the formats they are written in, and (setting, path, value) of what is changed or added."""

    name: str
    formats: tuple
    tree: dict
    changed: tuple
    added: tuple


PLAIN = {"seed": 1, "optimizer": "adam", "lr": 3e-4, "weight_decay": 0.01, "batch_size": 64, "epochs": 90}
BLOCK = {
    "run": "a-1",
    "optimizer": {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.1},
    "train": {"steps": 5000, "batch_size": 32, "grad_clip": 1.0},
}
TRAINER = {
    "output_dir": "out",
    "optim": "adamw_torch",
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "warmup_steps": 100,
    "per_device_train_batch_size": 8,
    "num_train_epochs": 3,
    "max_grad_norm": 1.0,
}
HYDRA = {
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-3, "eps": 1e-8},
    "batch_size": 16,
    "model": {"width": 64, "act": "relu"},
}
LIGHTNING = {
    "seed_everything": 7,
    "trainer": {"max_epochs": 5, "gradient_clip_val": 0.5},
    "model": {"class_path": "nets.Net", "init_args": {"width": 8}},
    "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.02, "weight_decay": 0.0}},
}
DEEPSPEED = {
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 2,
    "optimizer": {"type": "AdamW", "params": {"lr": 2e-4, "betas": [0.8, 0.999], "eps": 1e-8, "weight_decay": 3e-7}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": 0, "warmup_num_steps": 500}},
    "zero_optimization": {"stage": 2},
}
KERAS = {"optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999}}, "epochs": 12}
NANOGPT = {
    "out_dir": "out-owt",
    "init_from": "scratch",
    "n_layer": 12,
    "learning_rate": 6e-4,
    "max_iters": 600000,
    "lr_decay_iters": 600000,
    "beta1": 0.9,
    "beta2": 0.95,
    "weight_decay": 0.1,
    "block_size": 1024,
    "eval_interval": 1000,
}
MMENGINE = {
    "train_cfg": {"by_epoch": True, "max_epochs": 12},
    "optim_wrapper": {
        "type": "OptimWrapper",
        "optimizer": {"type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05},
    },
    "default_hooks": {"logger": {"type": "LoggerHook", "interval": 50}},
}
OPTIMIZER = ("optimizer",)
DIALECTS = (
    Dialect(
        "plain",
        ("yaml", "json", "toml", "py"),
        PLAIN,
        (
            ("optimizer.lr", ("lr",), 0.01),
            ("optimizer.weight_decay", ("weight_decay",), 0.1),
            ("batch_size", ("batch_size",), 128),
        ),
        (("optimizer.eps", ("eps",), 1e-4),),
    ),
    Dialect(
        "block",
        ("yaml", "json", "toml", "py"),
        BLOCK,
        (
            ("optimizer.lr", (*OPTIMIZER, "lr"), 3e-5),
            ("optimizer.beta2", (*OPTIMIZER, "betas", 1), 0.999),
            ("gradient.clip_norm", ("train", "grad_clip"), 0.25),
            ("optimizer.name", (*OPTIMIZER, "name"), "sgd"),
        ),
        (("optimizer.eps", (*OPTIMIZER, "eps"), 1e-6), ("optimizer.amsgrad", (*OPTIMIZER, "amsgrad"), True)),
    ),
    Dialect(
        "TrainingArguments",
        ("yaml", "json"),
        TRAINER,
        (("optimizer.lr", ("learning_rate",), 1e-5), ("schedule.warmup_steps", ("warmup_steps",), 2000)),
        (("optimizer.eps", ("adam_epsilon",), 1e-6), ("optimizer.beta2", ("adam_beta2",), 0.95)),
    ),
    Dialect(
        "Hydra",
        ("yaml",),
        HYDRA,
        (("optimizer.lr", (*OPTIMIZER, "lr"), 1e-4), ("optimizer.eps", (*OPTIMIZER, "eps"), 1e-3)),
        (("optimizer.beta2", (*OPTIMIZER, "betas"), 0.99),),
    ),
    Dialect(
        "LightningCLI",
        ("yaml",),
        LIGHTNING,
        (
            ("optimizer.lr", (*OPTIMIZER, "init_args", "lr"), 2e-3),
            ("gradient.clip_norm", ("trainer", "gradient_clip_val"), 1.5),
        ),
        (("optimizer.eps", (*OPTIMIZER, "init_args", "eps"), 1e-5),),
    ),
    Dialect(
        "DeepSpeed",
        ("json",),
        DEEPSPEED,
        (
            ("optimizer.lr", (*OPTIMIZER, "params", "lr"), 6e-5),
            ("optimizer.beta1", (*OPTIMIZER, "params", "betas", 0), 0.9),
            ("schedule.warmup_steps", ("scheduler", "params", "warmup_num_steps"), 2000),
        ),
        (("optimizer.amsgrad", (*OPTIMIZER, "params", "amsgrad"), True),),
    ),
    Dialect(
        "Keras",
        ("yaml", "json"),
        KERAS,
        (("optimizer.beta1", (*OPTIMIZER, "config", "beta_1"), 0.5),),
        (("optimizer.eps", (*OPTIMIZER, "config", "epsilon"), 1e-5),),
    ),
    Dialect(
        "nanoGPT",
        ("py",),
        NANOGPT,
        (("optimizer.lr", ("learning_rate",), 3e-4), ("optimizer.beta2", ("beta2",), 0.99)),
        (("gradient.clip_norm", ("grad_clip",), 1.0),),
    ),
    Dialect(
        "MMEngine",
        ("py",),
        MMENGINE,
        (
            ("optimizer.lr", ("optim_wrapper", "optimizer", "lr"), 2e-4),
            ("optimizer.beta2", ("optim_wrapper", "optimizer", "betas", 1), 0.95),
        ),
        (("optimizer.eps", ("optim_wrapper", "optimizer", "eps"), 1e-6),),
    ),
)
WORDS = (
    "peak",
    "tuned by hand",
    "was 1e-2 before",
    "größer ist schlechter",
    "学習率",
    "see lr: 0.5 {not here}",
    "a, b = [c]",
    "don't",
)


# -- layouts ----------------------------------------------------------------------------------------------------------


class Layout:
    """The choices of one file, drawn once."""

    def __init__(self, draw, suffix):
        self.draw = draw
        self.suffix = suffix
        self.comments = suffix != "json" and draw.random() < 0.8
        self.indent = draw.choice(["  ", "    ", "   "] if suffix == "yaml" else ["  ", "    ", "\t"])
        self.quote = draw.choice(['"', "'"])
        self.quoted_keys = draw.random() < 0.2
        self.flow = draw.random()
        self.spaced = draw.choice(["", " "]) if suffix == "json" else draw.choice([" ", " ", "   "])
        self.end = "\r\n" if draw.random() < 0.25 else "\n"
        self.marked = suffix in ("yaml", "json", "py") and draw.random() < 0.15
        self.open_ended = draw.random() < 0.25

    def comment(self, lead="  "):
        return f"{lead}# {self.draw.choice(WORDS)}" if self.comments and self.draw.random() < 0.4 else ""

    def between(self, indent=""):
        """Return lines that stand between two others: blank ones and comments, or none."""
        lines = []
        if self.suffix != "json" and self.draw.random() < 0.2:
            lines.append("")
        if self.comments and self.draw.random() < 0.25:
            lines.append(f"{indent}# {self.draw.choice(WORDS)}")
        return lines

    def number(self, value):
        """Return a number in one of the ways people spell it, which the format reads as a number."""
        ways = [repr(value)]
        if 1e-4 <= value < 1:
            ways += [f"{value:.6f}".rstrip("0")]
        if value and self.suffix == "yaml":
            ways = [f"{value:.1e}", *ways[1:]] if "e" in repr(value) else [*ways, f"{value:.1e}"]
        elif value:
            ways += [short for short in (f"{value:.0e}", f"{value:.1e}") if float(short) == value]
        return self.draw.choice(ways)

    def scalar(self, value):
        if isinstance(value, bool):
            return str(value) if self.suffix == "py" else str(value).lower()
        if isinstance(value, float):
            return self.number(value)
        if isinstance(value, (list, tuple)):
            inner = ", ".join(self.scalar(one) for one in value)
            return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
        if isinstance(value, int):
            return str(value)
        if self.suffix == "yaml":
            return value if self.draw.random() < 0.7 else f"{self.quote}{value}{self.quote}"
        return json.dumps(value) if self.suffix == "json" or self.quote == '"' else f"'{value}'"

    def text(self, lines):
        made = self.end.join(lines) + ("" if self.open_ended else self.end)
        return ("\ufeff" if self.marked else "") + made


def yaml_lines(layout, tree, indent=""):
    lines = []
    for key, value in tree.items():
        lines += layout.between(indent)
        name = f"{layout.quote}{key}{layout.quote}" if layout.quoted_keys else key
        if isinstance(value, dict) and layout.flow < 0.25 and not any(isinstance(v, dict) for v in value.values()):
            inner = [f"{k}: {layout.scalar(v)}" for k, v in value.items()]
            if layout.flow < 0.12:
                step = f"{indent}  {layout.indent}"
                lines += [f"{indent}{name}: {{", *(f"{step}{one},{layout.comment()}" for one in inner), f"{indent}  }}"]
            else:
                lines.append(f"{indent}{name}: {{{', '.join(inner)}}}{layout.comment()}")
        elif isinstance(value, dict):
            lines.append(f"{indent}{name}:{layout.comment()}")
            lines += yaml_lines(layout, value, indent + layout.indent)
        elif isinstance(value, list) and layout.draw.random() < 0.4:
            lines.append(f"{indent}{name}:")
            lines += [f"{indent}{layout.indent}- {layout.scalar(one)}{layout.comment()}" for one in value]
        else:
            lines.append(f"{indent}{name}:{layout.spaced}{layout.scalar(value)}{layout.comment()}")
    return lines


def json_lines(layout, tree):
    indent = layout.draw.choice([None, 2, 4, "\t"])
    separators = (",", ":") if indent is None and layout.spaced == "" else None
    text = json.dumps(tree, indent=indent, separators=separators)
    for value in {v for v in _floats(tree) if v}:
        text = re.sub(rf"(?<![\w.]){re.escape(repr(value))}(?![\w.])", layout.number(value), text)
    return text.split("\n")


def _floats(tree):
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list):
            yield from _floats(value)
        elif isinstance(value, float):
            yield value


def toml_lines(layout, tree):
    sign = layout.draw.choice([" = ", "=", "  = "])
    lines, tables = [], []
    for key, value in tree.items():
        if isinstance(value, dict) and layout.flow < 0.3:
            lines.append(
                f"{key}{sign}{{ {', '.join(f'{k}{sign}{layout.scalar(v)}' for k, v in value.items())} }}{layout.comment()}"
            )
        elif isinstance(value, dict) and layout.flow < 0.5:
            lines += [f"{key}.{k}{sign}{layout.scalar(v)}{layout.comment()}" for k, v in value.items()]
        elif isinstance(value, dict):
            tables += ["", f"[{key}]{layout.comment()}"]
            for k, v in value.items():
                tables += [*layout.between(), f"{k}{sign}{layout.scalar(v)}{layout.comment()}"]
        else:
            lines += [*layout.between(), f"{key}{sign}{layout.scalar(value)}{layout.comment()}"]
    return lines + tables


def python_value(layout, value, indent):
    if not isinstance(value, dict):
        return [layout.scalar(value)]
    braces = layout.flow < 0.3
    pairs = [
        (f"{layout.quote}{k}{layout.quote}: " if braces else f"{k}=", python_value(layout, v, indent + "    "))
        for k, v in value.items()
    ]
    opening, closing = ("{", "}") if braces else ("dict(", ")")
    if layout.flow < 0.6:
        inner = indent + "    "
        lines = [opening]
        for i, (head, made) in enumerate(pairs):
            comma = "," if i + 1 < len(pairs) or layout.draw.random() < 0.6 else ""
            made = [f"{inner}{head}{made[0]}", *made[1:]]
            lines += [*made[:-1], f"{made[-1]}{comma}{layout.comment()}"]
        return [*lines, indent + closing]
    return [f"{opening}{', '.join(head + ' '.join(part.strip() for part in made) for head, made in pairs)}{closing}"]


def python_lines(layout, tree):
    sign = layout.draw.choice([" = ", " = ", "="])
    lines = [f"# {layout.draw.choice(WORDS)}"]
    for key, value in tree.items():
        if layout.flow >= 0.6:
            layout.comments, kept = False, layout.comments
            made = python_value(layout, value, "")
            layout.comments = kept
        else:
            made = python_value(layout, value, "")
        lines += [*layout.between(), f"{key}{sign}{made[0]}", *made[1:]]
        lines[-1] += layout.comment()
    return lines


WRITERS = {"yaml": yaml_lines, "json": json_lines, "toml": toml_lines, "py": python_lines}


def configs(seed=0, rounds=6):
    """Yield the cases of every dialect in every format it has, each change in as many layouts as there are rounds."""
    for dialect in DIALECTS:
        for suffix in dialect.formats:
            for added, changes in ((False, dialect.changed), (True, dialect.added)):
                for setting, path, value in changes:
                    for i in range(rounds):
                        draw = random.Random(f"{seed} {dialect.name} {suffix} {setting} {added} {i}")
                        layout = Layout(draw, suffix)
                        lines = WRITERS[suffix](layout, dialect.tree)
                        if suffix == "yaml" and draw.random() < 0.2:
                            lines.insert(0, "---")
                        name = "config" if suffix != "py" or dialect.name == "plain" else f"config_{dialect.name.lower()}"
                        yield Case(f"{name}.{suffix}", layout.text(lines), setting, value, path, added)


# -- scripts and command lines ----------------------------------------------------------------------------------------

SCRIPTS = (
    ("import torch\n{c}\nmodel = torch.nn.Linear(2, 1)\nopt = torch.optim.Adam(model.parameters(), lr=0.001{a}){e}\nopt.zero_grad()\n", "lr", "eps"),
    ("import torch\nLR = 1e-3{e}\nmodel = torch.nn.Linear(2, 1)\n{c}\nopt = torch.optim.AdamW(model.parameters(), lr=LR{a})\nopt.zero_grad()\n", "LR", "eps"),
    ("from torch import nn, optim\nnet = nn.Linear(2, 1)\nopt = optim.SGD(\n    net.parameters(),\n    lr=0.1,{e}\n    momentum=0.9,\n)\n{c}\nopt.zero_grad()\n", "lr", "weight_decay"),
    ("import keras\n{c}\nmodel.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01{a}), loss='mse'){e}\n# backward(\n", "learning_rate", "epsilon"),
    ("from transformers import TrainingArguments\n{c}\nargs = TrainingArguments(\n    output_dir='out',\n    learning_rate=5e-5,{e}\n    bf16=True{a}\n)\n# backward(\n", "learning_rate", "adam_epsilon"),
)  # fmt: skip
FIELDS = {"eps": "eps", "epsilon": "eps", "adam_epsilon": "eps", "weight_decay": "weight_decay"}


def scripts(seed=0, rounds=6):
    """Yield training scripts with a number changed where it stands, or an argument added to the call."""
    for index, (template, rate, field) in enumerate(SCRIPTS):
        for i in range(rounds):
            draw = random.Random(f"{seed} script {index} {i}")
            layout = Layout(draw, "py")
            text = template.format(c=f"# {draw.choice(WORDS)}", e=layout.comment(), a=draw.choice(["", "  "]))
            made = layout.text(text.rstrip("\n").split("\n"))
            yield Case("train.py", made, "optimizer.lr", 3e-5, (rate,), False)
            yield Case("train.py", made, f"optimizer.{FIELDS[field]}", 1e-4, (field,), True)


COMMANDS = (
    ("#!/bin/bash\n{c}\npython train.py --lr 1e-3 --optim adam --epochs 3{e}\n", "lr"),
    ("torchrun train.py \\\n    --model gpt2 \\\n    --learning_rate 5e-5 \\\n    --adam_beta2 0.98 \\\n    --num_train_epochs 3\n{c}\n", "learning_rate"),
    ("{c}\nLR=0.001{e}\naccelerate launch train.py --learning_rate=$LR --optim adamw_torch\n", "LR"),
    ("ARGS=(\n  --lr=0.001\n  --optim adam\n)\n{c}\npython train.py ${{ARGS[@]}}\n", "lr"),
)  # fmt: skip


def commands(seed=0, rounds=5):
    """Yield launch scripts with an option changed, or one of Hugging Face's added."""
    for index, (template, option) in enumerate(COMMANDS):
        for i in range(rounds):
            draw = random.Random(f"{seed} command {index} {i}")
            layout = Layout(draw, "sh")
            layout.end, layout.marked = "\n", False  # a shell takes neither
            made = layout.text(template.format(c=f"# {draw.choice(WORDS[:5])}", e=layout.comment()).rstrip("\n").split("\n"))
            yield Case("run.sh", made, "optimizer.lr", 2e-4, (option,), False)
            if index == 1:
                yield Case("run.sh", made, "optimizer.eps", 1e-6, ("adam_epsilon",), True)


def cases(seed=0):
    """Yield all cases."""
    yield from configs(seed)
    yield from scripts(seed)
    yield from commands(seed)


# -- what the user's loader reads -------------------------------------------------------------------------------------


def _run(text):
    names = {}
    exec(compile(text, "config", "exec"), names)
    return {key: value for key, value in names.items() if key != "__builtins__"}


LOADERS = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads, "py": _run}


def expected(case):
    """Return what the loader of a config must read after the change, from what it reads before."""
    suffix = case.name.rpartition(".")[2]
    tree = copy.deepcopy(LOADERS[suffix](case.text.removeprefix("\ufeff")))
    *parents, last = case.path
    at = tree
    for step in parents:
        at, above = at[step], at
    if isinstance(at, tuple):
        above[parents[-1]] = tuple(case.value if i == last else one for i, one in enumerate(at))
    elif last == "betas":  # a pair with the other at its default
        at[last] = (0.9, case.value) if suffix == "py" else [0.9, case.value]
    else:
        at[last] = case.value
    return tree


def as_read(name, text):
    """Return what a config says to its loader."""
    return LOADERS[name.rpartition(".")[2]](text.removeprefix("\ufeff"))


class _Changed(ast.NodeTransformer):
    """A syntax tree with the change made in it."""

    def __init__(self, case):
        (self.name,), self.value, self.added = case.path, case.value, case.added

    def visit_Call(self, node):
        self.generic_visit(node)
        if self.added and any(k.arg in ("lr", "learning_rate") for k in node.keywords):
            node.keywords.append(ast.keyword(self.name, ast.Constant(self.value)))
        return node

    def visit_keyword(self, node):
        if not self.added and node.arg == self.name:
            node.value = ast.Constant(self.value)
        return self.generic_visit(node)

    def visit_Assign(self, node):
        if not self.added and isinstance(node.targets[0], ast.Name) and node.targets[0].id == self.name:
            node.value = ast.Constant(self.value)
        return self.generic_visit(node)


def script_holds(case, after):
    """Return whether a script is, but for the change, the same program."""
    before = _Changed(case).visit(ast.parse(case.text.removeprefix("\ufeff")))
    return ast.dump(before) == ast.dump(ast.parse(after.removeprefix("\ufeff")))


def command_holds(case, after):
    """Return whether a launch script gives, but for the change, the same words."""
    old, new = (shlex.split(text.replace("\\\n", " "), comments=True) for text in (case.text, after))
    if case.added:
        at = new.index(f"--{case.path[0]}")
        return float(new[at + 1]) == case.value and new[:at] + new[at + 2 :] == old
    differ = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    return len(differ) == 1 and float(differ[0][1].rpartition("=")[2]) == case.value
