"""Intersection over union of predicted and true regions, from one confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.metrics.base import Metric, on_host
from minitorch_ciml.keras.serialization import serializable


@serializable("keras.metrics")
class IoU(Metric):
    """TP / (TP + FP + FN), averaged over `target_class_ids` (those that occur at all).

    Args:
        num_classes: C.
        target_class_ids: the classes that count.
        ignore_class: a label whose samples do not count.
        sparse_y_true: labels are indices; otherwise one-hot along `axis`.
        sparse_y_pred: predictions are indices; otherwise scores along `axis`.
        axis: the axis of the classes where labels or predictions are not sparse.
    """

    counts = True

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        # Keras counts in integers unless told otherwise; only the configuration shows it.
        super().__init__(dtype or "int32", name)
        if target_class_ids and max(target_class_ids) >= num_classes:
            raise ValueError(
                f"{self.name}: got target_class_ids={list(target_class_ids)}, expected classes "
                f"below num_classes={num_classes}."
            )
        self.num_classes = num_classes
        self.target_class_ids = list(target_class_ids)
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.total_cm = self._add_state("total_confusion_matrix", (num_classes, num_classes))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds labels and predictions of any shape, and weights of the labels' shape."""
        t = self._classes(y_true, self.sparse_y_true)
        p = self._classes(y_pred, self.sparse_y_pred)
        if t.size != p.size:
            raise ValueError(
                f"{self.name}: got {t.size} labels and {p.size} predictions; expected as many."
            )
        weight = np.ones(t.size) if sample_weight is None else np.asarray(sample_weight).ravel()
        if self.ignore_class is not None:
            kept = t != self.ignore_class
            t, p, weight = t[kept], p[kept], weight[kept]
        n = self.num_classes
        for what, classes in (("labels", t), ("predictions", p)):
            if classes.size and not 0 <= classes.min() <= classes.max() < n:
                raise ValueError(
                    f"{self.name}: got {what} from {classes.min()} to {classes.max()}, expected 0 "
                    f"to {n - 1}."
                )
        self.total_cm.value += np.bincount(t * n + p, weight, n * n).reshape(n, n)

    def _classes(self, y: Any, sparse: bool) -> np.ndarray:
        y = on_host(y)
        return (y if sparse else y.argmax(self.axis)).ravel().astype(np.intp)

    def result(self) -> Tensor:
        matrix = self.total_cm.value
        union = (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())[self.target_class_ids]
        hits = matrix.diagonal()[self.target_class_ids]
        occurs = union > 0
        return self._tensor((hits[occurs] / union[occurs]).mean() if occurs.any() else 0.0)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "target_class_ids": self.target_class_ids,
            "ignore_class": self.ignore_class,
            "sparse_y_true": self.sparse_y_true,
            "sparse_y_pred": self.sparse_y_pred,
            "axis": self.axis,
        }


@serializable("keras.metrics")
class BinaryIoU(IoU):
    """`IoU` of the classes 0 and 1.

    Predictions are 1 from `threshold` on; with None they are 0 or 1 already.
    """

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float | None = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        p = on_host(y_pred)
        p = p if self.threshold is None else p >= self.threshold
        super().update_state(y_true, p, sample_weight)

    def get_config(self) -> dict:
        return {
            "target_class_ids": self.target_class_ids,
            "threshold": self.threshold,
            "name": self.name,
            "dtype": self.dtype,
        }


@serializable("keras.metrics")
class MeanIoU(IoU):
    """`IoU` averaged over all classes."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(
            num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true,
            sparse_y_pred, axis,
        )  # fmt: skip

    def get_config(self) -> dict:
        config = super().get_config()
        del config["target_class_ids"]
        return config


@serializable("keras.metrics")
class OneHotIoU(IoU):
    """`IoU` for labels that are one-hot along `axis`."""

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(
            num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis
        )

    def get_config(self) -> dict:
        config = super().get_config()
        del config["sparse_y_true"]
        return config


@serializable("keras.metrics")
class OneHotMeanIoU(MeanIoU):
    """`MeanIoU` for labels that are one-hot along `axis`."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["sparse_y_true"]
        return config
