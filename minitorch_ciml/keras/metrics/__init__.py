"""Metrics: `base.py` has the idea, the other files the metrics by family."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras import serialization

# Keras has the functions of losses here, too.
from minitorch_ciml.keras.losses import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    cosine_similarity,
    ctc,
    dice,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
    tversky,
)
from minitorch_ciml.keras.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from minitorch_ciml.keras.metrics.base import Mean, MeanMetricWrapper, Metric, Sum
from minitorch_ciml.keras.metrics.confusion import (
    AUC,
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from minitorch_ciml.keras.metrics.fscore import F1Score, FBetaScore
from minitorch_ciml.keras.metrics.iou import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from minitorch_ciml.keras.metrics.regression import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    ConcordanceCorrelation,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    PearsonCorrelation,
    Poisson,
    R2Score,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    concordance_correlation,
    pearson_correlation,
)

_OWN_FUNCTIONS = (
    accuracy, binary_accuracy, categorical_accuracy, concordance_correlation, pearson_correlation,
    sparse_categorical_accuracy, sparse_top_k_categorical_accuracy, top_k_categorical_accuracy,
)  # fmt: skip
for _function in _OWN_FUNCTIONS:
    # Not in "keras.metrics": there "binary_accuracy" and the like mean the classes, as in Keras.
    serialization.serializable("keras.metrics.functions")(_function)


def get(identifier: Any) -> Any:
    """The metric that a name, class, configuration or object means; None for None.

    Raises:
        ValueError: there is no such metric.
    """
    return serialization.get("keras.metrics", identifier, "metric")


BY_SHAPE = ("accuracy", "acc", "crossentropy", "ce")  # names that mean several metrics


def resolve(identifier: Any, y_true_shape: tuple, y_pred_shape: tuple) -> Metric:
    """What `compile(metrics=[identifier])` uses for targets and predictions of these shapes.

    "accuracy" (or "acc") and "crossentropy" (or "ce") are the binary kind for one prediction per
    sample, the sparse kind for integer labels, otherwise the categorical kind. A name is also the
    metric's name in the logs. A function becomes the mean of its values.
    """
    if identifier in ("accuracy", "acc"):
        kinds: tuple = (BinaryAccuracy, SparseCategoricalAccuracy, CategoricalAccuracy)
    elif identifier in ("crossentropy", "ce"):
        kinds = (BinaryCrossentropy, SparseCategoricalCrossentropy, CategoricalCrossentropy)
    else:
        item = get(identifier)
        if not isinstance(item, Metric):
            name = getattr(item, "__name__", None) or getattr(item, "name", None)
            return MeanMetricWrapper(item, name=name and name.strip("<>"))  # "<lambda>"
        if isinstance(identifier, str):
            item.name = identifier
        return item
    return kinds[_kind(y_true_shape, y_pred_shape)](name=identifier)


def _kind(y_true_shape: tuple, y_pred_shape: tuple) -> int:
    """0: binary, 1: integer labels, 2: one-hot labels."""
    if len(y_pred_shape) < 2 or y_pred_shape[-1] == 1:
        return 0
    sparse = len(y_true_shape) < len(y_pred_shape) or y_true_shape[-1] == 1
    return 1 if sparse else 2


def serialize(metric: Any) -> Any:
    """The metric as a configuration, or as a name."""
    return serialization.serialize_keras_object(metric)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """The metric that a configuration or a name describes."""
    return serialization.deserialize("keras.metrics", config, "metric", custom_objects)


__all__ = [
    "AUC", "Accuracy", "BinaryAccuracy", "BinaryCrossentropy", "BinaryIoU", "CategoricalAccuracy",
    "CategoricalCrossentropy", "CategoricalHinge", "ConcordanceCorrelation", "CosineSimilarity",
    "F1Score", "FBetaScore", "FalseNegatives", "FalsePositives", "Hinge", "IoU", "KLDivergence",
    "LogCoshError", "Mean", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanIoU",
    "MeanMetricWrapper", "MeanSquaredError", "MeanSquaredLogarithmicError", "Metric", "OneHotIoU",
    "OneHotMeanIoU", "PearsonCorrelation", "Poisson", "Precision", "PrecisionAtRecall", "R2Score",
    "Recall", "RecallAtPrecision", "RootMeanSquaredError", "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy", "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity", "SquaredHinge", "Sum", "TopKCategoricalAccuracy", "TrueNegatives",
    "TruePositives", "accuracy", "binary_accuracy", "binary_crossentropy",
    "binary_focal_crossentropy", "categorical_accuracy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_generalized_cross_entropy", "categorical_hinge",
    "concordance_correlation", "cosine_similarity", "ctc", "deserialize", "dice", "get", "hinge",
    "huber", "kl_divergence", "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_error", "mean_squared_logarithmic_error", "pearson_correlation", "poisson",
    "serialize", "sparse_categorical_accuracy", "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy", "squared_hinge", "top_k_categorical_accuracy", "tversky",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
