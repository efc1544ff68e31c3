"""Kernels: arrays in, arrays out. They know no gradients.

An op finds its kernel by its name, per device:

- "python": Python floats, for the scalar engine (`python.py`);
- "reference": NumPy, slow and obvious: what each kernel means (`reference/`);
- "cpu": numba where that is faster (`cpu/`), otherwise the reference;
- "cuda": numba on an NVIDIA GPU (`cuda/`);
- "program": notes down which kernels for the CPU a training step calls (`program.py`);
- "Formula": writes down what is computed (`formula.py`), for `backward(trace=True)`.

The type of a value tells its device, so a tensor needs no device field that could be wrong.
numba is imported when the first of its kernels is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from minitorch_ciml import config
from minitorch_ciml.kernels import halves
from minitorch_ciml.kernels.cpu import buffers

_DEVICES: dict[type, str] = {np.ndarray: "cpu", float: "python", bool: "python", int: "python"}

_REFERENCE = (
    "reference.elementwise", "reference.reduce", "reference.shape", "reference.linalg",
    "reference.nn", "reference.optimizer", "reference.random",
    "reference.normalization", "reference.recurrent", "reference.attention", "reference.conv",
    "reference.fourier", "reference.ctc",
    "reference.images",
)  # fmt: skip

# The kernels that have a fast version, by the module of `kernels/cpu/` that holds them. The table
# is here, and not found by importing, because those modules import numba.
_CPU = {
    "broadcasting": (
        "add", "divide", "maximum", "minimum", "multiply", "negative", "square", "subtract",
    ),
    "columns": ("cumsum", "cumsum_grad"),
    "conv": (
        "conv", "conv_bias_act", "conv_bias_act_grad", "conv_bias_add_act",
        "conv_bias_add_act_grad", "conv_grad", "conv_input_grad", "conv_kernel_grad",
        "conv_max_pool", "conv_max_pool_grad",
    ),
    "conversion": ("cast",),
    "copies": ("concatenate", "stack"),
    "dense": ("dense", "dense_grad"),
    "elementwise": (
        "absolute", "clip", "clipped_relu", "clipped_relu_grad", "erfc", "exp", "exp_grad",
        "leaky_relu", "power", "reciprocal", "relu", "relu_grad", "rsqrt", "sqrt", "tanh", "where",
    ),
    "activations": (
        "elu", "elu_grad", "erf", "gelu", "gelu_grad", "hard_sigmoid", "hard_sigmoid_grad",
        "hard_silu", "hard_silu_grad", "leaky_relu_grad", "mish", "mish_grad", "sigmoid",
        "sigmoid_grad", "silu", "silu_grad", "softplus", "softplus_grad",
    ),
    "images": ("sample_images",),
    "indexing": ("put", "top_indices"),
    "products": ("matmul", "matmul_grad"),
    "gradients": (
        "divide_grad", "multiply_grad", "negative_grad", "square_grad", "subtract_grad",
    ),
    "reduce": (
        "logsumexp", "logsumexp_grad", "max", "mean", "mean_grad", "min", "prod", "prod_grad",
        "sum", "sum_to", "var", "var_grad", "vector_norm",
    ),
    "optimizer": (
        "adadelta", "adagrad", "adam", "adamax", "ftrl", "lion", "nadam", "rmsprop", "sgd",
    ),
    "batch_normalization": (
        "batch_moments", "batch_normalization", "batch_normalization_grad", "normalize_batch",
        "normalize_batch_grad",
    ),
    "layer_normalization": ("layer_normalization", "layer_normalization_grad"),
    "random": ("dropout", "random_words"),
    "attention": (
        "attention", "attention_grad", "one_head_attention", "one_head_attention_grad",
    ),
    "resampling": ("weighted_sums", "weighted_sums_grad"),
    "rows": ("log_softmax", "log_softmax_grad", "softmax", "softmax_grad"),
    "recurrent": (
        "gru", "gru_grad", "lstm", "lstm_grad", "simple_rnn", "simple_rnn_grad",
    ),
    "pool": (
        "avg_pool", "avg_pool_grad", "max_pool", "max_pool_gather", "max_pool_grad",
        "max_pool_places", "max_pool_scatter", "upsample", "upsample_grad",
    ),
    "losses": (
        "binary_crossentropy", "binary_crossentropy_grad", "categorical_crossentropy",
        "categorical_crossentropy_grad", "sparse_categorical_crossentropy",
        "sparse_categorical_crossentropy_grad",
    ),
}  # fmt: skip
# The modules of `kernels/cuda/` that have kernels, in the order in which they are searched.
_CUDA = (
    "cuda.functions",
    "cuda.elementwise",
    "cuda.shape",
    "cuda.reduce",
    "cuda.search",
    "cuda.scan",
    "cuda.sort",
    "cuda.indexing",
    "cuda.softmax",
    "cuda.losses",
    "cuda.normalization",
    "cuda.pool",
    "cuda.random",
    "cuda.conv",
    "cuda.attention",
    "cuda.recurrent",
    "cuda.matmul",
    "cuda.linalg",
    "cuda.optimizer",
    "cuda.loss_scale",
    "cuda.metrics",
)
_CPU_MODULE = {name: module for module, names in _CPU.items() for name in names}


def register(array_type: type, device: str) -> None:
    """Says that values of this type live on `device`."""
    _DEVICES[array_type] = device


def device_of(array_type: type) -> str:
    """The device on which values of this type live."""
    return _DEVICES.get(array_type, array_type.__name__)


def place(array: Any, device: str) -> Any:
    """The array on `device`: itself if it is there, otherwise a copy."""
    if device_of(type(array)) == device:
        return array
    if device == "program":
        return _program().constant(array)
    return array.numpy() if device == "cpu" else _cuda_memory().to_device(array)


def constant(number: bool | int | float, dtype: np.dtype, device: str) -> Any:
    """An array of shape () that nobody writes to."""
    if device == "cuda":
        return _cuda_memory().constant(number, dtype)
    array = np.asarray(number, dtype)
    return _program().constant(array) if device == "program" else array


def full(shape: tuple[int, ...], value: float, dtype: Any, device: str) -> Any:
    """A new array, filled with one number, that may be written to."""
    if device == "cuda":
        return _cuda_memory().full(shape, value, dtype)
    array = buffers.aligned(shape, dtype)
    array[...] = value
    return _program().constant(array) if device == "program" else array


def from_other_library(array: Any) -> Any:
    """A copy of an array that CuPy, PyTorch or numba has on the GPU; None if it is none such."""
    if isinstance(array, np.ndarray) or not hasattr(type(array), "__cuda_array_interface__"):
        return None
    interface = getattr(array, "__cuda_array_interface__", None)  # PyTorch's on a CPU has none
    return None if interface is None else _cuda_memory().from_interface(interface)


def staging(array: Any) -> Any:
    """Memory on the host for the elements of an array on the GPU; see `cuda/transfer.py`."""
    return import_module(f"{__name__}.cuda.transfer").Staging(array)


def to_dlpack(array: Any, *how: Any) -> Any:
    """A DLPack capsule of an array on the GPU; see `cuda/dlpack.py`."""
    return import_module(f"{__name__}.cuda.dlpack").capsule_of(array, *how)


def from_dlpack(array: Any) -> Any:
    """A copy of an array that another library has on this process's GPU, by DLPack."""
    return import_module(f"{__name__}.cuda.dlpack").taken(array)


def dlpack_device() -> tuple[int, int]:
    """DLPack's numbers of the GPU that this process uses."""
    return import_module(f"{__name__}.cuda.runtime").runtime().dlpack_device


def to_host(array: Any) -> np.ndarray:
    """The array in the host's memory: itself if it is there; from a GPU a copy, which waits."""
    return place(array, "cpu")


def _cuda_memory() -> Any:
    return import_module(f"{__name__}.cuda.memory")


def _program() -> Any:
    return import_module(f"{__name__}.program")


class OpKernels(dict):
    """The kernels called `name`, by the type of the values: each is found when first needed.

    None stands for a device that has no such kernel.
    """

    def __init__(self, name: str):
        self.name = name
        _all_op_kernels.append(self)

    def __missing__(self, array_type: type) -> Callable | None:
        device = device_of(array_type)
        if device == "program":
            kernel = self[np.ndarray]  # also where it is one that computes in float32
            self[array_type] = kernel and _program().noted(kernel)
            return self[array_type]
        kernel = find(device, self.name)
        if kernel is not None and halves.in_use and device in ("cpu", "cuda"):
            kernel = halves.computing_in_float32(self.name, kernel, device)
        self[array_type] = kernel
        return kernel


_all_op_kernels: list[OpKernels] = []


def prepare_for(dtype: np.dtype) -> None:
    """Before the first array of 16-bit floats: makes all ops compute with them (`halves.py`)."""
    if halves.is_half(dtype) and not halves.in_use:
        halves.in_use = True
        for found in _all_op_kernels:
            found.clear()


def _choose_gpu(number: int | None) -> None:
    import_module(f"{__name__}.cuda.runtime").choose(number)


def _choose_half(name: str, number: int | None) -> None:
    prepare_for(halves.dtype_of(name))


config.when_chosen("cuda", _choose_gpu)
for _name in ("float16", "bfloat16"):
    config.when_chosen(_name, partial(_choose_half, _name))


@cache
def find(device: str, name: str) -> Callable | None:
    """The kernel called `name` on `device`, or None if that device has none."""
    if device == "python":
        return getattr(import_module(f"{__name__}.python"), name, None)
    if device == "cpu" and name in _CPU_MODULE:
        return getattr(import_module(f"{__name__}.cpu.{_CPU_MODULE[name]}"), name)
    if device == "Formula":
        compute = find("reference", name)
        return compute and import_module(f"{__name__}.formula").kernel(name, compute)
    if device == "program":
        kernel = find("cpu", name)
        return kernel and _program().noted(kernel)
    if device in ("cpu", "reference", "cuda"):
        for module in _CUDA if device == "cuda" else _REFERENCE:
            kernel = getattr(import_module(f"{__name__}.{module}"), name, None)
            if kernel is not None:
                return kernel
    return None
