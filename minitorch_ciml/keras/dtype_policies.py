"""Which dtype a layer computes in, and which its variables have."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.keras.serialization import (
    deserialize_keras_object,
    serializable,
    serialize_keras_object,
)
from minitorch_ciml.kernels import halves

__all__ = [
    "DTypePolicy", "FloatDTypePolicy", "QuantizedDTypePolicy", "deserialize", "get", "serialize",
]  # fmt: skip


@serializable("keras", "keras.dtype_policies.DTypePolicy")
class DTypePolicy:
    """A pair of dtypes: `compute_dtype` for the arithmetic and `variable_dtype` for the weights.

    Args:
        name: a float dtype for both, such as "float32". "mixed_bfloat16" and "mixed_float16"
            compute in 16 bits and keep float32 weights; float16 needs a `LossScaleOptimizer`.

    Raises:
        ImportError: bfloat16 needs the package ml_dtypes.
        ValueError: there is no such policy.

    Attributes:
        arithmetic: `compute_dtype` as NumPy's.
        mixed: whether the two differ, so that weights are cast when they are used.
        quantization_mode: None; "int8" of a `QuantizedDTypePolicy`.
    """

    quantization_mode: str | None = None

    def __init__(self, name: str = "float32"):
        self.name = name
        self.compute_dtype, self.variable_dtype = _dtypes(name)
        self.arithmetic = np.dtype(self.compute_dtype)
        self.mixed = self.compute_dtype != self.variable_dtype

    def get_config(self) -> dict:
        """The arguments that make such a policy again."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> DTypePolicy:
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


@serializable("keras.dtype_policies")
class QuantizedDTypePolicy(DTypePolicy):
    """The policy of layers after `quantize("int8")`: "int8_from_float32".

    Args:
        mode: "int8".
        source_name: the policy before; that of layers that are given none if left out.
    """

    def __init__(self, mode: str, source_name: str | None = None):
        source_name = source_name or dtype_policy().name
        if mode != "int8":
            raise NotImplementedError(
                f"QuantizedDTypePolicy: got mode {mode!r}, only 'int8' is there."
            )
        super().__init__(source_name)
        if self.compute_dtype == "float16":
            raise ValueError("QuantizedDTypePolicy: 'int8' does not go together with float16.")
        self.name = f"{mode}_from_{source_name}"
        self.quantization_mode, self._source_name = mode, source_name

    def get_config(self) -> dict:
        return {"mode": self.quantization_mode, "source_name": self._source_name}

    def __repr__(self) -> str:
        return f'<QuantizedDTypePolicy "{self.name}">'


def _of_name(name: str) -> DTypePolicy:
    if name == "int8":
        raise ValueError("dtype policy 'int8': write 'int8_from_float32'.")
    mode, source, source_name = name.partition("_from_")
    return QuantizedDTypePolicy(mode, source_name) if source else DTypePolicy(name)


def _dtypes(name: str) -> tuple[str, str]:
    """The dtype to compute in and that of the weights."""
    kind, _, dtype = name.rpartition("_")
    try:
        found = halves.dtype_of(dtype)
    except TypeError:
        dtype = ""
    else:
        kernels.prepare_for(found)
        dtype = found.name
    if not dtype or kind not in ("", "mixed") or (kind and dtype not in ("float16", "bfloat16")):
        raise ValueError(
            f"unknown dtype policy {name!r}; use a dtype such as 'float32', 'mixed_bfloat16' or "
            "'mixed_float16'."
        )
    return dtype, "float32" if kind else dtype


_policies: dict[str, DTypePolicy] = {}


def get(identifier: Any) -> DTypePolicy:
    """The policy that `identifier` means: None (`floatx()`), a name, a dtype, or a policy."""
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if identifier is None:
        name = _global_policy or config.floatx()
    elif isinstance(identifier, str):
        name = identifier
    else:
        name = np.dtype(identifier).name
    if name not in _policies:
        _policies[name] = _of_name(name)
    return _policies[name]


def serialize(dtype_policy: DTypePolicy) -> dict:
    """A policy as plain data."""
    return serialize_keras_object(dtype_policy)


def deserialize(config: dict, custom_objects: dict | None = None) -> DTypePolicy:
    """The policy that `serialize` described."""
    return deserialize_keras_object(config, custom_objects)


FloatDTypePolicy = DTypePolicy  # another name that Keras has for it

_global_policy: str | None = None


def dtype_policy() -> DTypePolicy:
    """The policy of layers that are given none."""
    return get(None)


def set_dtype_policy(policy: Any) -> None:
    """Sets the policy of layers that are given none."""
    global _global_policy
    _global_policy = get(policy).name


def __dir__() -> list[str]:
    return __all__
