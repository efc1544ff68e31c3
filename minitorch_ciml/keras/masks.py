"""Masks: which steps of a sequence count, carried from layer to layer beside the tensors.

A mask is a tensor of booleans (N, T), kept on the tensor that it belongs to. `Embedding` with
`mask_zero=True` and `Masking` make one; layers that have an argument `mask` get it; layers that
support masking pass it on to their outputs; losses and metrics leave out the steps that it rules
out. Functions of `ops` make tensors without a mask.
"""

from __future__ import annotations

import warnings
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


class CarriesMasks:
    """A base of `Layer`: which masks a call gets, and what becomes of them."""

    name: str
    _call_names: tuple[str, ...]  # the arguments of `call`
    supports_masking = False

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the output (or one for each) from that of the first argument.

        A subclass that overrides it, or says `supports_masking = True`, passes masks on.
        """
        return previous_mask

    def _fill_in_masks(self, args: tuple, kwargs: dict) -> Any:
        """Puts the tensors' masks into `kwargs` where `call` takes them.

        As in Keras: the mask of the only tensor goes to `mask`; of several tensors, that of the
        argument `query` to `query_mask`, and so on.

        Returns:
            The mask of the first argument.
        """
        given = {**dict(zip(self._call_names, args)), **kwargs}
        tensors = {name: value for name, value in given.items()
                   if any(isinstance(x, Tensor) for x in flatten(value))}  # fmt: skip
        for name, value in tensors.items():
            name = "mask" if len(tensors) == 1 else f"{name}_mask"
            if name in self._call_names[len(args) :] and kwargs.get(name) is None:
                if any_mask((value,), {}):
                    kwargs[name] = mask_of(value)
        mask = kwargs.get("mask", given.get("mask"))
        return mask_of(args[0]) if mask is None else mask

    def _pass_mask_on(self, inputs: Any, outputs: Any, mask: Any) -> None:
        if self.supports_masking:
            set_mask(outputs, self.compute_mask(inputs, mask))
        elif any(m is not None for m in flatten(mask)):
            warnings.warn(
                f"layer {self.name!r} ({type(self).__name__}) does not support masking: the layers "
                "after it do not see the mask of its input.",
                stacklevel=4,
            )
