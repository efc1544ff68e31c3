"""Rounding floats to integers of 8 bits (`keras.quantizers`), for `model.quantize("int8")`.

What Keras has for 4 bits, for 8-bit floats, and for GPTQ and AWQ is not there.
"""

from __future__ import annotations

from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras.backend import epsilon as _epsilon
from minitorch_ciml.keras.serialization import (
    Configurable,
    deserialize_keras_object,
    plain_arguments,
    serializable,
    serialize_keras_object,
)
from minitorch_ciml.keras.serialization import get as _get

__all__ = [
    "AbsMaxQuantizer", "Int8QuantizationConfig", "QuantizationConfig", "Quantizer",
    "abs_max_quantize", "deserialize", "get", "serialize",
]  # fmt: skip

MODES = ("int8", "float8", "int4", "gptq", "awq")  # Keras', of which the first is there


def abs_max_quantize(
    inputs: Any,
    axis: Any,
    value_range: tuple[float, float] = (-127, 127),
    dtype: Any = "int8",
    epsilon: float = _epsilon(),
    to_numpy: bool = False,
) -> tuple[Any, Any]:
    """Integers round(s x), and the scale s = highest / (max |x| + epsilon).

    Args:
        inputs: x, floats.
        axis: over which the maximum is taken; s has a size of 1 there.
        value_range: (lowest, highest).
        dtype: of the integers.
        epsilon: keeps the scale of zeros finite.
        to_numpy: accepted as in Keras, where it saves memory of the device.
    """
    x: Tensor = as_tensor(inputs).detach()  # type: ignore[assignment]
    scale = value_range[1] / (ops.max(ops.absolute(x), axis=axis, keepdims=True) + epsilon)
    scale = ops.cast(scale, x.dtype)
    return ops.cast(ops.clip(ops.round(x * scale), *value_range), dtype), scale


@serializable("keras.quantizers")
class Quantizer(Configurable):
    """The base of quantizers: `quantizer(x)` gives the integers."""

    def __init__(self, output_dtype: str = "int8"):
        self.output_dtype = output_dtype

    def __call__(self, x: Any) -> Any:
        return x

    def get_config(self) -> dict:
        raise NotImplementedError(f"{type(self).__name__} has no get_config(); write one.")


@serializable("keras.quantizers")
class AbsMaxQuantizer(Quantizer):
    """`abs_max_quantize` with its arguments.

    Args:
        axis: over which the maximum is taken, if the call does not say.
        value_range, epsilon: see there.
        output_dtype: of the integers.
    """

    def __init__(
        self,
        axis: Any = None,
        value_range: tuple[float, float] = (-127, 127),
        epsilon: float = _epsilon(),
        output_dtype: str = "int8",
    ):
        super().__init__(output_dtype)
        self.axis = (axis,) if isinstance(axis, int) else axis and tuple(axis)
        low, high = value_range
        self.value_range = low, high
        self.epsilon = epsilon
        if output_dtype == "int8" and not -128 <= low < high <= 127:
            raise ValueError(
                f"AbsMaxQuantizer: int8 holds -128 to 127, got value_range={value_range!r}."
            )

    def __call__(self, x: Any, axis: Any = None, to_numpy: bool = False) -> tuple[Any, Any]:
        axis = self.axis if axis is None else axis
        axis = -1 if axis is None else axis
        return abs_max_quantize(x, axis, self.value_range, self.output_dtype, self.epsilon)

    def get_config(self) -> dict:
        config = {
            "value_range": self.value_range,
            "epsilon": self.epsilon,
            "output_dtype": self.output_dtype,
        }
        return config if self.axis is None else {**config, "axis": self.axis}


class QuantizationConfig(Configurable):
    """The base of `Int8QuantizationConfig`.

    Args:
        weight_quantizer: of weights; that of the layer if left out.
        activation_quantizer: of inputs; None: they stay floats.
    """

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = None):
        self.weight_quantizer = weight_quantizer
        self.activation_quantizer = activation_quantizer

    @property
    def mode(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} has no mode; write one.")

    def get_config(self) -> dict:
        return {
            "weight_quantizer": plain_arguments(self.weight_quantizer),
            "activation_quantizer": plain_arguments(self.activation_quantizer),
        }

    @classmethod
    def from_config(cls, config: dict) -> Any:
        return cls(**{name: get(item) for name, item in config.items()})


@serializable("keras.quantizers")
class Int8QuantizationConfig(QuantizationConfig):
    """How `quantize` goes about 8 bits.

    Args:
        weight_quantizer: of weights; one of the best axes if left out.
        activation_quantizer: of inputs, an `AbsMaxQuantizer` if left out; None: they stay floats.
    """

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = "default"):
        if activation_quantizer == "default":
            activation_quantizer = AbsMaxQuantizer()
        super().__init__(weight_quantizer, activation_quantizer)
        dtype = getattr(weight_quantizer, "output_dtype", "int8")
        if dtype != "int8":
            raise ValueError(f"Int8QuantizationConfig: weights must become int8, got {dtype!r}.")

    @property
    def mode(self) -> str:
        return "int8"


def config_of(mode: Any, config: Any) -> QuantizationConfig:
    """What the arguments of `quantize` mean.

    Raises:
        NotImplementedError: a mode that Keras has, and this package does not.
        ValueError: anything else.
    """
    if isinstance(config, str):
        mode, config = config, None
    if config is None and mode is None:
        raise ValueError("quantize: give a mode, as in quantize('int8'), or a config.")
    if config is not None and not isinstance(config, QuantizationConfig):
        raise ValueError(f"quantize: config must be an Int8QuantizationConfig, got {config!r}.")
    if config is not None and mode not in (None, config.mode):
        raise ValueError(f"quantize: got mode={mode!r}, but the config is for {config.mode!r}.")
    check_mode(mode if config is None else config.mode)
    return Int8QuantizationConfig() if config is None else config


def check_mode(mode: Any) -> None:
    """An error unless it is "int8"."""
    if mode not in MODES:
        raise ValueError(f"quantize: got mode {mode!r}, expected 'int8'.")
    if mode != "int8":
        raise NotImplementedError(
            f"quantize: mode {mode!r} is not available, only 'int8' is; save the model with "
            "model.save('name.keras'), and quantise it in Keras."
        )


def get(identifier: Any) -> Any:
    """A quantizer (or configuration of them) by its name, its configuration, or itself."""
    return _get("keras.quantizers", identifier, "quantizer")


def serialize(initializer: Any) -> Any:
    """A quantizer as plain data."""
    return serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """The quantizer that `serialize` described."""
    return deserialize_keras_object(config, custom_objects)


def __dir__() -> list[str]:
    return __all__
