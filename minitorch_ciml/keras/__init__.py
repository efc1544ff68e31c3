"""The facade: Keras 3's public namespace, module by module.

Change `import keras` to `from minitorch_ciml import keras`, and a Keras script runs.
"""

from importlib import import_module
from typing import Any

from minitorch_ciml.config import device
from minitorch_ciml.keras import (
    activations,
    applications,
    backend,
    callbacks,
    config,
    constraints,
    datasets,
    distribution,
    dtype_policies,
    initializers,
    layers,
    losses,
    metrics,
    mixed_precision,
    models,
    ops,
    optimizers,
    preprocessing,
    quantizers,
    random,
    regularizers,
    saving,
    tree,
    utils,
    visualization,
)
from minitorch_ciml.keras.dtype_policies import DTypePolicy, FloatDTypePolicy
from minitorch_ciml.keras.initializers import Initializer
from minitorch_ciml.keras.layers import Input, InputSpec, Layer
from minitorch_ciml.keras.layers.variable import Variable, name_scope
from minitorch_ciml.keras.losses import Loss
from minitorch_ciml.keras.memory import RematScope, remat
from minitorch_ciml.keras.metrics import Metric
from minitorch_ciml.keras.models import Model, Sequential
from minitorch_ciml.keras.models.model import Functional as Function
from minitorch_ciml.keras.optimizers import Optimizer
from minitorch_ciml.keras.quantizers import Quantizer
from minitorch_ciml.keras.regularizers import Regularizer
from minitorch_ciml.keras.saving import KERAS_VERSION as __version__
from minitorch_ciml.keras.symbolic import KerasTensor

__all__ = [
    "DTypePolicy", "FloatDTypePolicy", "Function", "Initializer", "Input", "InputSpec",
    "KerasTensor", "Layer", "Loss", "Metric", "Model", "Optimizer", "Quantizer", "Regularizer",
    "RematScope", "Sequential", "Variable", "activations", "applications", "backend",
    "callbacks", "config", "constraints", "datasets", "device", "distribution",
    "dtype_policies", "initializers", "layers", "losses", "metrics", "mixed_precision",
    "models", "name_scope", "ops", "optimizers", "preprocessing", "quantizers", "random",
    "regularizers", "remat", "saving", "tree", "utils", "version", "visualization",
]  # fmt: skip

_ON_REQUEST = ("wrappers",)  # which imports scikit-learn


def __getattr__(name: str) -> Any:
    if name in _ON_REQUEST:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def version() -> str:
    """The version of Keras whose names and files these are."""
    return __version__


def __dir__() -> list[str]:
    return __all__
