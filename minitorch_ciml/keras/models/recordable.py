"""Whether a model's steps do the same every time, so that one may be recorded and replayed."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras.tree import flatten


def reason_against_recording(model: Any) -> str | None:
    """Why forward, loss and gradients of a model cannot be recorded, or None."""
    from minitorch_ciml.keras.models.trainer import Trainer

    arguments = model._compile_arguments or {}
    if model.run_eagerly:
        return "run_eagerly=True"
    if arguments.get("jit_compile") is False:
        return "jit_compile=False"
    inventory = model._inventory().layers
    on_host = [type(layer).__name__ for layer in inventory if getattr(layer, "on_host", False)]
    if on_host:
        return f"{on_host[0]} is computed on the host; a data set's map can do it before the model"
    if arguments.get("jit_compile") is True:
        return None  # as asked
    if type(model).compute_loss is not Trainer.compute_loss:
        return reason_for_own(model, "compute_loss")
    things = flatten(arguments.get("loss"))
    for layer in inventory:
        things += [layer, *(v for v in vars(layer).values() if callable(v))]
    for weight in model.weights:
        things += [getattr(weight, "regularizer", None), getattr(weight, "constraint", None)]
    return reason_against(things)


def reason_for_own(model: Any, method: str) -> str:
    return f"{type(model).__name__} has its own {method}; pass jit_compile=True if it may be"


def reason_against(things: list) -> str | None:
    """Names the first of some layers, losses and functions that is not of this package."""
    for thing in things:
        if not _is_ours(thing):
            name = getattr(thing, "__name__", type(thing).__name__)
            return f"{name} is not of this package; pass jit_compile=True if its steps are alike"
    return None


def _is_ours(thing: Any) -> bool:
    if thing is None or isinstance(thing, str):
        return True
    function = getattr(thing, "fn", getattr(thing, "_fn", None))  # of a wrapped loss or metric
    if function is not None and not _is_ours(function):
        return False
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return str(named.__module__).partition(".")[0] == __name__.partition(".")[0]
