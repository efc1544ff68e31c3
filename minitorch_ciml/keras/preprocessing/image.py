"""`keras.preprocessing.image`: see `keras.utils`."""

from minitorch_ciml.keras.images import array_to_img, img_to_array, load_img, save_img

__all__ = ["array_to_img", "img_to_array", "load_img", "save_img"]
