"""`Metric` and the means and sums that most metrics are.

A metric is a few arrays of sums, its *state*. `update_state` adds a batch to them, `result` turns
them into the number. Because the state of every metric here only ever adds, the state of several
processes (or of several halves of the data) is the sum of their states: see `merge_state`.

Metrics are NumPy inside and record no graph. The sums are kept in float64: an epoch of a million
samples would lose digits in float32.

On a GPU, means (losses and accuracies) are added up there, and the host waits for them only when it
wants the result. The other metrics have no kernels: they copy what they are given to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.autograd import Parameter, Tensor
from minitorch_ciml.autograd.tensor import FLOATS, as_array, as_tensor, placed
from minitorch_ciml.config import no_grad
from minitorch_ciml.keras import dtype_policies
from minitorch_ciml.keras.layers.variable import Variable, name_scope
from minitorch_ciml.keras.masks import mask_of
from minitorch_ciml.keras.serialization import (
    Configurable,
    deserialize_keras_object,
    get,
    serializable,
    snake_case,
)
from minitorch_ciml.keras.symbolic import unique_name
from minitorch_ciml.kernels.halves import is_half


@serializable("keras.metrics")
class Metric(Configurable):
    """The base of all metrics.

    A subclass makes its state with `add_weight` in `__init__`, changes it in `update_state`, and
    computes from it in `result`:

        class Largest(Metric):
            def __init__(self, name="largest", **kwargs):
                super().__init__(name=name, **kwargs)
                self.largest = self.add_weight(name="largest")

            def update_state(self, y_true, y_pred, sample_weight=None):
                self.largest.assign(ops.maximum(self.largest, ops.max(y_pred)))

            def result(self):
                return self.largest

    Args:
        dtype: of the result; `floatx()` if left out.
        name: the key in the logs; made from the class name if left out.
    """

    counts = False  # whether, as in Keras, its result never is a float of 16 bits

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.dtype = dtype_policies.get(dtype or config.floatx()).compute_dtype
        self._variables: list[Parameter] = []

    @property
    def _scope(self) -> str:
        """Its name in the paths of its variables: that of a nested output's loss has a / in it."""
        return self.name.replace("/", ">")

    def add_variable(
        self,
        shape: tuple[int, ...],
        initializer: Any,
        dtype: Any = None,
        aggregation: str | None = "sum",
        name: str | None = None,
    ) -> Parameter:
        """A new variable of the state, set back to 0 by `reset_state`.

        Args:
            shape: its shape.
            initializer: what it starts as, such as "zeros".
            dtype: float64 if left out.
            aggregation: how the processes of a parallel run combine it: "sum". Any other is
                accepted for Keras' sake where only one process runs.
            name: its name.
        """
        make = get("keras.initializers", initializer or "zeros", "initializer")
        dtype = dtype or "float64"
        with name_scope(self._scope):
            variable = Variable(make(tuple(shape), dtype=dtype), trainable=False, name=name)
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: tuple[int, ...] = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Parameter:
        """`add_variable` with other defaults: a scalar that starts at 0."""
        return self.add_variable(shape, initializer, dtype, name=name)

    def _add_state(self, name: str, shape: tuple[int, ...] = ()) -> Parameter:
        """A variable of zeros, for the metrics of this package."""
        with config.device("cpu"), name_scope(self._scope):
            variable = Variable(np.zeros(shape), trainable=False, name=name)
        self._variables.append(variable)
        return variable

    @property
    def variables(self) -> list[Parameter]:
        """The state: this metric's variables and those of the metrics that it is made of."""
        parts = (part for part in vars(self).values() if isinstance(part, Metric))
        return [*self._variables, *(v for part in parts for v in part.variables)]

    @property
    def state(self) -> list[np.ndarray]:
        """The arrays behind `variables` (no copies), in the same order.

        Summed elementwise over processes they are the state of all the data.
        """
        return [v.value for v in self.variables]

    def merge_state(self, metrics: Iterable[Metric]) -> None:
        """Adds the states of `metrics`: then `result` is that of all their data."""
        for other in metrics:
            for mine, theirs in zip(self.variables, other.variables):
                mine.assign_add(theirs.to(mine.device))

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Takes a batch into account: `(y_true, y_pred, sample_weight=None)` as a rule."""
        raise NotImplementedError(f"{type(self).__name__} has no update_state(); write one.")

    def result(self) -> Any:
        """The metric of all that `update_state` has seen since the last `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} has no result(); write one.")

    def reset_state(self) -> None:
        """Forgets all batches: sets the state to 0."""
        for v in self.variables:
            v.value[...] = 0
            v.touch()

    def _move(self, device: str) -> None:
        """Brings the state to where the values are that are to be added."""
        for v in self._variables:
            if v.device != device:
                v.value = kernels.place(v.value, device).copy()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`update_state`, then `result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict:
        return {"name": self.name, "dtype": self.dtype}

    def _tensor(self, value: Any) -> Tensor:
        """A result as a tensor; a metric that counts in integers still has a float result."""
        return Tensor.constant(np.asarray(value, dtype=self._result_dtype()))

    def _result_dtype(self) -> str:
        dtype = np.dtype(self.dtype)
        fits = dtype.kind in FLOATS and not (self.counts and is_half(dtype))
        return self.dtype if fits else config.floatx()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def on_host(x: Any) -> np.ndarray:
    """`x` as a NumPy array; what is on a GPU is copied from there, which waits for it."""
    array = x.value if isinstance(x, Tensor) else x
    return array.numpy() if kernels.device_of(type(array)) == "cuda" else as_array(array)


def arrays_or_tensors(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Both as tensors where the predictions are on a GPU, otherwise as NumPy arrays."""
    if isinstance(y_pred, Tensor) and y_pred.device == "cuda":
        return as_tensor(y_true).to("cuda"), y_pred
    return as_array(y_true), as_array(y_pred)


def same_shape(name: str, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """`arrays_or_tensors`, of one shape; an error if they have different ones.

    A last axis of size 1 that only one of them has is dropped: shapes (N, 1) and (N,) would
    broadcast to (N, N).
    """
    t, p = arrays_or_tensors(y_true, y_pred)
    if t.ndim == p.ndim + 1 and t.shape[-1] == 1:
        t = t.reshape(t.shape[:-1])
    elif p.ndim == t.ndim + 1 and p.shape[-1] == 1:
        p = p.reshape(p.shape[:-1])
    if t.shape != p.shape:
        raise ValueError(
            f"{name}: y_true has shape {t.shape} and y_pred {p.shape}; they must be equal, so "
            "encode or reshape the labels."
        )
    return t, p


def divide_no_nan(a: Any, b: Any) -> np.ndarray:
    """a / b, and 0 where b is 0."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0)


def align(values: np.ndarray, sample_weight: Any, reduce: Callable) -> tuple:
    """`values`, reduced to the rank of the weights, and the weights in their shape."""
    weight = on_host(sample_weight)
    if weight.ndim == values.ndim + 1 and weight.shape[-1] == 1:
        weight = weight[..., 0]
    elif weight.ndim == 0 and values.ndim:
        weight = np.broadcast_to(weight, values.shape[:1])
    if weight.ndim < values.ndim:
        values = reduce(values, axis=tuple(range(weight.ndim, values.ndim)))
    try:
        return values, np.broadcast_to(weight, values.shape)
    except ValueError:
        raise ValueError(
            f"sample_weight: got shape {weight.shape} for values of shape {values.shape}; give "
            "one weight per sample."
        ) from None


def _weights_where(mask: Tensor, sample_weight: Any) -> Tensor:
    """The weights, 0 where the mask is False; weights with fewer axes match it from the left."""
    if sample_weight is None:
        return mask.astype(config.floatx())
    weight = as_tensor(sample_weight)
    weight = weight[..., 0] if weight.ndim == mask.ndim + 1 else weight
    return mask * weight.reshape((*weight.shape, *[1] * (mask.ndim - weight.ndim)))


@serializable("keras.metrics")
class Sum(Metric):
    """The sum of the values, each times its weight: state (total,)."""

    def __init__(self, name: str | None = "sum", dtype: Any = None):
        super().__init__(dtype, name)
        self.total = self._add_state("total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds `values` (any shape); weights may have fewer axes, matched from the left."""
        values = on_host(values)
        if sample_weight is not None:
            values, weight = align(values, sample_weight, np.sum)
            values = np.multiply(values, weight, dtype=np.float64)
        self.total.value += values.sum(dtype=np.float64)

    def result(self) -> Tensor:
        return self._tensor(self.total.value)


@serializable("keras.metrics")
class Mean(Metric):
    """The weighted mean of the values over the samples: state (total, count), result total / count.

    A sample's value is the mean over all axes but the first. With weights w, it is
    sum(w v) / sum(w).
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None):
        super().__init__(dtype, name)
        self.total = self._add_state("total")
        self.count = self._add_state("count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds `values` of shape (N, ...) or (); weights (), (N,), (N, 1) or of the same shape."""
        array = values.value if isinstance(values, Tensor) else values
        if kernels.device_of(type(array)) == "cuda":
            self._add_on_gpu(array, sample_weight)
            return
        self._move("cpu")
        if isinstance(sample_weight, (int, float)) and np.ndim(array) == 0:  # the loss of a batch
            self.total.value += float(array) * sample_weight
            self.count.value += sample_weight
            return
        values = as_array(array)
        if sample_weight is None:
            total, count = values.sum(dtype=np.float64), values.size
        else:
            values, weight = align(values, sample_weight, np.mean)
            total = np.multiply(values, weight, dtype=np.float64).sum()
            count = weight.sum(dtype=np.float64)
        if values.ndim > 1 and values.size:
            inner = values.size / len(values)  # values per sample, of which the mean counts
            total, count = total / inner, count / inner
        self.total.value += total
        self.count.value += count

    def _add_on_gpu(self, values: Any, sample_weight: Any) -> None:
        self._move("cuda")
        if sample_weight is not None and np.ndim(sample_weight):
            sample_weight = placed(sample_weight)
        add = kernels.find("cuda", "add_to_mean")
        add(self.total.value, self.count.value, values, sample_weight)  # type: ignore[misc]

    def result(self) -> Tensor:
        """The mean so far; 0 before the first update."""
        count = self.count.value
        if self.count.device == "cuda":
            quotient = kernels.find("cuda", "quotient")
            return Tensor.constant(quotient(self.total.value, count, dtype=self._result_dtype()))  # type: ignore[misc]
        return self._tensor(self.total.value / count if count else 0.0)


@serializable("keras.metrics")
class MeanMetricWrapper(Mean):
    """The mean of `fn(y_true, y_pred, **kwargs)`, a value per sample (and more axes, if any)."""

    def __init__(self, fn: Callable, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name or unique_name(snake_case(type(self).__name__)), dtype)
        self._fn = fn
        self._fn_kwargs = kwargs

    def update_state(  # type: ignore[override]  # labels and predictions where Mean takes values
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        mask = mask_of(y_pred) if isinstance(y_pred, Tensor) else None
        with no_grad():
            values = self._fn(as_tensor(y_true), as_tensor(y_pred), **self._fn_kwargs)
            if mask is not None:
                sample_weight = _weights_where(mask, sample_weight)
        super().update_state(values, sample_weight)

    def get_config(self) -> dict:
        fn = {}
        if type(self) is MeanMetricWrapper:
            # As Keras writes a function: its `from_config` takes no bare name here.
            name = self._fn.__name__
            fn = {"fn": {"module": "builtins", "class_name": "function", "config": name,
                         "registered_name": "function"}}  # fmt: skip
        return {**super().get_config(), **fn, **self._fn_kwargs}

    @classmethod
    def from_config(cls, config: dict) -> Any:
        config = dict(config)
        if "fn" in config:
            config["fn"] = deserialize_keras_object(config["fn"])
        return cls(**config)
