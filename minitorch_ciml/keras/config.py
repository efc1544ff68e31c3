"""Settings (`keras.config`)."""

from minitorch_ciml.config import floatx, set_floatx
from minitorch_ciml.keras.backend import (
    backend,
    epsilon,
    image_data_format,
    set_epsilon,
    set_image_data_format,
)
from minitorch_ciml.keras.callbacks.progress import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from minitorch_ciml.keras.dtype_policies import dtype_policy, set_dtype_policy


def disable_traceback_filtering() -> None:
    """Nothing to do: tracebacks are always whole here."""


def is_traceback_filtering_enabled() -> bool:
    """False: tracebacks are always whole here."""
    return False


__all__ = [
    "backend", "disable_interactive_logging", "disable_traceback_filtering", "dtype_policy",
    "enable_interactive_logging", "epsilon", "floatx", "image_data_format",
    "is_interactive_logging_enabled", "is_traceback_filtering_enabled", "set_dtype_policy",
    "set_epsilon", "set_floatx", "set_image_data_format",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
