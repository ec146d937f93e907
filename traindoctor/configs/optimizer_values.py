"""The numbers that a config sets for its optimizer, as the rules that judge them see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.vocabulary import SHARED_WORDS, normal, number
from traindoctor.optim.defaults import TORCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.file import ConfigFile
    from traindoctor.configs.vocabulary import Slot
    from traindoctor.mistake import Location

#: Dialects whose optimizer is not that of torch.optim, and takes any number.
UNCHECKED = frozenset({"DeepSpeed", "GPT-NeoX", "Megatron-LM", "Keras"})
#: Dialects of which no framework is known, or one that hands every key to the user's own code.
FREE = frozenset({"", "Hydra", "Stable-Baselines3", "Lightning hparams"})


def numbers(config: ConfigFile, field: str) -> Iterator[tuple[Slot, float]]:
    """Yield each number that the file itself sets for a field of the optimizer ("lr"), of its further groups too."""
    index = {"beta1": 0, "beta2": 1}.get(field)
    for setting, slot in config.reading.slots.items():
        group, _, last = setting.removeprefix("optimizer.").rpartition(".")
        if not setting.startswith("optimizer.") or (group and not group.isdigit()) or not is_own(config, slot):
            continue
        if group and last == "betas" and isinstance(slot.value, tuple) and index is not None:  # of a further optimizer
            yield slot._replace(setting=f"optimizer.{field}"), slot.value[index]
        elif last == field and (value := number(slot.value)) is not None:
            yield slot, value


def is_own(config: ConfigFile, slot: Slot) -> bool:
    """Whether the file itself sets a value, and surely for the optimizer: `eps` alone may be anything's."""
    if slot.entry.file is not None:
        return False
    if slot.context == "optimizer" or config.dialect not in FREE or normal(slot.entry.key) not in SHARED_WORDS:
        return True
    name = config.slot("optimizer.name") if normal(slot.entry.key) == "momentum" else None
    return name is not None and config.optimizer_name in TORCH and name.entry.block == slot.entry.block


def refused(config: ConfigFile) -> bool:
    """Whether the constructor of the config's optimizer refuses a value that is out of range: those of torch.optim do."""
    return config.dialect not in UNCHECKED and config.optimizer_name in TORCH and config.value("framework") in (None, "torch")


def place(config: ConfigFile, slot: Slot) -> Location:
    """Return where the number stands, within a pair of betas too."""
    index = {"optimizer.beta1": 0, "optimizer.beta2": 1}.get(slot.setting, -1)
    items = slot.entry.items
    if slot.entry.file is None and len(items) == 2 and index >= 0:
        return config.place_of(*items[index])
    return config.place(slot)
