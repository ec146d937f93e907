"""A pack of two small rules for the tests of the pipeline, and a shelf that holds it."""

import ast

from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.rule import Cause

BAD = Cause("TD901", "bad-call", "something bad is called", "Something bad is called.\n\n## References\nNone.", severity="error")
ODD = Cause("TD902", "odd-number", "an odd learning rate", "An odd learning rate.\n\n## References\nNone.", severity="warning")
HINT = Cause("TD903", "hint", "a hint", "A hint.\n\n## References\nNone.", severity="info")
BROKEN = Cause("TD904", "broken-rule", "raises", "Raises.\n\n## References\nNone.")


@BAD.in_script("bad|worse")
def calls(script, _limits):
    for call in script.calls.get("bad", []):
        related = tuple((script.place(one), "made here") for one in script.calls.get("make", [])[:1])
        repair = Repair("Call good()", (script.replaced(call.func, "good"),), safe=True)
        yield Mistake(script.place(call), "bad() is called. It costs the run.", "call good()", repair=repair, related=related)
    for call in script.calls.get("worse", []):
        yield Mistake(script.place(call), "worse() is called", repair=Repair("call bad()", (script.replaced(call.func, "bad"),)))


@BAD.in_script("helper")
def helpers(script, _limits):
    for node in script.nodes.get(ast.ImportFrom, []):
        module = script.project.module("." * node.level + (node.module or ""), script.file) if script.project else None
        if module is not None and module.calls.get("bad"):
            there = module.place(module.calls["bad"][0])
            yield Mistake(script.place(node), "a bad helper is imported", related=((there, "bad() is called here"),))


@ODD.in_file
def odd(config, _limits):
    slot = config.slot("optimizer.lr")
    if slot is not None and config.number("optimizer.lr") == 3:
        edit = config.replaced(slot, "0.001")
        repair = Repair("Set lr to 0.001", (edit,), safe=True) if edit else None
        yield Mistake(config.place(slot), "lr is 3.", "lower it", repair=repair, settings={"optimizer.lr": 0.001})


@HINT.in_script("hint")
def hints(script, _limits):
    for call in script.calls.get("hint", []):
        yield Mistake(script.place(call), "a hint is called")


@BROKEN.in_script("explode")
def explodes(script, _limits):
    for call in script.calls.get("explode", []):
        yield Mistake(script.place(call), "explode() is called")
    raise LookupError("no such thing")


@BROKEN.in_script("breaks")
def breaks(script, _limits):
    for call in script.calls.get("breaks", []):
        yield Mistake(
            script.place(call), "breaks() is called", repair=Repair("break it", (Edit(*script.span(call), "("),), safe=True)
        )


CAUSES = (BAD, ODD, HINT, BROKEN)


class Shelf:
    def __init__(self, _extra=()):
        self.known = self.codes = {cause.code for cause in CAUSES}
        self.problems = []
        self.folders = []

    def for_script(self, _text):
        return [cause for cause in CAUSES if cause.script_rules]

    def for_file(self):
        return [ODD]
