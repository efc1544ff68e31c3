"""`Function`: a function of `ops` as a layer, so that models can be written with operators."""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.keras.symbolic import unique_name


@serializable("keras")
class Function(Layer):
    """`ops.<function>` applied to a model's tensors, as in `x + 1` or `keras.ops.exp(x)`.

    Args:
        function: the name of a function in `minitorch_ciml.ops`.
    """

    def __init__(self, function: str, name: str | None = None, **kwargs: Any):
        if not hasattr(ops, function):
            raise ValueError(f"Function: there is no function {function!r} in ops.")
        super().__init__(name=name or unique_name(function), **kwargs)
        self.function = function
        self.autocast = False
        self.built = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(ops, self.function)(*args, **kwargs)
