"""`Loss`: a value per sample, weighted and reduced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml import config, distributed
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.arithmetic import where
from minitorch_ciml.autograd.tensor import FLOATS, as_tensor, cast
from minitorch_ciml.keras import dtype_policies
from minitorch_ciml.keras.changes import Noted
from minitorch_ciml.keras.serialization import Configurable, serialize_keras_object, snake_case
from minitorch_ciml.ops import logical_and, mean
from minitorch_ciml.ops import sum as sum_
from minitorch_ciml.ops.shape import reshape

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


class Loss(Noted, Configurable):
    """The base of all losses: `call` gives a value per sample, `__call__` weights and reduces them.

    A subclass gives `call(y_true, y_pred)`:

        class SumOfSquares(Loss):
            def call(self, y_true, y_pred):
                return ops.sum(ops.square(y_true - y_pred), axis=-1)

    Args:
        name: for messages; made from the class name if left out.
        reduction: of the weighted values w v:
            "sum_over_batch_size" or "mean": sum(w v) / the number of values;
            "mean_with_sample_weight": sum(w v) / sum(w);
            "sum": sum(w v); "none" or None: w v as they are.
        dtype: in which it is computed; `floatx()` if left out, also of a float64 model.
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"reduction: got {reduction!r}, expected one of {', '.join(map(repr, REDUCTIONS))}."
            )
        self.name = name or snake_case(type(self).__name__)
        self.reduction = reduction
        self._dtype = None if dtype is None else dtype_policies.get(dtype).compute_dtype

    @property
    def dtype(self) -> str:
        """The dtype that was given, or `floatx()`."""
        return self._dtype or config.floatx()

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A value per sample."""
        raise NotImplementedError(f"{type(self).__name__} has no call(y_true, y_pred); write one.")

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> Tensor:
        """The reduced loss.

        Args:
            y_true: targets; an array, or a dictionary or tuple of them.
            y_pred: predictions, likewise.
            sample_weight: a number, or weights (N,) or (N, 1) or in the shape of the values.
            mask: True where a value counts, aligned as the weights are; the predictions' own mask
                if left out.
        """
        if mask is None:
            mask = getattr(y_pred, "_keras_mask", None)
        p = as_float(y_pred, self.dtype)
        t = self.targets(y_true, p)
        told = self.mask(t)
        if told is not None:
            mask = told if mask is None else logical_and(mask, told)
        values = self.call(t, p)
        if values is None:
            raise ValueError(f"loss {self.name!r} returned None; it must return its values.")
        told = getattr(values, "_keras_mask", None)
        if told is not None:
            mask = told if mask is None else logical_and(mask, told)
        values = as_float(values, self.dtype)
        return reduce_weighted_values(values, sample_weight, mask, self.reduction)

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        """The targets as `call` gets them: tensors of the predictions' dtype."""
        return as_targets(y_true, y_pred)

    def mask(self, y_true: Any) -> Any:
        """Which values count, where the targets tell: None for all."""
        return None

    def get_config(self) -> dict:
        # Keras writes the dtype only for losses that were given one.
        dtype = {"dtype": self._dtype} if self._dtype else {}
        return {"name": self.name, "reduction": self.reduction, **dtype}


def as_float(x: Any, dtype: Any = None) -> Any:
    """Predictions as tensors of floats; dictionaries and tuples of them stay such."""
    if type(x) is not Tensor:
        if isinstance(x, dict):
            return {key: as_float(value, dtype) for key, value in x.items()}
        if isinstance(x, tuple):
            return tuple(as_float(value, dtype) for value in x)
        x = as_tensor(x)
    given = x.value.dtype
    if given.kind in FLOATS if dtype is None else given == dtype:
        return x
    return cast(x, dtype=np.dtype(dtype or config.floatx()))


def as_targets(y_true: Any, y_pred: Any) -> Any:
    """Targets as tensors of the predictions' dtype."""
    while isinstance(y_pred, (dict, tuple)):
        y_pred = next(iter(y_pred.values() if isinstance(y_pred, dict) else y_pred))
    return as_float(y_true, y_pred.value.dtype)


def of_one_rank(t: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and predictions without a last axis of size 1 that only one of the two has.

    (N,) and (N, 1) become (N, 1) both: subtracted as they are, they would give (N, N).
    """
    if t.ndim == p.ndim + 1 and t.shape[-1] == 1:
        return (t, _with_rows(p)) if p.ndim == 1 else (reshape(t, t.shape[:-1]), p)
    if p.ndim == t.ndim + 1 and p.shape[-1] == 1:
        return (_with_rows(t), p) if t.ndim == 1 else (t, reshape(p, p.shape[:-1]))
    return t, p


def _with_rows(x: Tensor) -> Tensor:
    return reshape(x, (x.shape[0], 1))


def reduce_weighted_values(
    values: Any,
    sample_weight: Any = None,
    mask: Any = None,
    reduction: str | None = "sum_over_batch_size",
) -> Tensor:
    """`values` times their weights, reduced as `Loss` says.

    Values that a mask leaves out count neither in the sum nor in the number of values.
    """
    values = as_tensor(values)
    weight = None
    if sample_weight is not None:  # of predictions (N,) the values are one mean: they become N
        weight = _aligned(sample_weight, values, "sample_weight")
        values = values * weight
    # Where ranks share the batch, `n` is their even share of the number for the whole batch, so
    # that the mean of the ranks' losses is the loss of the batch.
    rows = config.part.get()
    n: Any = values.size if rows is None else _even_share(values.size, rows)
    if mask is not None:
        kept = _aligned(mask, values, "mask")
        if rows is None:
            n = mean(kept).detach() * n if kept.size else 0.0
        else:
            n = _even_count(kept, values, rows)
        weight = kept if weight is None else weight * kept
        values = values * kept
    if reduction in ("none", None):
        return values
    if weight is None and reduction != "sum" and n == values.size and n:
        return mean(values)
    total = sum_(values)
    if reduction == "sum":
        return total if rows is None else total * float(rows.ranks)
    if reduction == "mean_with_sample_weight" and weight is not None:
        n = sum_(weight).detach()
        if rows is not None:
            n = distributed.init().total(float(n)) / rows.ranks
    if isinstance(n, Tensor):
        return total / where(n == 0, 1.0, n)
    return total / n if n else total


def _even_share(size: int, rows: config.Part) -> float:
    """The number of values per rank, were the shares of the batch even."""
    return size * rows.even / rows.own if rows.own else 0.0


def _even_count(kept: Tensor, values: Tensor, rows: config.Part) -> float:
    """As `_even_share`, of the values that a mask keeps: only all ranks together know that."""
    each = values.size / kept.size if kept.size else 0.0  # values per element of the mask
    return distributed.init().total(float(sum_(kept)) * each) / rows.ranks


def _aligned(weight: Any, values: Tensor, what: str) -> Tensor:
    """Weights of which axis i belongs to axis i of the values."""
    w = as_float(weight, values.value.dtype)
    given, expected = w.shape, values.shape
    if w.ndim == len(expected) + 1 and given[-1] == 1:
        w = reshape(w, given[:-1])
    elif 0 < w.ndim < len(expected):
        w = reshape(w, given + (1,) * (len(expected) - w.ndim))
    if expected and any(n not in (1, m) for n, m in zip(w.shape[::-1], expected[::-1])):
        raise ValueError(
            f"{what}: got shape {given} for losses of shape {expected}; give one per sample."
        )
    return w


class LossFunctionWrapper(Loss):
    """The loss `fn(y_true, y_pred, **kwargs)`."""

    def __init__(
        self,
        fn: Callable,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name or getattr(fn, "__name__", None), reduction, dtype)
        self.fn = fn
        self._fn_kwargs = kwargs

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if isinstance(y_true, Tensor) and isinstance(y_pred, Tensor):
            y_true, y_pred = of_one_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict:
        return {**super().get_config(), "fn": serialize_keras_object(self.fn), **self._fn_kwargs}
