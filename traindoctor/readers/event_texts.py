"""What an event file holds beside its curves -> settings: the hyperparameters of the hparams plugin, and texts.

Scripts log their configuration as text because TensorBoard shows it: `add_text("hyperparameters", "|param|value|...")`
in CleanRL, `add_text("args", args.to_json_string())` in Hugging Face's Trainer, YAML in others. A text counts as
settings when its tag says so and the whole of it parses as a mapping; every other text is left alone.

Source: tensorboard/plugins/hparams/plugin_data.proto.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast

from traindoctor.readers.tags import spellings, words
from traindoctor.readers.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Words in the tag of a text that holds settings.
SETTINGS_WORDS = frozenset(
    spellings(
        "config configs configuration cfg conf hparams hparam hyperparams hyperparameters hyperparameter hp args arg "
        "arguments params parameters settings setting options opt opts flags"
    )
)
#: A longer text is no list of settings, in bytes.
LONGEST_TEXT = 2**18

_ROW = re.compile(r"^\s*\|?\s*(?P<name>[^|]+?)\s*\|\s*(?P<value>.*?)\s*\|?\s*$")
_RULE = re.compile(r"^[\s|:\-]*-[\s|:\-]*$")
_FENCE = re.compile(r"^\s*(?:```|~~~)[\w-]*\s*\n(?P<body>.*?)\n?\s*(?:```|~~~)\s*$", re.DOTALL)
_PLAIN_PAIR = re.compile(r"^\s*(?:[-*]\s+)?[\"'`*]*(?P<name>[A-Za-z_][\w./-]*)[\"'`*]*\s*[:=]\s*(?P<value>.*?)\s*$")


def parse_hparams(data: bytes) -> dict[str, object]:
    """Return the hyperparameters of HParamsPluginData.session_start_info: numbers, strings and truth values.

    Rare and small, so that TensorBoard's own classes decode it; they are imported for such a record alone.

    Raises: WireError when it does not parse.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        started = HParamsPluginData.FromString(data).session_start_info.hparams
    except DecodeError as error:
        raise WireError(f"hyperparameters that do not parse: {error}") from error
    plain = ("number_value", "string_value", "bool_value")
    return {name: getattr(value, kind) for name, value in started.items() if name and (kind := value.WhichOneof("kind")) in plain}


def settings_of(texts: Mapping[str, bytes]) -> dict[str, object]:
    """Return the settings in the texts of a file, by tag; none where no text is a mapping."""
    found: dict[str, object] = {}
    for tag, raw in texts.items():
        if SETTINGS_WORDS.isdisjoint(words(tag.removesuffix("/text_summary"))) or len(raw) > LONGEST_TEXT:
            continue
        found.update(parse_mapping(raw.decode("utf-8", "replace")))
    return found


def parse_mapping(text: str) -> dict[str, object]:
    """Return the mapping that a whole text stands for: a table of Markdown, JSON, YAML or `name: value` lines.

    None of it when a part of it does not parse.
    """
    fenced = _FENCE.match(text)
    body = (fenced["body"] if fenced else text).strip()
    if not body:
        return {}
    if body.startswith("{"):
        return _json(body) or _yaml(body)
    lines = [line for line in body.splitlines() if line.strip()]
    if "|" in lines[0]:
        return _table(lines)
    return _yaml("\n".join(lines)) or _pairs(lines)


def _json(body: str) -> dict[str, object]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _yaml(body: str) -> dict[str, object]:
    """Return a mapping in YAML; the pure loader without tags, so that nothing is made but plain values."""
    if sum(map(body.count, "[{")) > 1000 or "&" in body or "*" in body or "!!" in body:
        return {}  # anchors blow up, tags make objects
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(body)
    except (YAMLError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) and key for key in found):
        return {}
    return cast("dict[str, object]", found)


def _table(lines: list[str]) -> dict[str, object]:
    rows = [_ROW.match(line) for line in lines]
    rule = next((k for k, line in enumerate(lines) if _RULE.match(line)), 0)
    if rule != 1 or not all(rows):
        return {}
    return {_name(row["name"]): value_of(row["value"]) for row in rows[2:] if row}


def _pairs(lines: list[str]) -> dict[str, object]:
    pairs = [_PLAIN_PAIR.match(line) for line in lines]
    found = {pair["name"]: value_of(pair["value"]) for pair in pairs if pair}
    if not all(pairs) or any(isinstance(value, str) and value.startswith(tuple("[{&*!")) for value in found.values()):
        return {}
    return found


def _name(text: str) -> str:
    return text.strip("*`_ ") or text


def value_of(text: str) -> object:
    """Return the plain value that a cell stands for: a number, a truth value, None, a list, else the text itself."""
    bare = text.strip().strip("`")
    if bare in ("True", "true"):
        return True
    if bare in ("False", "false"):
        return False
    if bare in ("None", "null", ""):
        return None
    for kind in (int, float):
        try:
            return kind(bare)
        except ValueError:
            continue
    if bare[0] in "[(" and bare[-1] in "])" and len(bare) < 1000:
        inner = [part.strip() for part in bare[1:-1].split(",") if part.strip()]
        if not any(bracket in part for part in inner for bracket in "[](){}"):
            return [value_of(part) for part in inner]
    return bare.strip("\"'")
