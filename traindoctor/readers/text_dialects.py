"""The shape of a printed line, its text with the numbers blanked out -> what each of the numbers is.

Every framework prints in a dialect of its own; what they share is that words before a number name it, and that some of the
names count. A shape is worked out once and then serves every line that has it.

Shapes seen in the sources and logs of: Megatron-LM, DeepSpeed, fairseq, torchtitan, nanoGPT, llm.c, Hugging Face Trainer,
Keras, tqdm, the examples of PyTorch, MMEngine, Detectron2, timm, Lightning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from traindoctor.readers.table import EPOCH_COLUMNS, STEP_COLUMNS
from traindoctor.readers.tags import NOISE, TEST, TRAIN, VALIDATION, quantity_of, spellings, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Stand-ins for "nan" and "inf" where those words are values, so that a line has the same shape with them.
NAN, INFINITY = "\x01", "\x02"
#: The longest name of a metric, in characters and in words.
LONGEST_NAME, MOST_WORDS = 64, 8

#: A number: not inside a word ("top1", "Acc@1", "H100", "top-5") and no part of a version; a time of day is one token.
#: It begins with a class of characters, which the engine looks for quickly; what must not stand before comes after.
NUMBER = re.compile(
    r"([-+.\d\x01\x02](?<![\w.@].)(?:(?<![A-Za-z_]-.)|(?<=(?:poch|step|iter)-.))"
    r"(?:(?<=[\d\x01\x02])|(?<=[-+.])(?=[.\d\x01\x02])[\x01\x02]?)"
    r"(?:(?<=[\[(].)\d*|(?<![\[(].)\d*(?:(?<!\d{4}),\d{3}(?!\d))*)"
    r"(?:(?::\d\d){1,2}(?!\d)(?:[.,]\d{3,6}(?!\d))?|(?:\.\d*)?(?:[eE][-+]?\d+)?))",
    re.ASCII,
)
_NANS = re.compile(r"(?<![\w.\-+])[-+]?(?:nan|inf(?:inity)?)(?=(?:ms|s|z|%|x)?(?!\w))", re.IGNORECASE)
_NAMED_BEFORE = re.compile(r"(?:[:=(\[,+/|~{'\"]|loss|norm|ppl|acc|lr|scale)\s*$", re.IGNORECASE)
_ENDS_AFTER = re.compile(r"\w{0,2}\s*(?:$|[|,;)\]}/%'\"])")

#: Words that connect a name with what comes before it, or stand between it and its number.
LINKS = frozenset(
    spellings(
        "a after an and as at by during for from had has have in is of on reached so that the then to took was were with within"
    )
)
LEVELS = frozenset(spellings("debug info warning warn error critical trace notice root main __main__ stdout stderr"))
#: Words of units that may follow a number after a blank.
UNITS = frozenset(
    spellings(
        "b kb mb gb tb kib mib gib ms us ns s sec secs second seconds min mins minutes h hours it it/s steps/s samples/s "
        "tok/s tokens/s img/s ex/s x days day ms/step s/step us/step epochs"
    )
)
#: Names that number something and measure nothing.
NO_METRICS = frozenset(
    spellings(
        "eta eta_seconds remaining day days rank local_rank world_size gpu cuda device node pid port line v_num version "
        "dtype seed max_epochs max_steps"
    )
)
SPLITS = TRAIN | VALIDATION | TEST
HELD_OUT = VALIDATION | TEST
_STEPS = {name: i for i, name in enumerate(STEP_COLUMNS)}
#: Names that count within an epoch, and are global only where nothing says otherwise.
_QUALIFIERS = SPLITS | {"current", "global_step", "train_inner", "d2", "evt", "trainer"}

_WRAPPER = re.compile(r"(?:tensor|array|(?:np\.)?float(?:16|32|64)|Array|DeviceArray)\(\[?$")
_UNIT = re.compile(r"(?:%|/?[A-Za-zµ]{1,9}(?:/[A-Za-z]{1,9})?)(?![\w=:])")
_DOTTED = re.compile(r"\w ?\.{4,} ?")
_VERSION = re.compile(r"\.\d[\w.+\-]*")
_CALL = re.compile(r"(\w+)\((\w+)\)$")
_SOURCE_LINE = re.compile(r"(?:\.\w{1,4}[:(]|[\w.<>]+:[\w.<>]+:|[\[(]\w+\.[\w.]+:|\(\w+:|, line )$")
#: A count that is named behind: "2epoch:train:1-50batch:" of ESPnet.
_NAMED_BEHIND = re.compile(r"(epoch|batch|num_updates)(?=[:\s])")
#: A unit that stands in parentheses with its number: "loss = 79.3 (57.1 sec/step)".
_INNER_UNIT = re.compile(r"\s?([A-Za-z/%]{1,12})\)")
_STATIC_RANK = re.compile(r"\[?\b(?:rank|default)[ _]?(\d{1,5})\b\]?:?", re.IGNORECASE)
_CUT = re.compile(r"[|,;\[\](){}'\"`<>&\t]|\s[-\u2013\u2014\u2022*#]+\s|\s{2,}|->|=>|--+")
_OVERFLOW = re.compile(r"overflow.{0,40}skipping step", re.IGNORECASE | re.DOTALL)


def with_nans(line: str) -> str:
    """Return the line with NaN and infinity as one character each, where they are values and no words of a sentence."""

    def stand_in(match: re.Match[str]) -> str:
        before, after = line[max(match.start() - 24, 0) : match.start()], line[match.end() : match.end() + 24]
        if not (_NAMED_BEFORE.search(before) or _ENDS_AFTER.match(after)):
            return match[0]
        sign = match[0][0] if match[0][0] in "+-" else ""
        return sign + (NAN if match[0].lower().endswith("nan") else INFINITY)

    return _NANS.sub(stand_in, line)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the numbers of a line are: positions among its numbers, -1 where it has none such.

    `tags`: (tag, position, unit) of each metric. `step`: a named count, `step_name` its name, `step_total` the m of its
    "n/m". `place`, `total`: n and m of an unnamed "n/m". `epoch`, `epoch_name`. `rank`: number of the process,
    `fixed_rank` where it is part of the text. `split`: the word that says of which data the line tells, "" for none.
    `is_bar`: a progress bar, `plain_bar` one without a description. `dates`: positions of year, month, day, time of day.
    `is_overflow`: a step was skipped because the scaled gradient overflowed.
    """

    tags: tuple[tuple[str, int, str], ...]
    step: int = -1
    step_name: str = ""
    step_total: int = -1
    place: int = -1
    total: int = -1
    epoch: int = -1
    epoch_name: str = ""
    rank: int = -1
    fixed_rank: int = -1
    split: str = ""
    is_bar: bool = False
    plain_bar: bool = False
    dates: tuple[int, int, int, int] | None = None
    is_overflow: bool = False

    @property
    def counts(self) -> bool:
        """Whether the line says how far the run is."""
        return self.step >= 0 or self.place >= 0 or self.epoch >= 0

    @property
    def is_held_out(self) -> bool:
        """Whether the line tells of validation or test."""
        return self.split in HELD_OUT or self.split == "sanity"


@dataclass(slots=True)
class _Slot:
    """A number of a line while its name is worked out: the text before it, and what is known of it."""

    left: str
    text: str
    name: str = ""
    context: str = ""
    split: str = ""
    unit: str = ""
    opened: str = ""
    used: bool = False
    follows: bool = False


def shape_of(pieces: Sequence[str], numbers: Sequence[str]) -> Shape:
    """Return what the numbers of a line are: `pieces` (n + 1,) of text around its `numbers` (n,)."""
    if any("Namespace(" in piece for piece in pieces) or _DOTTED.search(pieces[0]):  # settings
        return Shape(())
    slots = [_Slot(left, text) for left, text in zip(pieces, numbers, strict=False)]
    tail = pieces[-1]
    for slot, after in zip(slots, [*pieces[1:-1], tail], strict=True):
        unit = _UNIT.match(after)
        slot.unit = unit[0] if unit else ""
        version = _VERSION.match(after)
        if version:
            slot.used, slot.unit = True, version[0]
    dates = _find_dates(slots)
    _name(slots)
    is_bar = "it/s" in tail or "s/it" in tail or any("it/s" in slot.left or "s/it" in slot.left for slot in slots)
    found: dict[str, object] = {"dates": dates, "is_bar": is_bar}
    rank = _find_rank(slots, pieces)
    found.update(rank)
    described = _find_description(slots) if is_bar else ""
    _find_counts(slots, tail, found)
    if _counter(described) in EPOCH_COLUMNS and "epoch" not in found and "place" in found:  # "Epochs:  10%|#  | 1/10"
        found.update(epoch=found.pop("place"), epoch_name=described)
    if is_bar and found.get("place", -1) != -1:
        found["plain_bar"] = not described
        found["split"] = next((word for word in words(described) if word in HELD_OUT or word == "sanity"), found["split"])
    if not found.get("split"):
        found["split"] = _split_before_count(pieces)
    if _OVERFLOW.search("".join(pieces)):
        return Shape(tuple(_overflow_tags(slots)), **found, is_overflow=True)  # type: ignore[arg-type]
    return Shape(tuple(_tags(slots, tail)), **found)  # type: ignore[arg-type]


# -- names ------------------------------------------------------------------------------------------------------------


def _split_before_count(pieces: Sequence[str]) -> str:
    """Return the word of held-out data right before a count: "test epoch: 3 || Loss: 4.4"; "" where there is none."""
    for piece in pieces:
        *_, before, last = ["", "", *words(piece)]
        if before in HELD_OUT and (last in EPOCH_COLUMNS or last in STEP_COLUMNS):
            return before
    return ""


def _name(slots: Sequence[_Slot]) -> None:
    """Find the words that name each number, and the data ("train", "valid") that they speak of."""
    split, open_list = "", ""
    for i, slot in enumerate(slots):
        if slot.used:
            continue
        left = slot.left
        previous = slots[i - 1] if i else None
        if previous is not None:
            left = left[len(previous.unit) :] if previous.unit and left.startswith(previous.unit) else left
        body = _WRAPPER.sub("", left)
        stripped = body.rstrip(" \t'\"([{")
        slot.opened = body[len(stripped) :].strip()
        slot.follows = previous is not None and not previous.used and not stripped.strip() and bool(slot.opened == "(")
        call = _CALL.search(stripped) if slot.opened else None
        if call and call[2].lower() in SPLITS:
            slot.name, split, stripped = call[1], call[2].lower(), ""
        else:
            if _SOURCE_LINE.search(left) and not left.endswith(": "):
                slot.used = True
                continue
            slot.name, slot.context = _name_in(stripped, i == 0, attached=body == stripped)
        said = re.findall(r"[A-Za-z_]+", stripped[: max(len(stripped.rstrip(" :=")) - len(slot.name), 0)])
        told = [word.lower() for word in said if word.lower() in SPLITS or word == "train_inner"]
        if told:
            split = told[-1]
        parts = words(slot.name)
        if parts and SPLITS.issuperset(parts):
            split = parts[0]
        slot.split = split
        if not slot.name and open_list and re.fullmatch(r"\s*\)?,\s*\(?\s*", body):
            slot.name = f"{open_list.partition('[')[0]}[{int((open_list.partition('[')[2] or '0]')[:-1]) + 1}]"
            open_list = slot.name
            continue
        open_list = slot.name if slot.opened.startswith("[") and slot.name else ""


def _find_description(slots: Sequence[_Slot]) -> str:
    """Return the words before the bar; the numbers among them count epochs or nothing."""
    end = next((i for i, slot in enumerate(slots) if slot.unit == "%"), -1)
    for slot in slots[: end + 1]:
        slot.used |= _counter(slot.name) not in EPOCH_COLUMNS or slot.unit == "%"
    return " ".join(slot.name for slot in slots[: end + 1] if slot.name)


def _name_in(text: str, first: bool, attached: bool) -> tuple[str, str]:
    """Return the name at the end of a text, "" for none, and the words before it that belong to it.

    `attached`: nothing stands between the text and the number.
    """
    bare = text.rstrip()
    ending = bare[-1:] if bare[-1:] in ("=", ":") else ""
    bare = bare.rstrip("=:").rstrip(" .'\"")
    if not ending and attached:
        return "", ""  # "checkpoint-500", "x512": part of a word
    last = _CUT.split(bare)[-1].strip()
    if not last and bare.rstrip().endswith(")"):  # "elapsed time per iteration (ms):"
        match = re.search(r"([^|,;\[\]{}<>\t]*\([^()]*\))$", bare)
        last = match[1].strip() if match else ""
    if ":" in last:
        last = last.rpartition(":")[2].strip() or last.strip(": ")
    if "=" in last:
        last = last.rpartition("=")[2].strip()
    tokens = last.split()
    while tokens and tokens[0].lower().strip(".") in UNITS | LEVELS and (len(tokens) > 1 or not first):
        tokens.pop(0)
    while tokens and tokens[0][:1] in "/%" and not re.search(r"[A-Za-z]/|/[A-Za-z_]{3}", tokens[0]):
        tokens[0] = tokens[0].lstrip("/%")
        if not tokens[0]:
            tokens.pop(0)
    context: list[str] = []
    if len(tokens) > 1 and tokens[-1].lower() == "value":
        tokens.pop()
    if ending != ":" or any(token.lower() in ("at", "after") for token in tokens):
        while tokens and tokens[-1].lower() in LINKS:
            tokens.pop()
        for k in range(len(tokens) - 1, -1, -1):
            if tokens[k].lower() in LINKS:
                context, tokens = tokens[:k], tokens[k + 1 :]
                break
    if ending == "=" and text.rstrip().endswith("=") and not re.search(r"\s=$", text.rstrip()) and len(tokens) > 1:
        keep = 2 if tokens[-2].lower() in SPLITS or tokens[-2].lower() == "lm" else 1
        tokens = tokens[-keep:]
    elif not ending and len(tokens) > 3:
        tokens = tokens[-3:]
    name = " ".join(tokens).lstrip("/.-*#").strip()
    if len(name) > LONGEST_NAME or len(tokens) > MOST_WORDS or not re.search(r"[^\W\d_]", name):
        return "", " ".join(context)
    return name, " ".join(context)


def _tags(slots: Sequence[_Slot], tail: str) -> Iterator[tuple[str, int, str]]:
    """Give each number that is left a tag, none twice."""
    seen: set[str] = set()
    owner: _Slot | None = None
    told = {part for slot in slots for part in words(slot.name) if part in SPLITS and not slot.used}
    spoken = ""
    for i, slot in enumerate(slots):
        if slot.used:
            owner = None if not slot.follows else owner
            continue
        name = slot.name
        if not name and slot.follows and owner is not None:
            inner = _INNER_UNIT.match(slots[i + 1].left if i + 1 < len(slots) else tail)
            inside = inner[1] if inner and inner[1] != owner.unit else "avg"
            name = f"{owner.name} ({inside})"
        elif not name and slot.left.strip(" =") == ":" and i and slots[i - 1].context and slots[i - 1].used:
            name = slots[i - 1].context  # "validation loss at iteration 1000: 3.2"
        if not name or name.lower() in NO_METRICS or ":" in slot.text:
            owner = None
            continue
        owner = slot
        slot.name = name
        parts = words(name)
        if any(word in SPLITS for word in parts):
            spoken = parts[0] if name.lower().startswith(parts[0] + " ") and len(told) == 1 else ""
        elif slot.split in HELD_OUT:
            name = f"{slot.split}/{name}"
        elif spoken in HELD_OUT and quantity_of(name) != "learning_rate":  # "val Loss: 0.4 Acc: 0.8"
            name = f"{spoken}/{name}"
        if name in seen:
            continue
        seen.add(name)
        yield name, i, slot.unit


def _overflow_tags(slots: Sequence[_Slot]) -> Iterator[tuple[str, int, str]]:
    for i, slot in enumerate(slots):
        if re.search(r"reducing to\s*$", slot.left):
            yield "loss scale", i, ""


# -- counts, ranks, dates ---------------------------------------------------------------------------------------------


def _is_integer(text: str) -> bool:
    return text.replace(",", "").isdigit()


def _find_counts(slots: Sequence[_Slot], tail: str, found: dict[str, object]) -> None:
    """Find the numbers that count: named steps and epochs, "n/m", a bracket of epoch and batch."""
    best = len(_STEPS)
    rights = [*(slot.left for slot in slots[1:]), tail]
    for i, slot in enumerate(slots):
        if slot.used or not slot.text:
            continue
        total = i + 1 if i + 1 < len(slots) and _is_total(slot, slots[i + 1], rights[i]) else -1
        behind = _NAMED_BEHIND.match(rights[i])
        counter = _counter(behind[1] if behind else slot.name)
        slot.name = behind[1] if behind else slot.name
        if counter in EPOCH_COLUMNS:
            if "epoch" not in found and not re.search(r"[:\x01\x02]", slot.text):
                found.update(epoch=i, epoch_name=slot.name)
            slot.used = True
        elif counter and _is_integer(slot.text):
            if _STEPS[counter] < best:
                best = _STEPS[counter]
                found.update(step=i, step_name=slot.name, step_total=total)
            slot.used = True
        elif total >= 0 and not slot.name:
            if "place" not in found:
                found.update(place=i, total=total)
                if "epoch" not in found and i and _names_the_epoch(slots[i - 1], slot):
                    slots[i - 1].used = True
                    found.update(epoch=i - 1, epoch_name=slots[i - 1].name)
            slot.used = True
        elif total >= 0 and _is_integer(slot.text) and set(words(slot.name)) <= SPLITS | NOISE and "place" not in found:
            found.update(place=i, total=total)  # "Test: [ 10/39]"
            slot.used = True
        if total >= 0 and slot.used:
            slots[total].used = True
            if found.get("split") is None:
                found["split"] = slot.split
        if slot.used and "split" not in found:
            found["split"] = slot.split
    if "epoch" not in found and "place" not in found and "step" not in found and len(slots) > 2:
        first, second = slots[0], slots[1]
        if (
            not first.used
            and first.left.strip().endswith("[")
            and not first.name
            and second.left.strip() == ","
            and slots[2].left.startswith("]")
            and _is_integer(first.text)
            and _is_integer(second.text)
        ):  # "[2,  4000] loss: 1.344"
            first.used = second.used = True
            found.update(epoch=0, epoch_name="epoch", place=1)
    found.setdefault("split", "")


def _counter(name: str) -> str:
    """Return the counter that a name spells, "" for a name of something else."""
    parts = words(name)
    while parts and parts[0] in _QUALIFIERS and "_".join(parts) not in _STEPS and "_".join(parts) not in EPOCH_COLUMNS:
        parts = parts[1:]
    while len(parts) > 1 and parts[-1] in SPLITS:
        parts = parts[:-1]
    whole = "_".join(parts)
    if whole in ("num_steps",):
        return ""
    return whole if whole in _STEPS or whole in EPOCH_COLUMNS else ""


def _is_total(slot: _Slot, following: _Slot, between: str) -> bool:
    """Whether the number that follows is the m of "n/m"."""
    if following.used or not (_is_integer(slot.text) and _is_integer(following.text)):
        return False
    middle = between.strip()
    return middle in ("/", "of", "out of", "|") and (middle != "|" or "[" in slot.left)


def _names_the_epoch(slot: _Slot, place: _Slot) -> bool:
    """Whether a number before "[n/m]" counts the epochs: "Train: 0 [ 50/1251", "Epoch(train) [1][ 50/469]"."""
    if slot.used or not _is_integer(slot.text) or place.left.strip() not in ("[", "][", ":", "|"):
        return False
    return bool(slot.name) and set(words(slot.name)) <= SPLITS | NOISE


def _find_rank(slots: Sequence[_Slot], pieces: Sequence[str]) -> dict[str, object]:
    """Return the process that printed the line, where it says so."""
    fixed = _STATIC_RANK.search(pieces[0][:200])
    if fixed:
        return {"fixed_rank": int(fixed[1])}
    for i, slot in enumerate(slots[:12]):
        if not _is_integer(slot.text) or slot.used:
            continue
        after = slots[i + 1].left if i + 1 < len(slots) else pieces[-1]
        bracket = re.search(r"\[(?:rank:? ?|[\w.-]+:)$|\brank=$", slot.left, re.IGNORECASE) and after[:1] in ("]", "/")
        launcher = i == 0 and not slot.left.strip() and re.match(r": +\S|:\s*\[", after) and len(slots) > 1
        mpi = i == 1 and slots[0].left.strip() == "[" and slot.left == "," and after.startswith("]<std")
        if (bracket and (i == 0 or "rank" in slot.left.lower())) or launcher or mpi:
            slot.used = True
            if mpi:
                slots[0].used = True
            return {"rank": i}
    return {}


def _find_dates(slots: Sequence[_Slot]) -> tuple[int, int, int, int] | None:
    """Return the positions of year, month, day and time of day; those numbers are used up."""
    found = None
    for i in range(min(len(slots) - 2, 12)):
        a, b, c = slots[i], slots[i + 1], slots[i + 2]
        if b.left != c.left or b.left not in ("-", "/", ".") or not all(_is_integer(s.text) for s in (a, b, c)):
            continue
        if len(a.text) == 4 and len(b.text) <= 2:
            order = (i, i + 1, i + 2)
        elif len(c.text) == 4 and len(a.text) <= 2:
            order = (i + 2, i, i + 1)
        else:
            continue
        a.used = b.used = c.used = True
        if i + 3 < len(slots) and ":" in slots[i + 3].text and not slots[i + 3].left.strip(" T_,"):
            clock = slots[i + 3]
            clock.used = True
            found = found or (*order, i + 3)
            if i + 4 < len(slots) and slots[i + 4].left in ("+", "-") and ":" in slots[i + 4].text:
                slots[i + 4].used = True
    for i, slot in enumerate(slots[:12]):
        if ":" in slot.text:
            slot.used = True
        elif i == 1 and slot.left == "/" and len(slots) > 2 and ":" in slots[2].text and not slots[2].left.strip():
            slot.used = slots[0].used = True  # "08/01 12:00:00", a date without a year
    return found


def is_known(tag: str) -> bool:
    """Whether a tag logs a quantity that is known, or a loss of any kind."""
    return quantity_of(tag) not in ("", "epoch") or "loss" in words(tag)
