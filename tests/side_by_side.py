"""What a script in `tests/scripts` needs to give the same numbers in Keras and here.

The two draw other random numbers, and gradients belong to Keras' backend, here PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor, grad


def alike(*models: Any, weights: str = "weights") -> None:
    """Gives the weights of models values that depend on nothing but their order and shapes."""
    rng = np.random.default_rng(1)
    for model in models:
        for weight in getattr(model, weights):
            shape = tuple(weight.shape)
            if weight.name in ("gamma", "moving_variance"):
                value = np.ones(shape)
            elif weight.name in ("bias", "beta", "moving_mean"):
                value = np.zeros(shape)
            elif "seed" in weight.name:
                continue
            else:
                value = rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) or 1)
            weight.assign(value.astype("float32"))


def gradients_of(loss: Any, weights: Any, create_graph: bool = False) -> list:
    """The gradients of a loss for weights, or for what `watched` gave."""
    if isinstance(loss, Tensor):
        return grad(loss, list(weights), create_graph=create_graph)
    import torch

    values = [getattr(w, "value", w) for w in weights]
    return list(torch.autograd.grad(loss, values, create_graph=create_graph))


def watched(keras: Any, array: Any) -> Any:
    """A tensor of that library by which can be differentiated."""
    if keras.__name__.startswith("minitorch_ciml"):
        return Tensor(array, requires_grad=True)
    import torch

    return torch.tensor(np.asarray(array), requires_grad=True)
