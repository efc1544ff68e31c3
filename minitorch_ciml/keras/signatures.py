"""What `help(Dense)` shows of a class that hands `**kwargs` to its base."""

from __future__ import annotations

import inspect
from typing import Any


class WholeSignature:
    """As `__signature__` of a class: its own arguments, then those of its bases, by name.

    It is put together when somebody asks; nothing is computed where classes are only used.
    """

    def __get__(self, instance: Any, cls: type) -> inspect.Signature | None:
        return None if instance is not None else inspect.Signature(self.parameters(cls))

    def parameters(self, cls: type) -> list[inspect.Parameter]:
        """The parameters of `__init__`, along the chain of `**kwargs`."""
        found: dict[str, inspect.Parameter] = {}
        bases = [base for base in cls.__mro__ if "__init__" in vars(base)]
        for base in bases:
            inherited = base is not bases[0]
            given = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            for p in given:
                if p.kind is p.VAR_KEYWORD:
                    continue
                if not inherited:
                    found[p.name] = p.replace(annotation=p.empty)
                elif p.default is not p.empty:  # otherwise it is the class that gives it
                    p = p.replace(kind=p.KEYWORD_ONLY, annotation=p.empty)
                    found.setdefault(p.name, p)
            if not any(p.kind is p.VAR_KEYWORD for p in given):
                break
        return sorted(found.values(), key=lambda p: p.kind)
