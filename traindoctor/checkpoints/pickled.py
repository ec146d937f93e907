"""The pickle of a checkpoint read as data: a table says what each known name means, and nothing is imported or called.

PyTorch writes the structure of a checkpoint as a pickle, whose opcodes can name any function of any module and have it
called. Here they build dicts, lists, numbers, words and places of tensors. A name that the table lacks ends the reading with a
message; it is never looked up.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from traindoctor.errors import UnreadableInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: The longest pickle, and the most of its instructions, that are read: a model of 10,000 tensors with Adam's state has 2 million.
MOST_BYTES, MOST_OPCODES = 128 * 2**20, 6_000_000
#: Storage classes of PyTorch and the format of their elements.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "",
}
DTYPES = frozenset(
    {
        "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16", "int8", "uint8",
        "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
    }
)  # fmt: skip
#: Packages whose objects are settings in the checkpoints of their frameworks; they stand for their own name.
SETTINGS = ("argparse.", "pathlib.", "datetime.", "omegaconf.", "lightning.", "pytorch_lightning.", "lightning_fabric.", "timm.")


class Global(NamedTuple):
    """A name that the pickle asks for; it stands for itself."""

    name: str


class Inert(NamedTuple):
    """An object that was not made, by the name of its class."""

    name: str


class Storage(NamedTuple):
    """Where the numbers of tensors lie: the key of a record of the archive, the format and number of its elements."""

    key: str
    dtype: str
    size: int


class Place(NamedTuple):
    """A tensor that was not read yet: a storage, the offset in elements, shape and stride."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


class _RefusedError(Exception):
    """What stands in a pickle and is not read."""


class _Mark:
    """Where on the stack a tuple, list or dict begins."""


MARK = _Mark()


def read_pickle(data: bytes, where: str) -> Any:
    """Return the structure that a pickle of PyTorch describes, with a `Place` for each tensor; nothing is executed.

    Raises: UnreadableInputError for a name that is not in the table, and for a pickle that is cut off or damaged.
    """
    if len(data) > MOST_BYTES:
        raise UnreadableInputError(where, f"has a structure of {len(data) / 2**20:,.0f} MiB, which no checkpoint needs")
    try:
        return _run(data)
    except _RefusedError as error:
        raise UnreadableInputError(where, *error.args) from error
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise UnreadableInputError(where, f"is cut off or damaged: its structure cannot be read ({error})") from error


def _run(data: bytes) -> Any:
    """Return what the opcodes build."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for count, (opcode, arg, _) in enumerate(pickletools.genops(data)):
        if count > MOST_OPCODES:
            raise _RefusedError(f"has a structure of more than {MOST_OPCODES:,} instructions, which no checkpoint needs")
        name, argument = opcode.name, cast("Any", arg)
        if name == "STOP":
            return stack.pop()
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _PUTS:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        elif name in _STEPS:
            _STEPS[name](stack)
        elif name == "GLOBAL":
            stack.append(_named(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_named(f"{module}.{attribute}"))
        elif name not in ("PROTO", "FRAME"):
            raise _RefusedError(f"is no checkpoint of PyTorch: its structure uses {name}")
    raise _RefusedError("is cut off: its structure has no end")


def _named(name: str) -> Global:
    """Return a name of the table.

    Raises: _RefusedError for one that is not in it.
    """
    module, _, attribute = name.rpartition(".")
    if name in _CALLS or name.startswith(SETTINGS) or name in _CLASSES:
        return Global(name)
    if module in ("torch", "torch.storage") and (attribute in STORAGES or attribute in DTYPES):
        return Global(name)
    raise _RefusedError(
        f"is not read, because it asks for {name[:80]!r}, which is neither a tensor nor a plain value; unpickling it "
        "could run code, "
        "and nothing was run",
        "save state dicts and numbers alone: torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(), "
        "'step': step}, file)",
        "or save the weights as safetensors",
    )


# -- what the known names mean ----------------------------------------------------------------------------------------


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any, dtype: str = "") -> Place:
    if not isinstance(storage, Storage):
        raise _RefusedError("is damaged: a tensor has no storage")
    numbers = (offset, *shape, *stride)
    if not all(isinstance(n, int) and 0 <= n < 2**60 for n in numbers) or len(shape) != len(stride):
        raise _RefusedError(f"is damaged: a tensor has the shape {tuple(shape)} and the stride {tuple(stride)}")
    return Place(storage, offset, tuple(shape), tuple(stride), dtype or storage.dtype)


def _tensor_v3(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Place:
    """Return a tensor of a format that has no storage class of its own; `rest`: requires_grad, hooks, format."""
    dtype = rest[2] if len(rest) > 2 else None
    return _tensor(storage, offset, shape, stride, dtype=dtype.name.rpartition(".")[2] if isinstance(dtype, Global) else "")


def _subclass(function: Any, *rest: Any) -> Any:
    """Return what a subclass of a tensor is made of; `rest`: class, arguments, attributes."""
    return _call(function, rest[1])


def _mapping(*args: Any) -> dict[Any, Any]:
    """Return what OrderedDict, defaultdict and Counter hold."""
    given = args[-1] if args else ()
    if isinstance(given, dict):
        return dict(given)
    return {pair[0]: pair[1] for pair in given} if isinstance(given, list | tuple) else {}


def _number(dtype: Any, data: Any = b"") -> Any:
    """Return a NumPy scalar as a number."""
    import numpy as np

    code = str(getattr(dtype, "name", ""))
    if not isinstance(data, bytes) or code.lstrip("<=|") not in (
        "f8",
        "f4",
        "f2",
        "i8",
        "i4",
        "i2",
        "i1",
        "u8",
        "u4",
        "u1",
        "b1",
    ):
        return Inert("numpy.scalar")
    return np.frombuffer(data, np.dtype(code), 1)[0].item()


def _bytes(text: Any, encoding: Any = "latin1") -> bytes:
    return text.encode("latin1") if isinstance(text, str) and encoding == "latin1" else b""


def _items(values: Any = ()) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, list | tuple) else ()


_NUMPY_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_NUMPY_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.Size": _items,
    "torch.device": lambda *args: Inert(f"torch.device {args[:1]}"),
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": lambda *args: _mapping(*args[1:]),
    "collections.Counter": _mapping,
    "builtins.set": _items,
    "builtins.frozenset": _items,
    "builtins.bytearray": lambda *_: Inert("bytearray"),
    "__builtin__.set": _items,
    "_codecs.encode": _bytes,
    "copy_reg._reconstructor": lambda *_: {},
    "copyreg._reconstructor": lambda *_: {},
    "numpy.dtype": lambda code, *_: Inert(str(code)),
    **dict.fromkeys(_NUMPY_SCALARS, _number),
    **dict.fromkeys(_NUMPY_ARRAYS, lambda *_: Inert("numpy.ndarray")),
}
#: Classes that are named and not called.
_CLASSES = frozenset(
    {
        "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.Parameter", "torch.nn.parameter.Buffer", "numpy.ndarray",
        "builtins.dict", "builtins.list", "builtins.int", "builtins.float", "builtins.str", "builtins.object",
        "__builtin__.object", "__builtin__.dict",
    }
)  # fmt: skip


def _call(function: Any, args: Any) -> Any:
    if not isinstance(function, Global) or not isinstance(args, tuple):
        raise _RefusedError("is damaged: its structure calls what is no function")
    if function.name in _CALLS:
        return _CALLS[function.name](*args)
    return {} if function.name.startswith("argparse.") else Inert(function.name)


# -- opcodes ----------------------------------------------------------------------------------------------------------


def _marked(stack: list[Any]) -> list[Any]:
    """Take what was put on the stack since the last mark."""
    start = len(stack) - 1
    while stack[start] is not MARK:
        start -= 1
        if start < 0:
            raise ValueError("an end without a beginning")
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _top(stack: list[Any], n: int) -> tuple[Any, ...]:
    items = tuple(stack[-n:])
    if len(items) < n:
        raise ValueError("too few values")
    del stack[-n:]
    return items


def _set_items(stack: list[Any], pairs: Iterable[Any]) -> None:
    items = list(pairs)
    if isinstance(stack[-1], dict):
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif not isinstance(stack[-1], Inert):
        raise ValueError("items of what is no dict")


def _append(stack: list[Any], items: Iterable[Any]) -> None:
    if isinstance(stack[-1], list):
        stack[-1].extend(items)
    elif not isinstance(stack[-1], Inert):
        raise ValueError("items of what is no list")


def _build(stack: list[Any]) -> None:
    """Give an object its attributes: those of a namespace become its items, others are left out."""
    (state,) = _top(stack, 1)
    if isinstance(stack[-1], dict) and isinstance(state, dict):
        stack[-1].update({key: value for key, value in state.items() if key not in stack[-1]})


def _persistent(stack: list[Any]) -> None:
    """Put the storage that an identifier of PyTorch names in its place."""
    kind = stack.pop()
    if not isinstance(kind, tuple) or len(kind) < 5 or kind[0] != "storage" or not isinstance(kind[1], Global):
        raise _RefusedError("is no checkpoint of PyTorch: it names a storage in a form that is not known")
    dtype = STORAGES.get(kind[1].name.rpartition(".")[2], "")
    size = kind[4]
    if not isinstance(size, int) or not 0 <= size < 2**60:
        raise _RefusedError(f"is damaged: a storage of {size!r} elements")
    stack.append(Storage(str(kind[2]), dtype, size))


def _reduce(stack: list[Any]) -> None:
    function, args = _top(stack, 2)
    stack.append(_call(function, args))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": MARK}
_LITERALS = frozenset(
    {
        "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT", "BINUNICODE", "SHORT_BINUNICODE",
        "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    }
)  # fmt: skip
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_STEPS: dict[str, Callable[[list[Any]], None]] = {
    "EMPTY_DICT": lambda stack: stack.append({}),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_SET": lambda stack: stack.append([]),
    "TUPLE": lambda stack: stack.append(tuple(_marked(stack))),
    "TUPLE1": lambda stack: stack.append(_top(stack, 1)),
    "TUPLE2": lambda stack: stack.append(_top(stack, 2)),
    "TUPLE3": lambda stack: stack.append(_top(stack, 3)),
    "LIST": lambda stack: stack.append(_marked(stack)),
    "FROZENSET": lambda stack: stack.append(tuple(_marked(stack))),
    "DICT": lambda stack: stack.append(dict(zip(*[iter(_marked(stack))] * 2, strict=True))),
    "SETITEM": lambda stack: _set_items(stack, _top(stack, 2)),
    "SETITEMS": lambda stack: _set_items(stack, _marked(stack)),
    "APPEND": lambda stack: _append(stack, _top(stack, 1)),
    "APPENDS": lambda stack: _append(stack, _marked(stack)),
    "ADDITEMS": lambda stack: _append(stack, _marked(stack)),
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "BUILD": _build,
    "BINPERSID": _persistent,
    "POP": lambda stack: stack.__delitem__(-1),
}
