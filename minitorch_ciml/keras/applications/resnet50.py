"""ResNet50 under Keras' older name; see `resnet`."""

from minitorch_ciml.keras.applications.resnet import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]


def __dir__() -> list[str]:
    return __all__
