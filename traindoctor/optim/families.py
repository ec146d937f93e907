"""Which optimizers have which settings, by their name in the one vocabulary."""

from __future__ import annotations

#: Whose step is a mean gradient over the root of its mean square, with two betas and a bias correction.
ADAMS = frozenset({"adam", "adamw", "amsgrad", "nadam", "radam", "adamax"})
WITH_BETAS = ADAMS | {"lamb", "lion"}
#: Whose denominator has eps added.
WITH_EPS = ADAMS | {"lamb", "rmsprop", "adagrad", "adadelta"}
#: Whose step has about the size of the learning rate, whatever the gradient's.
NORMALISED = ADAMS | {"rmsprop", "lion"}
WITH_MOMENTUM = frozenset({"sgd", "rmsprop"})
#: Whose weight decay is usually far below 1.
DECAYED = ADAMS | {"sgd", "rmsprop", "adagrad", "adadelta"}
#: Whose weight decay is added to the gradient, and so is divided by the root of its mean square.
ADDS_DECAY = frozenset({"adam", "amsgrad", "adamax", "nadam", "radam"})
