"""Masks: which steps of a sequence count, carried from layer to layer beside the tensors.

A mask is a tensor of booleans (N, T), kept on the tensor that it belongs to. `Embedding` with
`mask_zero=True` and `Masking` make one; layers that have an argument `mask` get it; layers that
support masking pass it on to their outputs; losses and metrics leave out the steps that it rules
out. Functions of `ops` make tensors without a mask.
"""

from __future__ import annotations

from typing import Any

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras.tree import flatten, map_structure


def mask_of(structure: Any) -> Any:
    """The mask of a tensor, or None; for a structure of tensors, the structure of their masks."""
    return map_structure(lambda x: getattr(x, "_keras_mask", None), structure)


def any_mask(args: tuple, kwargs: dict) -> bool:
    """Whether a tensor among the arguments of a call has a mask."""
    for x in (*args, *kwargs.values()) if kwargs else args:
        for leaf in (x,) if type(x) is Tensor else flatten(x):
            if getattr(leaf, "_keras_mask", None) is not None:
                return True
    return False


def set_mask(outputs: Any, masks: Any) -> None:
    """Gives each tensor its mask, unless that is None or the tensor has one already."""
    if masks is None:
        return
    for y, mask in zip(flatten(outputs), flatten(masks)):
        if mask is not None and isinstance(y, Tensor) and mask_of(y) is None:
            y._keras_mask = as_tensor(mask)
