"""Layers that prepare numbers: scaling, counting, binning."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.layers.images import one_of
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.keys import ENCODINGS, batches_of, encode, encoded_shape
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import serializable

EPSILON = 1e-7


@serializable("keras.layers")
class Normalization(Layer):
    """y = (x - mean) / sqrt(variance), for every position along `axis`.

    Mean and variance are given, or found by `adapt(data)` before the training.

    Args:
        axis: the axis or axes that keep statistics of their own; None for one mean of all.
        mean, variance: the statistics, if they are known.
        invert: y = x sqrt(variance) + mean, the way back.
    """

    supports_masking = True

    def __init__(
        self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        if (mean is None) != (variance is None):
            raise ValueError("Normalization: give both, mean and variance, or none of them.")
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        self.input_mean, self.input_variance = mean, variance
        self.invert = invert

    def build(self, input_shape: tuple) -> None:
        kept = sorted(axis % len(input_shape) for axis in self.axis)
        self._kept = tuple(kept)
        if any(input_shape[axis] is None for axis in kept):
            raise ValueError(
                f"Normalization: the sizes along axis {self.axis} must be known, got shape "
                f"{tuple(input_shape)}."
            )
        self._aligned = [n if i in kept else 1 for i, n in enumerate(input_shape)]
        if self.input_mean is None:
            shape = tuple(input_shape[axis] for axis in kept)
            self.adapt_mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
            self.adapt_variance = self.add_weight(shape, "ones", trainable=False, name="variance")
            self.count = self.add_weight((), "zeros", "int32", trainable=False, name="count")

    def adapt(self, data: Any) -> None:
        """Finds mean and variance: of an array, or of all batches of a data set or iterable."""
        total: Any = 0.0
        squares: Any = 0.0
        count = 0
        shift: Any = None
        for batch in batches_of(data):
            if not self.built:
                self.build(batch.shape)
            others = tuple(i for i in range(batch.ndim) if i not in self._kept)
            x = batch.astype("float64")
            # Around the first batch's mean: the mean of squares alone would lose digits.
            shift = x.mean(axis=others, keepdims=True) if shift is None else shift
            total = total + (x - shift).sum(axis=others)
            squares = squares + ((x - shift) ** 2).sum(axis=others)
            count += x.size // max(1, int(np.prod([x.shape[i] for i in self._kept])))
        if not count:
            raise ValueError("Normalization.adapt: the data are empty.")
        if self.input_mean is not None:
            raise ValueError("Normalization.adapt: mean and variance were given already.")
        mean = total / count
        self.adapt_mean.assign(mean + np.reshape(shift, np.shape(mean)))
        self.adapt_variance.assign(squares / count - mean**2)

    @property
    def mean(self) -> Any:
        """The mean, in a shape that broadcasts to the inputs."""
        return self._statistics("adapt_mean", self.input_mean)

    @property
    def variance(self) -> Any:
        """The variance, in a shape that broadcasts to the inputs."""
        return self._statistics("adapt_variance", self.input_variance)

    def _statistics(self, name: str, given: Any) -> Any:
        if not self.built:
            return None
        values = getattr(self, name) if given is None else np.asarray(given)
        values = ops.cast(values, self.compute_dtype)
        whole = ops.broadcast_to(values, [self._aligned[i] for i in self._kept])
        return ops.reshape(whole, self._aligned)

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, self.compute_dtype)
        scale = ops.maximum(ops.sqrt(self.variance), EPSILON)
        return x * scale + self.mean if self.invert else (x - self.mean) / scale

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        given = {"mean": self.input_mean, "variance": self.input_variance}
        plain = {k: v if v is None else np.asarray(v).tolist() for k, v in given.items()}
        return {**super().get_config(), "axis": self.axis, **plain}


@serializable("keras.layers")
class CategoryEncoding(Layer):
    """Integers 0 to num_tokens - 1 as codes: x (N, K) -> y (N, num_tokens).

    Args:
        num_tokens: the number of categories.
        output_mode: "multi_hot" (1 where a category occurs in the sample), "count" (how often), or
            "one_hot" (a code for each integer: x (N,) or (N, 1)).
        sparse: not available.

    Call arguments:
        count_weights: for "count": what each integer counts, in the shape of x.
    """

    def __init__(
        self, num_tokens: int | None = None, output_mode: str = "multi_hot", sparse: bool = False,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.num_tokens = positive("CategoryEncoding", "num_tokens", num_tokens)
        self.output_mode = one_of("CategoryEncoding", "output_mode", output_mode, ENCODINGS)
        self.sparse = one_of("CategoryEncoding", "sparse", sparse, (False,))
        self.autocast = False
        self.built = True

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        index = np.asarray(inputs).astype("int64")
        if index.size and not 0 <= index.min() <= index.max() < self.num_tokens:
            raise ValueError(
                f"layer {self.name!r}: the integers must be between 0 and num_tokens - 1 = "
                f"{self.num_tokens - 1}, got {index.min()} to {index.max()}."
            )
        if count_weights is not None and self.output_mode != "count":
            raise ValueError("CategoryEncoding: count_weights are for output_mode='count' only.")
        return encode(index, self.output_mode, self.num_tokens, self.dtype, count_weights)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return encoded_shape(input_shape, self.output_mode, self.num_tokens)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["sparse"]  # as in Keras
        return config


@serializable("keras.layers")
class Discretization(Layer):
    """Numbers as the integers of the bins that they fall into: 0 below the first boundary, ...

    Args:
        bin_boundaries: the boundaries, rising; a number equal to one is in the upper bin.
        num_bins: how many bins `adapt(data)` is to make, each with as many of the data (their
            quantiles, exact ones; Keras approximates them within `epsilon`).
        epsilon: accepted as in Keras, without effect.
        output_mode: "int", or a code as in `CategoryEncoding`.
        sparse: not available.
    """

    def __init__(
        self, bin_boundaries: Any = None, num_bins: int | None = None, epsilon: float = 0.01,
        output_mode: str = "int", sparse: bool = False, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError("Discretization: give bin_boundaries or num_bins.")
        self.bin_boundaries = None if bin_boundaries is None else [float(b) for b in bin_boundaries]
        self.num_bins = num_bins
        self.epsilon = epsilon
        self.output_mode = one_of("Discretization", "output_mode", output_mode, ("int", *ENCODINGS))
        self.sparse = one_of("Discretization", "sparse", sparse, (False,))
        self.built = True

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Finds the boundaries of `num_bins` bins with equal numbers of the data."""
        if self.num_bins is None:
            raise ValueError("Discretization.adapt: the boundaries were given; pass num_bins=.")
        parts = [batch.ravel() for batch in batches_of(data, steps)]
        shares = np.arange(1, self.num_bins) / self.num_bins
        self.bin_boundaries = np.quantile(np.concatenate(parts), shares).tolist()

    def call(self, inputs: Any) -> Any:
        if self.bin_boundaries is None:
            raise ValueError(f"layer {self.name!r}: call adapt(data) or pass bin_boundaries first.")
        index = np.digitize(np.asarray(inputs), self.bin_boundaries)
        if self.output_mode == "int":
            return Tensor.constant(index.astype("int32"))
        depth = len(self.bin_boundaries) + 1
        return encode(index, self.output_mode, depth, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if self.output_mode == "int":
            return input_shape
        bins = self.num_bins if self.bin_boundaries is None else len(self.bin_boundaries) + 1
        return encoded_shape(input_shape, self.output_mode, bins or 0)

    @classmethod
    def from_config(cls, config: dict) -> Any:
        boundaries = config.get("bin_boundaries")
        if boundaries is None or config.get("num_bins") is None:
            return super().from_config(config)
        layer = super().from_config({**config, "bin_boundaries": None})  # it was adapted
        layer.bin_boundaries = boundaries
        return layer
