"""The arguments of a layer's methods: their names, and what was given for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def bound_arguments(cls: type, layer: Any, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    """The arguments of `__init__` by name; an error names the class that the user wrote."""
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    if not cls.__new__.__module__.startswith("minitorch_ciml."):  # it may hold arguments back
        return signature.bind_partial(layer, *args, **kwargs)
    try:
        return signature.bind(layer, *args, **kwargs)
    except TypeError as error:
        names = [p.name + "=..." for p in list(signature.parameters.values())[1:]
                 if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]  # fmt: skip
        expected = f"; expected {cls.__name__}({', '.join(names)})" if names else ""
        raise TypeError(f"{cls.__name__}: {error}{expected}.") from None


def shape_parameters(build: Callable) -> tuple[str, ...]:
    """The names of the arguments (after self) that have no default, or end in "_shape"."""
    parameters = list(inspect.signature(build).parameters.values())[1:]
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return tuple(
        p.name
        for p in parameters
        if p.kind is plain and (p.default is p.empty or p.name.endswith("_shape"))
    )


def init_parameters(cls: type) -> dict[str, Any]:
    """The named parameters of `__init__`, of the class and of those its **kwargs go to."""
    from minitorch_ciml.keras.layers.layer import Layer  # which imports this module

    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base is Layer:
            break
        if "__init__" not in base.__dict__:
            continue
        signature = inspect.signature(base.__init__)  # type: ignore[misc]
        parameters = list(signature.parameters.values())[1:]
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                found.setdefault(p.name, None if p.default is p.empty else p.default)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


_OF_ALL = ("name", "trainable", "dtype")  # the arguments of Layer that are told


def keras2_input_shape(layer: Any, arguments: dict) -> tuple | None:
    """The batch shape that Keras 2's `input_shape=`, `input_dim=` or `batch_input_shape=` mean."""
    shape = arguments.pop("batch_input_shape", None) or arguments.pop("batch_shape", None)
    if "input_shape" in arguments:
        inner = arguments.pop("input_shape")
        shape = (None, *((inner,) if isinstance(inner, int) else inner))
    if "input_dim" in arguments:
        shape = (None, arguments.pop("input_dim"))
    arguments.pop("input_length", None)
    arguments.pop("weights", None)
    if arguments:
        raise TypeError(
            f"{type(layer).__name__}: unknown argument {', '.join(map(repr, arguments))}; known: "
            f"{', '.join(dict.fromkeys([*init_parameters(type(layer)), *_OF_ALL]))}."
        )
    return None if shape is None else tuple(shape)
