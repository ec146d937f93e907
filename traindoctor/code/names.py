"""The names and forms by which the calls of a training script are told apart."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from traindoctor.code.script import Script


class NamePattern:
    """A pattern that names are held against again and again: compiled with the first, and each name looked at once."""

    __slots__ = ("_flags", "_known", "_pattern")

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._pattern = pattern
        self._flags = flags
        self._known: dict[str, bool] = {}

    def search(self, name: str) -> bool:
        """Return whether the pattern stands in a name."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = re.search(self._pattern, name, self._flags) is not None
        return known


# fmt: off
OPTIMIZERS = frozenset({
    "Adam", "AdamW", "SGD", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD", "LBFGS", "NAdam", "RAdam", "SparseAdam",
    "Adamax", "Adafactor", "Lion", "LAMB", "Lamb", "LARS", "Muon", "Shampoo", "SOAP", "FusedAdam", "FusedLAMB", "FusedSGD",
    "Adam8bit", "AdamW8bit", "Lion8bit", "PagedAdamW", "PagedAdamW8bit", "Prodigy", "DAdaptAdam", "DAdaptSGD", "AdaBelief",
    "AdaBound", "Ranger", "Sophia", "SophiaG", "AdamWScheduleFree", "SGDScheduleFree", "RAdamScheduleFree",
    "ZeroRedundancyOptimizer",
})
# fmt: on
#: Wrappers that hand on the optimizer they are given.
WRAPPERS = frozenset({"DistributedOptimizer", "Lookahead", "FP16_Optimizer", "ZeroRedundancyOptimizer", "OptimizerWrapper"})
MODEL_WRAPPERS = frozenset({"DataParallel", "DistributedDataParallel", "DDP", "FSDP", "FullyShardedDataParallel", "compile"})
SAME_OBJECT = frozenset(
    {"to", "cuda", "cpu", "train", "eval", "half", "float", "double", "bfloat16", "requires_grad_", "apply", "compile"}
)
#: Methods of an optimizer that neither step nor touch a gradient.
# fmt: off
QUIET_METHODS = frozenset({
    "state_dict", "load_state_dict", "add_param_group", "register_state_dict_pre_hook", "train", "eval", "synchronize",
    "no_sync", "consolidate_state_dict", "items", "keys", "get", "values", "append", "swap_swa_sgd", "update_swa",
    "__repr__", "copy",
})
# fmt: on
#: Functions that are given an optimizer and do not clear its gradients, by what their name says.
HARMLESS = NamePattern(
    r"^(print|len|id|type|isinstance|repr|str|vars|hasattr|getattr|zip|enumerate|list|tuple|dict|set|iter|next|partial|reversed|sorted)$"
    r"|lr|learning_rate|sched|warm|log|save|load|checkpoint|watch|clip|info|debug|lambda|master_params|append|resume|format|scale_loss|add_scalar",
    re.IGNORECASE,
)
#: Methods of a base that is not in the project, which compute something or freeze it and leave gradients alone.
COMPUTES = NamePattern(
    r"^(?!.*(train|step|updat|fit|back|zero|clear|reset|run|optimize(?!rs?$)))"
    r"(.*(criteri|loss|model|net|forward|requires_grad|toggle_optimizer|log)|optimizers$)",
    re.IGNORECASE,
)
CLEARING_NAME = NamePattern(r"(zero|clear|reset|flush).*grad|cleargrads|clear_grad", re.IGNORECASE)
CALLS_BACK = NamePattern(r"^(call|run|fire|trigger|dispatch)_?(hooks?|events?|callbacks?)$", re.IGNORECASE)
OPT_NAME = NamePattern(r"opt", re.IGNORECASE)
SCHEDULER_NAME = NamePattern(r"sched|warmup|(^|_)lrs?($|_)|plateau", re.IGNORECASE)
KNOWN_BASES = frozenset({"object", "Module", "ABC", "Generic", "Protocol", "Callable", "Dataset", "NamedTuple", "Exception"})
PREPARES = frozenset({"prepare", "setup", "setup_optimizers", "prepare_optimizer"})
HOOKS = frozenset(
    {
        "register_post_accumulate_grad_hook",
        "register_step_post_hook",
        "register_step_pre_hook",
        "register_optimizer_step_post_hook",
    }
)
#: Functions and methods that clip gradients, by whatever library.
CLIPS = frozenset({"clip_grad_norm_", "clip_grad_value_", "clip_grad_norm", "clip_gradients", "clip_grads", "clip_grad_value"})
#: Calls that open a context that matters to gradients, and what it is kept as.
CONTEXTS = {
    "autocast": "autocast",
    "no_grad": "no_grad",
    "inference_mode": "inference_mode",
    "enable_grad": "grad",
    "accumulate": "accumulate",
}
#: Packages that are in no project: an import of theirs is not looked for among its files.
# fmt: off
INSTALLED = frozenset({
    "torch", "torchvision", "torchaudio", "torchtext", "numpy", "np", "scipy", "pandas", "matplotlib", "PIL", "cv2",
    "tqdm", "sklearn", "tensorflow", "tensorboardX", "keras", "jax", "transformers", "datasets", "tokenizers",
    "accelerate", "lightning", "pytorch_lightning", "deepspeed", "apex", "wandb", "yaml", "omegaconf", "hydra",
    "einops", "timm", "peft", "diffusers", "bitsandbytes", "h5py", "nltk", "absl", "gym", "gymnasium",
    "huggingface_hub", "torchmetrics", "safetensors", "seaborn", "skimage", "mlflow", "ignite",
})
# fmt: on


def dotted(node: ast.expr) -> list[str]:
    """Return the parts of names and dots, through calls too: `f().step` -> ["f", "step"]."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif isinstance(node, ast.Call):
        parts += dotted(node.func)[::-1]
    return parts[::-1]


def is_grad(node: ast.expr) -> bool:
    """Return whether an expression is `x.grad` or `x.grad.data`."""
    if isinstance(node, ast.Attribute) and node.attr == "data":
        node = node.value
    return isinstance(node, ast.Attribute) and node.attr == "grad"


def is_zero(node: ast.expr) -> bool:
    """Return whether an expression is the number 0."""
    return isinstance(node, ast.Constant) and node.value == 0


def related(first: str, second: str) -> bool:
    """Return whether one path is the other, or a part of it."""
    return any(a == b or a.startswith((f"{b}.", f"{b}[")) for a, b in ((first, second), (second, first)))


def pairs(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield what is assigned to what, tuples element by element."""
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and len(target.elts) == len(node.value.elts):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def owner_of_grad(node: ast.expr) -> ast.expr:
    """Return the tensor whose gradient `x.grad` or `x.grad.data` is."""
    while isinstance(node, ast.Attribute) and node.attr in ("grad", "data"):
        node = node.value
    return node


def attributes(node: ast.AST) -> frozenset[str]:
    """Return the names of all attributes in a piece of syntax."""
    return frozenset(n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute))


def text_of(node: ast.expr) -> str:
    """Return names and dots as they are written; "" for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    parts.append(node.id)
    return ".".join(reversed(parts))


def functions(script: Script) -> list[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ast.ClassDef | None]]:
    """Return the functions and methods of a script, the outer ones first, those of classes too, not those inside functions."""
    found = []
    for node in script.all(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        around = list(script.above(node))
        if not any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) for n in around):
            owner = next((n for n in around if isinstance(n, ast.ClassDef)), None)
            found.append((len(around), node, owner))
    found.sort(key=lambda one: (one[0], one[1].lineno))
    return [(node, owner) for _, node, owner in found]


def functions_around(script: Script, nodes: Iterable[ast.AST]) -> set[ast.AST]:
    """Return all functions that one of the nodes stands in."""
    found: set[ast.AST] = set()
    for node in nodes:
        for parent in script.above(node):
            if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(parent)
    return found


def engines(script: Script) -> set[str]:
    """Return the receivers on which both `backward(loss)` and `step()` are called: DeepSpeed engines and their like."""
    receivers: dict[str, set[str]] = {"backward": set(), "step": set()}
    for name, found in receivers.items():
        for call in script.calls.get(name, ()):
            if isinstance(call.func, ast.Attribute) and (call.args or name == "step"):
                found.add(text_of(call.func.value))
    return (receivers["backward"] & receivers["step"]) - {""}


def optimizes_manually(script: Script) -> bool:
    """Return whether a Lightning module of the script clears and steps by itself."""
    return re.search(r"\.automatic_optimization\s*=\s*False", script.text) is not None


def last_of(node: ast.expr) -> str:
    """Return the last part of names and dots; "" for any other expression."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
