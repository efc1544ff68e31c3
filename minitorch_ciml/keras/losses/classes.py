"""The losses as classes: a function of `functions.py`, its arguments, and a reduction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import as_tensor
from minitorch_ciml.keras.losses import functions
from minitorch_ciml.keras.losses.base import Loss
from minitorch_ciml.keras.serialization import serializable

MEAN = "sum_over_batch_size"


class _Named(Loss):
    """The loss `fn(y_true, y_pred, **kwargs)`, with `kwargs` as attributes.

    `unwritten` are the arguments that Keras leaves out of configurations, and their defaults; here
    they are left out as long as they have these.
    """

    fn: Callable
    unwritten: dict[str, Any] = {}

    def __init__(self, reduction: str | None, name: str | None, dtype: Any, **kwargs: Any):
        super().__init__(name, reduction, dtype)
        self._fn_kwargs = kwargs
        self.__dict__.update(kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        return type(self).fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict:
        kwargs = self._fn_kwargs.items()
        written = {k: v for k, v in kwargs if k not in self.unwritten or v != self.unwritten[k]}
        return {**super().get_config(), **written}


@serializable("keras.losses")
class MeanSquaredError(_Named):
    """mean((y_true - y_pred)^2)."""

    fn = functions.mean_squared_error

    def __init__(self, reduction: str | None = MEAN, name: str | None = "mean_squared_error",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class MeanAbsoluteError(_Named):
    """mean(|y_true - y_pred|)."""

    fn = functions.mean_absolute_error

    def __init__(self, reduction: str | None = MEAN, name: str | None = "mean_absolute_error",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class MeanAbsolutePercentageError(_Named):
    """100 mean(|y_true - y_pred| / |y_true|)."""

    fn = functions.mean_absolute_percentage_error

    def __init__(self, reduction: str | None = MEAN,
                 name: str | None = "mean_absolute_percentage_error",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class MeanSquaredLogarithmicError(_Named):
    """mean((ln(1 + y_true) - ln(1 + y_pred))^2)."""

    fn = functions.mean_squared_logarithmic_error

    def __init__(self, reduction: str | None = MEAN,
                 name: str | None = "mean_squared_logarithmic_error",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class CosineSimilarity(_Named):
    """Minus the cosine of the angle between target and prediction along `axis`."""

    fn = functions.cosine_similarity
    unwritten = {"axis": -1}

    def __init__(self, axis: int = -1, reduction: str | None = MEAN,
                 name: str | None = "cosine_similarity", dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype, axis=axis)


@serializable("keras.losses")
class Huber(_Named):
    """Quadratic up to an error of `delta`, linear beyond: outliers pull less."""

    fn = functions.huber
    unwritten = {"delta": 1.0}

    def __init__(self, delta: float = 1.0, reduction: str | None = MEAN,
                 name: str | None = "huber_loss", dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype, delta=delta)


@serializable("keras.losses")
class LogCosh(_Named):
    """mean(ln(cosh(y_pred - y_true))): as Huber's loss, but smooth."""

    fn = functions.log_cosh

    def __init__(self, reduction: str | None = MEAN, name: str | None = "log_cosh",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class Poisson(_Named):
    """mean(y_pred - y_true ln(y_pred)): for counts whose mean is y_pred."""

    fn = functions.poisson

    def __init__(self, reduction: str | None = MEAN, name: str | None = "poisson",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class Hinge(_Named):
    """mean(max(1 - y_true y_pred, 0)), for labels -1 and 1 (or 0 and 1)."""

    fn = functions.hinge

    def __init__(self, reduction: str | None = MEAN, name: str | None = "hinge",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class SquaredHinge(_Named):
    """mean(max(1 - y_true y_pred, 0)^2), for labels -1 and 1 (or 0 and 1)."""

    fn = functions.squared_hinge

    def __init__(self, reduction: str | None = MEAN, name: str | None = "squared_hinge",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class CategoricalHinge(_Named):
    """max(1 + the best wrong score - the right score, 0), for one-hot labels."""

    fn = functions.categorical_hinge

    def __init__(self, reduction: str | None = MEAN, name: str | None = "categorical_hinge",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class KLDivergence(_Named):
    """sum(y_true ln(y_true / y_pred)), for probabilities."""

    fn = functions.kl_divergence

    def __init__(self, reduction: str | None = MEAN, name: str | None = "kl_divergence",
                 dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class BinaryCrossentropy(_Named):
    """mean(-y_true ln(p) - (1 - y_true) ln(1 - p)), for labels 0 and 1.

    Args:
        from_logits: p = sigmoid(y_pred); otherwise p = y_pred.
        label_smoothing: s; labels become y (1 - s) + s / 2.
        axis: the axis of the mean.
    """

    fn = functions.binary_crossentropy

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = MEAN,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype, from_logits=from_logits,
                         label_smoothing=label_smoothing, axis=axis)  # fmt: skip


@serializable("keras.losses")
class BinaryFocalCrossentropy(_Named):
    """`BinaryCrossentropy` times (1 - the right class' probability)^gamma: easy samples fade.

    Args:
        apply_class_balancing: weigh class 1 by alpha and class 0 by 1 - alpha.
    """

    fn = functions.binary_focal_crossentropy

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = MEAN,
        name: str | None = "binary_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            reduction, name, dtype, apply_class_balancing=apply_class_balancing, alpha=alpha,
            gamma=gamma, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis,
        )  # fmt: skip


@serializable("keras.losses")
class CategoricalCrossentropy(_Named):
    """-sum(y_true ln(p)), for one-hot labels.

    Args:
        from_logits: p = softmax(y_pred); otherwise p = y_pred over its sum.
        label_smoothing: s; labels become y (1 - s) + s / C for C classes.
        axis: the axis of the classes.
    """

    fn = functions.categorical_crossentropy

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = MEAN,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype, from_logits=from_logits,
                         label_smoothing=label_smoothing, axis=axis)  # fmt: skip


@serializable("keras.losses")
class CategoricalFocalCrossentropy(_Named):
    """-sum(alpha (1 - p)^gamma y_true ln(p)), for one-hot labels: easy samples fade."""

    fn = functions.categorical_focal_crossentropy

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = MEAN,
        name: str | None = "categorical_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            reduction, name, dtype, alpha=alpha, gamma=gamma, from_logits=from_logits,
            label_smoothing=label_smoothing, axis=axis,
        )  # fmt: skip


@serializable("keras.losses")
class SparseCategoricalCrossentropy(_Named):
    """-ln(p[y_true]), for integer labels (N, ...) or (N, ..., 1).

    Args:
        from_logits: p = softmax(y_pred); otherwise p = y_pred over its sum.
        ignore_class: a label whose samples do not count (a mean is over the others).
        axis: the axis of the classes.
    """

    fn = functions.sparse_categorical_crossentropy
    unwritten = {"axis": -1}

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = MEAN,
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype, from_logits=from_logits,
                         ignore_class=ignore_class, axis=axis)  # fmt: skip

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        return as_tensor(y_true)  # integers stay such

    def mask(self, y_true: Any) -> Any:
        ignored = self._fn_kwargs["ignore_class"]
        return None if ignored is None else as_tensor(y_true) != ignored


@serializable("keras.losses")
class CategoricalGeneralizedCrossEntropy(_Named):
    """(1 - p^q) / q for the right class' probability p: robust to wrong labels."""

    fn = functions.categorical_generalized_cross_entropy

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = MEAN,
        name: str | None = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ):
        if not 0 < q <= 1:
            raise ValueError(f"{name}: got q={q}, expected 0 < q <= 1.")
        super().__init__(reduction, name, dtype, q=q)


@serializable("keras.losses", "CTC")
class CTC(_Named):
    """-ln p(labels | scores of classes at each step), for texts without positions."""

    fn = functions.ctc

    def __init__(self, reduction: str | None = MEAN, name: str | None = "ctc", dtype: Any = None):
        super().__init__(reduction, name, dtype)


@serializable("keras.losses")
class Dice(_Named):
    """1 - 2 sum(t p) / (sum(t) + sum(p)), over `axis` or everything."""

    fn = functions.dice

    def __init__(self, reduction: str | None = MEAN, name: str | None = "dice",
                 axis: Any = None, dtype: Any = None):  # fmt: skip
        super().__init__(reduction, name, dtype, axis=axis)


@serializable("keras.losses")
class Tversky(_Named):
    """1 - TP / (TP + alpha FN + beta FP), over `axis` or everything."""

    fn = functions.tversky

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = MEAN,
        name: str | None = "tversky",
        axis: Any = None,
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)


@serializable("keras.losses")
class Circle(_Named):
    """Embeddings of one class near each other, of different ones apart; labels are integers.

    The last layer should be `UnitNormalization`. See `functions.circle`.
    """

    fn = functions.circle

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = MEAN,
        name: str | None = "circle",
        dtype: Any = None,
    ):
        super().__init__(
            reduction, name, dtype, gamma=gamma, margin=margin, remove_diagonal=remove_diagonal
        )

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        """The labels as they are: integers."""
        return as_tensor(y_true)
