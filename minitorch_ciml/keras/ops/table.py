"""The functions of `keras.ops` by name, and the modules that Keras has them in.

Saved models name a function by its module in Keras and its class there, such as `Add` of
`keras.src.ops.numpy`. Functions that stand in none of the lists here are in `numpy`.
"""

from __future__ import annotations

from collections.abc import Callable

from minitorch_ciml import ops
from minitorch_ciml.keras.ops import control
from minitorch_ciml.keras.serialization import snake_case
from minitorch_ciml.ops import image

CORE = (
    "associative_scan", "cast", "cond", "convert_to_numpy", "convert_to_tensor", "custom_gradient",
    "dtype", "fori_loop", "is_tensor", "map", "saturate_cast", "scan", "scatter", "scatter_update",
    "shape", "slice", "slice_update", "stop_gradient", "switch", "unstack", "vectorized_map",
    "while_loop",
)  # fmt: skip
MATH = (
    "cdist", "erf", "erfc", "erfinv", "extract_sequences", "fft", "fft2", "ifft2", "in_top_k",
    "irfft", "istft", "logdet", "logsumexp", "rfft", "rsqrt", "segment_max", "segment_min",
    "segment_prod", "segment_sum", "stft", "top_k",
)  # fmt: skip
LINALG = (
    "cholesky", "cholesky_inverse", "det", "eig", "eigh", "inv", "jvp", "lstsq", "lu_factor",
    "matrix_rank", "norm", "pinv", "qr", "solve", "solve_triangular", "svd",
)  # fmt: skip
NN = (
    "adaptive_average_pool", "adaptive_max_pool", "average_pool", "batch_normalization",
    "binary_crossentropy", "categorical_crossentropy", "celu", "conv", "conv_transpose",
    "ctc_decode", "ctc_loss", "depth_to_space", "depthwise_conv", "dot_product_attention", "elu",
    "fold", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "layer_normalization", "leaky_relu", "log_sigmoid", "log_softmax", "max_pool", "moments",
    "multi_hot", "normalize", "one_hot", "psnr", "relu", "relu6", "rms_normalization", "selu",
    "separable_conv", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
    "space_to_depth", "sparse_categorical_crossentropy", "sparse_plus", "sparse_sigmoid",
    "sparsemax", "squareplus", "swish", "tanh_shrink", "threshold", "unfold",
)  # fmt: skip
IMAGE = tuple(image.__all__)

_MODULES = {"core": CORE, "math": MATH, "linalg": LINALG, "nn": NN, "image": IMAGE,
            "einops": ("rearrange",)}  # fmt: skip

# This package's own, which Keras does not have.
OWN = (
    "clipped_relu", "conv_bias_act", "conv_max_pool", "dense", "flatten", "getitem", "gru", "lstm",
    "mean_squared_error", "mish", "normalize_batch", "simple_rnn", "upsample",
)  # fmt: skip

# The sizes of their results depend on the numbers.
SIZED_BY_VALUES = (
    "bincount", "nonzero", "segment_max", "segment_min", "segment_prod", "segment_sum", "unique",
    "where",
)  # fmt: skip

FUNCTIONS: dict[str, Callable] = {
    **{name: getattr(ops, name) for name in ops.__all__},
    **{name: getattr(control, name) for name in control.__all__},
    **{name: getattr(image, name) for name in image.__all__},
}
NUMPY = tuple(
    name
    for name in FUNCTIONS
    if name not in (*OWN, "rearrange", *CORE, *MATH, *LINALG, *NN, *IMAGE)
)

# Classes whose names do not follow from the functions'.
_CLASSES = {
    "abs": "Absolute", "allclose": "AllClose", "batch_normalization": "BatchNorm", "cdist": "CDist",
    "ctc_decode": "CTCDecode", "ctc_loss": "CTCLoss", "extract_patches_3d": "ExtractPatches",
    "fft": "FFT", "fft2": "FFT2", "hard_swish": "HardSilu", "hsv_to_rgb": "HSVToRGB",
    "ifft2": "IFFT2", "irfft": "IRFFT", "isin": "IsIn", "istft": "ISTFT", "jvp": "JVP",
    "layer_normalization": "LayerNorm", "psnr": "PSNR", "rfft": "RFFT",
    "rgb_to_grayscale": "RGBToGrayscale", "rgb_to_hsv": "RGBToHSV", "rms_normalization": "RMSNorm",
    "searchsorted": "SearchSorted", "ssim": "SSIM", "stft": "STFT", "svd": "SVD", "swish": "Silu",
}  # fmt: skip
_NAMES = {
    class_name: name
    for name, class_name in _CLASSES.items()
    if not name.endswith(("swish", "_3d"))  # the class is that of another function, too
}


# The arguments besides the first that Keras' classes are called with; all others are in their
# configuration. Of any function, and of some:
_INPUTS = frozenset({
    "beta", "bias", "condition", "constant_values", "coordinates", "default", "choicelist", "elems",
    "end_points", "gamma", "image2", "indices", "init", "kernel", "key", "mask",
    "output", "output_length", "pointwise_kernel", "depthwise_kernel", "predictions", "q", "scale",
    "segment_ids", "sequence_lengths", "start_indices", "start_points", "target_length",
    "transform", "translation", "updates", "value", "values", "x1", "x2", "xs",
})  # fmt: skip
_OWN_INPUTS = {
    "average": ("weights",), "cdist": ("y",), "digitize": ("bins",), "full_like": ("fill_value",),
    "isclose": ("rtol", "atol"), "lstsq": ("b",),
    "scale_and_translate": ("output_shape",), "solve": ("b",), "solve_triangular": ("b",),
}  # fmt: skip


# What Keras' classes are called with, in this order, where that is not how their functions begin;
# what is not given is None.
CALLED_WITH = {
    "batch_normalization": ("x", "mean", "variance", "offset", "scale"),
    "layer_normalization": ("x", "gamma", "beta"),
}


def is_input(function: str, argument: str) -> bool:
    """Whether an argument is given when the function's class is called, not when it is made."""
    if function == "rearrange":
        return True
    return argument in _INPUTS or argument in _OWN_INPUTS.get(function, ())


def keras_class(name: str) -> tuple[str, str]:
    """The module of `keras.src.ops` and the class there that is the function `name`."""
    module = next((m for m, names in _MODULES.items() if name in names), "numpy")
    return module, _CLASSES.get(name) or "".join(map(str.capitalize, name.split("_")))


def function_of(class_name: str) -> str:
    """The name of the function that a class of `keras.src.ops` is."""
    return _NAMES.get(class_name) or snake_case(class_name)
