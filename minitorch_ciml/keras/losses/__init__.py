"""Losses: `base.py` weights and reduces, `functions.py` has the formulas, `classes.py` both."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras import serialization
from minitorch_ciml.keras.losses.base import Loss, LossFunctionWrapper

# The classes first: "huber" and the like are the names of the functions, as in Keras.
from minitorch_ciml.keras.losses.classes import (
    CTC,
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    Circle,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    Tversky,
)
from minitorch_ciml.keras.losses.functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    circle,
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

_ALIASES = {
    "mean_squared_error": ("mse", "MSE"),
    "mean_absolute_error": ("mae", "MAE"),
    "mean_absolute_percentage_error": ("mape", "MAPE"),
    "mean_squared_logarithmic_error": ("msle", "MSLE"),
    "kl_divergence": ("kld", "KLD"),
    "binary_crossentropy": ("bce", "BCE"),
}

_CLASSES = {
    cls.fn: cls
    for cls in (
        BinaryCrossentropy, BinaryFocalCrossentropy, CategoricalCrossentropy,
        CategoricalFocalCrossentropy, CategoricalGeneralizedCrossEntropy, CategoricalHinge,
        CTC, Circle, CosineSimilarity, Dice, Hinge, Huber, KLDivergence, LogCosh, MeanAbsoluteError,
        MeanAbsolutePercentageError, MeanSquaredError, MeanSquaredLogarithmicError, Poisson,
        SparseCategoricalCrossentropy, SquaredHinge, Tversky,
    )
}  # fmt: skip
FUNCTIONS = {fn.__name__: fn for fn in _CLASSES}

# After the classes, so that "mean_squared_error" and the like mean the functions, as in Keras.
for _name, _fn in FUNCTIONS.items():
    serialization.serializable("keras.losses", *_ALIASES.get(_name, ()))(_fn)


def get(identifier: Any) -> Any:
    """The loss that a name, class, configuration or object means; None for None.

    "mse" and "mean_squared_error" are functions, "MeanSquaredError" is an object.

    Raises:
        ValueError: there is no such loss.
    """
    return serialization.get("keras.losses", identifier, "loss")


def resolve(identifier: Any) -> Loss | None:
    """What `compile(loss=identifier)` uses: as `get`, with functions made into a `Loss`."""
    item = get(identifier)
    if item is None or isinstance(item, Loss):
        return item
    return _CLASSES[item]() if item in _CLASSES else LossFunctionWrapper(item)


def serialize(loss: Any) -> Any:
    """The loss as a configuration, or as a name."""
    return serialization.serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: dict | None = None) -> Any:
    """The loss that a configuration or a name describes."""
    return serialization.deserialize("keras.losses", name, "loss", custom_objects)


__all__ = [
    "BinaryCrossentropy", "BinaryFocalCrossentropy", "CTC", "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy", "CategoricalGeneralizedCrossEntropy", "CategoricalHinge",
    "Circle", "CosineSimilarity", "Dice", "Hinge", "Huber", "KLDivergence", "LogCosh", "Loss",
    "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Poisson", "SparseCategoricalCrossentropy", "SquaredHinge",
    "Tversky", "binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_generalized_cross_entropy", "categorical_hinge",
    "circle", "cosine_similarity", "ctc", "deserialize", "dice", "get", "hinge", "huber",
    "kl_divergence", "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_error", "mean_squared_logarithmic_error", "poisson", "serialize",
    "sparse_categorical_crossentropy", "squared_hinge", "tversky",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
