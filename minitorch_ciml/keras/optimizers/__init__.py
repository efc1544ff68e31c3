"""Optimizers (`keras.optimizers`); `schedules` for learning rates that change with the step."""

from types import SimpleNamespace
from typing import Any

from minitorch_ciml.keras import serialization
from minitorch_ciml.keras.optimizers import schedules
from minitorch_ciml.keras.optimizers.adaptive import Adafactor, Lamb, Muon
from minitorch_ciml.keras.optimizers.base import Optimizer
from minitorch_ciml.keras.optimizers.loss_scale import LossScaleOptimizer
from minitorch_ciml.keras.optimizers.rules import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lion,
    Nadam,
    RMSprop,
)
from minitorch_ciml.keras.optimizers.schedule_free import ScheduleFreeAdamW
from minitorch_ciml.keras.optimizers.several import MultiOptimizer, OptimizerMap

__all__ = [
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion",
    "LossScaleOptimizer", "MultiOptimizer", "Muon", "Nadam", "Optimizer", "OptimizerMap", "RMSprop",
    "SGD", "ScheduleFreeAdamW", "deserialize", "get", "legacy", "schedules", "serialize",
]  # fmt: skip


def get(identifier: Any) -> Any:
    """The optimizer that a name ("adam"), an object or a configuration stands for."""
    return serialization.get("keras.optimizers", identifier, "optimizer")


def serialize(optimizer: Any) -> Any:
    """The optimizer as a configuration."""
    return serialization.serialize_keras_object(optimizer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """The optimizer that a name or a configuration describes."""
    return serialization.deserialize("keras.optimizers", config, "optimizer", custom_objects)


# Keras 2's name for the optimizers of before: scripts say keras.optimizers.legacy.Adam.
legacy = SimpleNamespace(
    **{
        cls.__name__: cls
        for cls in (Adadelta, Adagrad, Adam, Adamax, Ftrl, Nadam, Optimizer, RMSprop, SGD)
    }
)


def __dir__() -> list[str]:
    return __all__
