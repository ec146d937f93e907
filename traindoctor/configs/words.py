"""Whether a text may be the config of a training run, by its words, before anything is parsed. Light: `check` asks it of all."""

from __future__ import annotations

from traindoctor.patterns import lazy

#: Words of which one stands in every config of an optimizer or of a schedule.
_WORDS = lazy(
    r"(?i)(?<![a-z])lr(?![a-z])|learn\w{0,3}g?[_ -]?rate|learningrate|optim|lr0|base_lr|_lr\b|batch_size|gradient_accumulation"
    r"|per_device|micro_batch|ims_per_batch|warmup|weight_decay|max_steps|max_epochs|max_iter|gradient|deepspeed|zero_optim|\bbf16\b|\bfp16\b"
)
#: What a Python file that is more than settings holds.
_PROGRAM = lazy(
    r"(?m)\.backward\(|zero_grad\(|^\s*class\s|__main__|argparse|add_argument|^\s*(?:async\s+)?def (?!get_\w*configs?\b)"
)


def is_program(text: str) -> bool:
    """Whether a Python file is more than a list of settings."""
    return _PROGRAM.search(text) is not None


def may_be_config(text: str, suffix: str) -> bool:
    """Whether a text may be the config of a training run: the words of one stand in it, and no program's in a Python file."""
    return _WORDS.search(text) is not None and (suffix.lower() != ".py" or not is_program(text))
