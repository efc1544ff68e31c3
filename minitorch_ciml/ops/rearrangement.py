"""`rearrange`: axes split, reordered and joined, described in words (A. Rogozhnikov's einops)."""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod
from typing import Any

from minitorch_ciml.autograd.tensor import Tensor, as_tensor
from minitorch_ciml.ops.shape import reshape, transpose

__all__ = ["rearrange"]

Groups = tuple[tuple[str, ...], ...]
FURTHER = ("*",)  # a group that stands for any number of axes


def rearrange(tensor: Any, pattern: str, **axes_lengths: int) -> Tensor:
    """The same elements with other axes, such as "b h w c -> b (h w) c".

    Every axis has a name. Names in parentheses are parts of one axis, the last one running fastest.
    "1" or "()" is an axis of size 1, and "..." stands for any further axes.

    Args:
        tensor: a tensor.
        pattern: the names before and after.
        **axes_lengths: the sizes of axes that do not follow from the shape, such as w1=2 for
            "h (w w1) -> ...".

    Raises:
        ValueError: the pattern is not valid, or does not fit the shape.
    """
    x = as_tensor(tensor)
    before, after = _parse(pattern, x.ndim)
    if len(before) != x.ndim:
        raise ValueError(
            f"rearrange: {pattern!r} describes {len(before)} axes, but the shape is {x.shape}."
        )
    sizes = dict(axes_lengths)
    for group, n in zip(before, x.shape):
        _split(group, n, sizes, pattern)
    names = [name for group in before for name in group]
    order = [names.index(name) for group in after for name in group]
    y = transpose(reshape(x, tuple([sizes[name] for name in names])), order)
    return reshape(y, tuple([prod([sizes[name] for name in group]) for group in after]))


def _split(group: tuple[str, ...], n: int, sizes: dict[str, int], pattern: str) -> None:
    """Finds the sizes of the parts of an axis of size n."""
    unknown = [name for name in group if name not in sizes]
    known = prod([sizes[name] for name in group if name in sizes])
    if len(unknown) == 1 and known and n % known == 0:
        sizes[unknown[0]] = n // known
    elif unknown or known != n:
        missing = f"; say how large {', '.join(unknown[1:])} is" if len(unknown) > 1 else ""
        raise ValueError(
            f"rearrange: in {pattern!r} an axis of size {n} does not split into "
            f"({' '.join(group)}){missing}."
        )


@lru_cache(maxsize=256)
def _parse(pattern: str, ndim: int) -> tuple[Groups, Groups]:
    """The names of the parts of every axis, before and after."""
    left, arrow, right = pattern.partition("->")
    before, after = [_groups(side) for side in (left, right)]
    extra = ndim - len([g for g in before if g != FURTHER])
    filled = tuple([(f"_{i}",) for i in range(extra)])
    before, after = [_without_ellipsis(side, filled) for side in (before, after)]
    first, second = [[name for group in side for name in group] for side in (before, after)]
    if not arrow or sorted(first) != sorted(second) or len(set(first)) != len(first):
        raise ValueError(
            f"rearrange: {pattern!r} is not valid: expected the form 'a b c -> b (a c)', with the "
            "same names on both sides, each once."
        )
    return before, after


def _groups(side: str) -> Groups:
    parts = re.findall(r"\(([^()]*)\)|(\.\.\.|[^\s()]+)", side)
    return tuple([
        tuple(inside.split()) if not name else {"1": (), "...": FURTHER}.get(name, (name,))
        for inside, name in parts
    ])  # fmt: skip


def _without_ellipsis(groups: Groups, filled: Groups) -> Groups:
    """`filled` in the place of "...", which may stand in parentheses, too."""
    names = tuple([name for group in filled for name in group])
    found: list[tuple[str, ...]] = []
    for group in groups:
        if group == FURTHER:
            found.extend(filled)
        else:
            parts = [names if name == "..." else (name,) for name in group]
            found.append(tuple([name for part in parts for name in part]))
    return tuple(found)
