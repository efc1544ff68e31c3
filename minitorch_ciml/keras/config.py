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
from minitorch_ciml.keras.models.limits import (
    max_epochs,
    max_steps_per_epoch,
    set_max_epochs,
    set_max_steps_per_epoch,
)


def disable_traceback_filtering() -> None:
    """Nothing to do: tracebacks are always whole here."""


def enable_traceback_filtering() -> None:
    """Nothing to do: tracebacks are always whole here."""


def is_traceback_filtering_enabled() -> bool:
    """False: tracebacks are always whole here."""
    return False


def enable_flash_attention() -> None:
    """Nothing to do: attention has one kernel for each device."""


def disable_flash_attention() -> None:
    """Nothing to do: attention has one kernel for each device."""


def is_flash_attention_enabled() -> bool | None:
    """None: it is not chosen here."""
    return None


def enable_unsafe_deserialization() -> None:
    """Refused: loading a file never runs code from it."""
    raise NotImplementedError(
        "enable_unsafe_deserialization: files are never executed here; register your functions "
        "with keras.saving.register_keras_serializable, or pass custom_objects."
    )


def set_backend(backend: str) -> None:
    """Refused: there is one engine, this package's own."""
    raise ValueError(f"set_backend: got {backend!r}, but there is one engine, 'minitorch_ciml'.")


__all__ = [
    "backend", "disable_flash_attention", "disable_interactive_logging",
    "disable_traceback_filtering", "dtype_policy", "enable_flash_attention",
    "enable_interactive_logging", "enable_traceback_filtering", "enable_unsafe_deserialization",
    "epsilon", "floatx", "image_data_format", "is_flash_attention_enabled",
    "is_interactive_logging_enabled", "is_traceback_filtering_enabled", "max_epochs",
    "max_steps_per_epoch", "set_backend", "set_dtype_policy", "set_epsilon", "set_floatx",
    "set_image_data_format", "set_max_epochs", "set_max_steps_per_epoch",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
