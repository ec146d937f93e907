"""The keys that decide a training, by dialect, and which of them a key was meant to be that someone mistyped.

Source of the keys: transformers, training_args.py; axolotl, utils/schemas; deepspeed, runtime/config.py; Lightning, the arguments
of Trainer; torchtitan, config/job_config.py; detectron2, config/defaults.py; sd-scripts, library/train_util.py; ultralytics,
cfg/default.yaml; torchtune, recipes/configs; timm and nanoGPT, train.py; fairseq, dataclass/configs.py; GPT-NeoX, arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.lengths import TRAINER
from traindoctor.configs.vocabulary import ANYWHERE_KEYS, GRADIENT_KEYS, OPTIMIZER_KEYS, SCHEDULE_KEYS, normal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile

_OF_TRAINER = """learning_rate per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps weight_decay
 adam_beta1 adam_beta2 adam_epsilon max_grad_norm num_train_epochs max_steps lr_scheduler_type lr_scheduler_kwargs warmup_ratio
 warmup_steps optim_args logging_steps save_steps eval_steps save_strategy eval_strategy evaluation_strategy logging_strategy
 gradient_checkpointing output_dir save_total_limit"""
_OF_DEEPSPEED = """train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps gradient_clipping zero_optimization
 warmup_min_lr warmup_max_lr warmup_num_steps total_num_steps weight_decay loss_scale initial_scale_power loss_scale_window"""
_OF_YOLO = "weight_decay momentum warmup_epochs warmup_momentum warmup_bias_lr epochs optimizer"
#: Keys of a dialect whose own parser reads them: a key close to one of them that is none of them is that key, mistyped.
KEYS: dict[str, frozenset[str]] = {
    dialect: frozenset(keys.split())
    for dialect, keys in {
        **dict.fromkeys(TRAINER, _OF_TRAINER),
        "axolotl": _OF_TRAINER
        + " micro_batch_size eval_batch_size num_epochs lr_scheduler optimizer learning_rate sequence_len sample_packing",
        "DeepSpeed": _OF_DEEPSPEED,
        "GPT-NeoX": _OF_DEEPSPEED + " train_iters lr_decay_iters lr_decay_style min_lr eval_interval eval_iters seq_length",
        "LightningCLI": """max_epochs min_epochs max_steps min_steps gradient_clip_val gradient_clip_algorithm
 accumulate_grad_batches precision check_val_every_n_epoch val_check_interval log_every_n_steps limit_train_batches
 limit_val_batches weight_decay momentum learning_rate""",
        "torchtitan": """warmup_steps decay_ratio decay_type min_lr_factor local_batch_size global_batch_size max_norm
 weight_decay""",
        "Detectron2": """base_lr base_lr_end max_iter weight_decay weight_decay_norm weight_decay_bias ims_per_batch warmup_iters
 warmup_factor warmup_method momentum checkpoint_period bias_lr_factor lr_scheduler_name reference_world_size""",
        "kohya": """learning_rate max_train_steps max_train_epochs lr_warmup_steps train_batch_size max_grad_norm optimizer_type
 optimizer_args network_dim network_alpha network_args mixed_precision gradient_accumulation_steps gradient_checkpointing
 lr_scheduler lr_scheduler_type lr_scheduler_args lr_decay_steps unet_lr""",
        "Ultralytics": _OF_YOLO,
        "YOLOv5": _OF_YOLO,
        "torchtune": """gradient_accumulation_steps max_steps_per_epoch clip_grad_norm optimizer_in_bwd num_warmup_steps
 batch_size weight_decay""",
        "timm": """weight_decay warmup_epochs warmup_lr warmup_prefix decay_rate decay_epochs decay_milestones cooldown_epochs
 patience_epochs batch_size validation_batch_size momentum clip_grad clip_mode opt_betas opt_eps lr_base lr_base_size
 lr_base_scale""",
        "nanoGPT": """learning_rate max_iters lr_decay_iters min_lr weight_decay grad_clip warmup_iters batch_size block_size
 gradient_accumulation_steps decay_lr eval_interval eval_iters log_interval""",
        "Composer": """global_train_batch_size device_train_batch_size device_train_microbatch_size device_eval_batch_size
 max_duration eval_interval t_warmup weight_decay""",
        "Keras": "learning_rate beta_1 beta_2 epsilon momentum nesterov weight_decay clipnorm clipvalue global_clipnorm",
        "fairseq": "update_freq max_update max_epoch clip_norm warmup_updates adam_betas adam_eps weight_decay total_num_update",
    }.items()
}
#: Blocks in which the keys of a dialect stand; in others, a model's or a data set's, keys are not its own.
BLOCKS: dict[str, frozenset[str]] = {
    "DeepSpeed": frozenset({"", "optimizer.params", "scheduler.params", "fp16", "bf16"}),
    "GPT-NeoX": frozenset({"", "optimizer.params", "scheduler.params", "fp16"}),
    "LightningCLI": frozenset({"trainer", "optimizer.init_args", "optimizer", "model.init_args", "model"}),
    "torchtitan": frozenset({"optimizer", "lr_scheduler", "training"}),
    "Detectron2": frozenset({"solver"}),
    "Composer": frozenset({"", "optimizer", "scheduler"}),
    "Keras": frozenset({"config", "optimizer.config", "optimizer_config.config"}),
    "torchtune": frozenset({"", "optimizer", "lr_scheduler"}),
    "fairseq": frozenset({"", "optimization", "optimizer", "lr_scheduler"}),
}

_VOCABULARY = frozenset({*ANYWHERE_KEYS, *OPTIMIZER_KEYS, *SCHEDULE_KEYS, *GRADIENT_KEYS})
_TOKENS = frozenset(token for key in _VOCABULARY for token in key.split("_"))
#: Words of the vocabulary of which people make keys of their own by another ending: plurals, `optimized`, `scheduling`.
_ENDINGS = ("s", "es", "d", "ed", "er", "ers", "ing", "r", "or", "al", "")


#: How many different keys of a config are looked at: one with more is data.
MAX_KEYS = 500


def mistyped(config: ConfigFile) -> Iterator[tuple[Entry, str]]:
    """Yield the keys that the file itself writes and that were meant to be another, with the one that was meant.

    A dialect that reads its keys itself is held to them. Elsewhere a key counts as mistyped only where one of its words is no
    word: `weigth_decay`, not `num_epoch`.
    """
    siblings: dict[tuple[str, ...], set[str]] = {}
    own, sections = KEYS.get(config.dialect), _sections(config)
    for entry in config.entries:
        if own is None or entry.file is None:  # what a base sets, the misspelt key was to set anew
            for n, part in enumerate(entry.path):
                siblings.setdefault(entry.path[:n], set()).add(normal(part))
    taken = set().union(*siblings.values())
    seen: set[tuple[str, ...]] = set()
    for entry in config.own_entries:
        key = normal(entry.key)
        if len(key) < 6 or key in _VOCABULARY or key.isdigit() or entry.path in seen:
            continue
        if len(seen) >= MAX_KEYS:
            return
        seen.add(entry.path)
        if own is None:
            right = _closest(key, [word for word in _VOCABULARY - taken if _misspells(key, word)])
        elif key in own or ".".join(map(normal, entry.block)) not in sections:
            continue
        else:
            here = siblings.get(entry.block, set())
            right = _closest(key, [word for word in own - here if len(word) >= 6 and near(key, word)])
        if right:
            yield entry, right


def _sections(config: ConfigFile) -> frozenset[str]:
    """Return the blocks in which keys of the dialect stand; all of a file whose sections are for people alone, as in kohya's."""
    if config.dialect == "kohya":
        return frozenset({"", *config.shape.blocks})
    return BLOCKS.get(config.dialect, frozenset({""}))


def _closest(key: str, words: Collection[str]) -> str:
    """Return the one word that is closest; "" where two are."""
    ranked = sorted((distance(key, word), word) for word in words)
    return ranked[0][1] if ranked and (len(ranked) == 1 or ranked[0][0] < ranked[1][0]) else ""


def near(key: str, word: str) -> bool:
    """Whether one or, in a long word, two letters tell a key from a word."""
    allowed = 2 if len(word) >= 10 else 1
    return abs(len(key) - len(word)) <= allowed and 0 < distance(key, word) <= allowed


def _misspells(key: str, word: str) -> bool:
    """Whether exactly one part between underscores is a misspelt word of the vocabulary, and the others are those of `word`."""
    mine, its = key.split("_"), word.split("_")
    if len(mine) != len(its):
        return False
    differing = [(a, b) for a, b in zip(mine, its, strict=True) if a != b]
    if len(differing) != 1 or len(word) < 6:
        return False
    typed, right = differing[0]
    if typed in _TOKENS or not typed.isalpha() or _is_inflected(typed, right):
        return False
    if len(right) >= 6:
        return near(typed, right) and (len(its) > 1 or len(right) >= 8)
    return len(right) == 5 and sorted(typed) == sorted(right) and distance(typed, right) == 1 and len(its) > 1


def _is_inflected(typed: str, right: str) -> bool:
    """Whether two words share a stem and differ in their ending alone."""
    return any(
        typed.endswith(a) and right.endswith(b) and typed[: len(typed) - len(a)] == right[: len(right) - len(b)]
        for a in _ENDINGS
        for b in _ENDINGS
        if a != b
    )


def distance(one: str, other: str) -> int:
    """Return how many letters must be put in, left out, exchanged, or swapped with their neighbour; 3 stands for 3 and more.

    Source: Damerau 1964, A technique for computer detection and correction of spelling errors, doi:10.1145/363958.363994.
    """
    if abs(len(one) - len(other)) > 2 or len(one) > 60:
        return 3
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return min(3, last[-1])


def stands_in(key: str, texts: Iterable[str]) -> bool:
    """Whether a key stands in one of these texts: a program that reads it under that name."""
    return any(key in text for text in texts)
