"""Callbacks: code that runs at fixed points of fit, evaluate and predict (`keras.callbacks`)."""

from minitorch_ciml.keras.callbacks.averages import SwapEMAWeights
from minitorch_ciml.keras.callbacks.base import Callback
from minitorch_ciml.keras.callbacks.callback_list import CallbackList
from minitorch_ciml.keras.callbacks.checkpoint import BackupAndRestore, ModelCheckpoint
from minitorch_ciml.keras.callbacks.control import (
    LambdaCallback,
    LearningRateScheduler,
    TerminateOnNaN,
)
from minitorch_ciml.keras.callbacks.monitor import EarlyStopping, ReduceLROnPlateau
from minitorch_ciml.keras.callbacks.profiler import DistributedProfiler
from minitorch_ciml.keras.callbacks.progress import ProgbarLogger
from minitorch_ciml.keras.callbacks.records import CSVLogger, History
from minitorch_ciml.keras.callbacks.remote import RemoteMonitor
from minitorch_ciml.keras.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "DistributedProfiler",
    "EarlyStopping", "History", "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint",
    "ProgbarLogger", "ReduceLROnPlateau", "RemoteMonitor", "SwapEMAWeights", "TensorBoard",
    "TerminateOnNaN",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
