"""The names by which frameworks know their optimizers, and the one that a misspelt name is nearest to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.optim.signatures import TORCH_CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterable


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


#: Source: transformers 4.20 to 5.0, training_args.py, OptimizerNames.
HUGGING_FACE = words(
    """adamw_hf adamw_torch adamw_torch_fused adamw_torch_xla adamw_torch_npu_fused adamw_apex_fused adafactor
    adamw_anyprecision adamw_torch_4bit adamw_torch_8bit ademamix sgd adagrad adamw_bnb_8bit adamw_8bit ademamix_8bit
    lion_8bit lion_32bit paged_adamw_32bit paged_adamw_8bit paged_ademamix_32bit paged_ademamix_8bit paged_lion_32bit
    paged_lion_8bit rmsprop rmsprop_bnb rmsprop_bnb_8bit rmsprop_bnb_32bit galore_adamw galore_adamw_8bit
    galore_adafactor galore_adamw_layerwise galore_adamw_8bit_layerwise galore_adafactor_layerwise lomo adalomo
    grokadamw schedule_free_radam schedule_free_adamw schedule_free_sgd apollo_adamw apollo_adamw_layerwise
    stable_adamw"""
)
#: Source: axolotl, utils/schemas/enums.py, CustomSupportedOptimizers.
AXOLOTL = HUGGING_FACE | words(
    """optimi_adamw ao_adamw_4bit ao_adamw_8bit ao_adamw_fp8 adopt_adamw came_pytorch muon dion lion_pytorch shampoo
    q_galore_adamw8bit flash_adamw flash_adam flash_sgd flash_sgdw flash_lion"""
)
#: Source: ultralytics, engine/trainer.py, build_optimizer.
ULTRALYTICS = frozenset({"SGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp", "MuSGD", "auto"})
#: Source: deepspeed, runtime/config.py, DEEPSPEED_OPTIMIZERS; any other is looked up in torch.optim.
DEEPSPEED = frozenset(
    {"Adam", "AdamW", "Lamb", "OneBitAdam", "ZeroOneAdam", "OneBitLamb", "MuAdam", "MuAdamW", "MuSGD", "Lion", "Muon"}
).union(TORCH_CLASSES)
#: Source: sd-scripts, library/train_util.py, get_optimizer; any other is looked up in torch.optim.
KOHYA = words(
    """AdamW AdamW8bit Adam8bit PagedAdamW PagedAdamW8bit PagedAdamW32bit Lion Lion8bit PagedLion8bit PagedAdam8bit
    SGDNesterov SGDNesterov8bit DAdaptation DAdaptAdamPreprint DAdaptAdaGrad DAdaptAdam DAdaptAdan DAdaptAdanIP
    DAdaptLion DAdaptSGD AdaFactor Prodigy ProdigyPlus RAdamScheduleFree AdamWScheduleFree SGDScheduleFree CAME"""
).union(TORCH_CLASSES)
#: Source: torchtitan, components/optimizer.py, before optimizers became classes of its own.
TORCHTITAN = frozenset({"Adam", "AdamW"})
#: Source: fairseq, optim/, the names given to register_optimizer.
FAIRSEQ = frozenset(
    {"adam", "adamax", "adadelta", "adagrad", "adafactor", "sgd", "nag", "lamb", "cpu_adam", "composite", "cpu_adafactor"}
)
#: Source: keras.optimizers of Keras 3, the classes.
KERAS = words("""Adam AdamW Nadam Adamax SGD RMSprop Adagrad Adadelta Ftrl Lion Lamb Muon Adafactor LossScaleOptimizer""")
#: Source: mmengine, optim/optimizer/builder.py: the classes of torch.optim and of what is installed beside it.
OPENMMLAB = words(
    """Lion Adafactor DAdaptAdaGrad DAdaptAdam DAdaptSGD DAdaptLion Prodigy ZeroRedundancyOptimizer LARS Lamb"""
).union(TORCH_CLASSES)
#: Optimizers of other packages whose names are near to those of torch.optim. Source: timm and pytorch-optimizer, their lists.
FURTHER = words(
    """a2grad accsgd adabelief adabound adacos adagc adahessian adai adalite adalomo adam16bit adam4bit adam8bit adamc
    adamg adammini adamod adamp adams adamwr adamwsf adan adanip adanorm adanp adanw adapnm adashift adasmooth adatam
    ademamix adopt adoptw aggmo aida alice alig amos amsbound amsgrad ano apollo apollodqn avagrad bsam cadamw caadam
    came clion cpuadam dadaptadam dadaptsgd decoupledadamw decoupledsgdw diffgrad distributedadam exadam fadam focus
    fromage ftrl fusedadam fusedadamw fusedlamb fusedsgd galore grams gravity grokadamw grokfast gsam hybridadam kate
    kfac kron lamb lambc laprop larc lars lion lionw lomo looksam madgrad madgradw mars momentum msvag muadam muadamw
    muon musgd nadamw nag nero nesterov nlarc nlars novograd nvnovograd onebitadam padam pagedadamw pcgrad pid pnm
    prodigy qadam qhadam qhm racs radamw ranger ranger21 rmsproptf rotograd sadam sam scalableshampoo schedulefreeadamw
    schedulefreesgd sgdm sgdnesterov sgdp sgdw shampoo signsgd simplifiedademamix sm3 soap sophia sophiag sophiah spam
    splus srmm stableadamw stablespam swats tadam tam tiger trac vsgd wsam yogi zerooneadam"""
)


def plain(name: str) -> str:
    """Return a name in lower case without what joins its words."""
    return re.sub(r"[\s_-]+", "", name.strip().lower())


def nearest(name: str, known: Iterable[str], cutoff: float = 0.8) -> str:
    """Return the known name that a misspelt one is nearest to, "" where none is near enough.

    One with the same letters in another order is near.
    """
    from difflib import get_close_matches

    spelt = {plain(one): one for one in sorted(known)}
    for one, written in spelt.items():
        if sorted(one) == sorted(plain(name)):
            return written
    found = get_close_matches(plain(name), list(spelt), n=1, cutoff=cutoff)
    return spelt[found[0]] if found else ""
