"""The arguments of Hugging Face's Trainer and the DeepSpeed config that they name: two files that are read together.

The arguments name it by `deepspeed: ds_config.json`, or hold it as a block. Where a DeepSpeed config is looked at, the
arguments are looked for among the files beside it that name it.

Source: transformers, integrations/deepspeed.py, `HfTrainerDeepSpeedConfig.trainer_config_process`: "auto" is filled in from the
arguments, any other value must equal them, or the run is refused ("Please correct the following DeepSpeed config values that
mismatch TrainingArguments values").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.configs.documents import COMMANDS
from traindoctor.configs.lengths import TRAINER
from traindoctor.configs.vocabulary import normal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile


class Pair(NamedTuple):
    """The arguments of the Trainer and the DeepSpeed config that they name, which may be a block of the same file."""

    arguments: ConfigFile
    deepspeed: ConfigFile
    block: str  # of the DeepSpeed config in its file, "" for the whole file

    def of_deepspeed(self, path: str) -> Entry | None:
        """Return the entry at a dotted path of the DeepSpeed config."""
        return self.deepspeed.at(self.block + path)

    def of_arguments(self, *keys: str) -> Entry | None:
        """Return the argument under the first of these names that is set."""
        found = {normal(entry.key): entry for entry in self.arguments.entries if not entry.path[0].startswith("deepspeed")}
        return next((found[key] for key in keys if key in found and found[key].value is not None), None)


def pairs(config: ConfigFile) -> Iterator[Pair]:
    """Yield the pairs that a config is a part of."""
    if config.dialect in TRAINER:
        named = next((e for e in config.entries if normal(e.key) == "deepspeed" and isinstance(e.value, str)), None)
        if any(path.startswith("deepspeed.") for path in config.shape.at):
            yield Pair(config, config, "deepspeed.")
        elif named is not None and (held := config.beside(str(named.value))) is not None and held.dialect == "DeepSpeed":
            yield Pair(config, held, "")
    elif config.dialect == "DeepSpeed" and config.suffix not in COMMANDS:
        for arguments in config.neighbours_that_name_it():
            if arguments.dialect in TRAINER:
                yield Pair(arguments, config, "")
