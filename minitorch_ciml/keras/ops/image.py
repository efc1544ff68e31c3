"""`keras.ops.image`: resizing, moving and filtering images, and their colours."""

from minitorch_ciml.keras.ops.calling import all_as_keras
from minitorch_ciml.keras.ops.table import IMAGE

__all__ = list(IMAGE)

globals().update(all_as_keras(__all__))
