"""What the rules look for, so that `check` imports those alone that a text calls for.

Written by docs/make_rules.py: module -> code, the words of each of its rules on scripts, whether it reads configs.
"""

# fmt: off
INDEX = {
    "beta_of_one": ("TD104", (), False),
    "constant_tail": ("TD005", (), False),
    "epsilon_too_large": ("TD103", (), False),
    "epsilon_too_small": ("TD102", (), False),
    "learning_rate_too_high": ("TD201", (), False),
    "learning_rate_too_low": ("TD202", (), False),
    "learning_rate_zero": ("TD204", (), False),
    "log_integrity": ("TD001", (), False),
    "nan_hidden_by_the_log": ("TD002", (), False),
    "non_finite_loss": ("TD401", (), False),
    "second_moment_collapse": ("TD101", (), False),
    "steps_repeat_or_go_back": ("TD003", (), False),
    "values_averaged_by_the_log": ("TD004", (), False),
    "values_rounded_by_the_log": ("TD006", (), False),
    "zero_grad_between_backward_and_step": ("TD302", (), False),
    "zero_grad_missing": ("TD301", (), False),
}
