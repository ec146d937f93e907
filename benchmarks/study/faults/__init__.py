"""All faults and sound look-alikes by family; importing it registers their hooks."""

from faults import data, gradients, learning_rate, objective, optimizer, pairs, precision, resume

FAMILIES = (optimizer, learning_rate, gradients, precision, data, objective, resume, pairs)
FAULTS = tuple(fault for family in FAMILIES for fault in family.FAULTS)
SOUND = tuple(style for family in FAMILIES for style in family.SOUND)
