"""Layers that bring images to a size."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml import kernels, ops
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import FLOATS
from minitorch_ciml.keras.backend import standardize_data_format
from minitorch_ciml.keras.bounding_boxes import FORMATS
from minitorch_ciml.keras.layers.image_boxes import moved, scaled
from minitorch_ciml.keras.layers.kernel_layer import positive
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.layers.resampling import (
    centre_box,
    resize,
    resize_in_proportion,
)
from minitorch_ciml.keras.serialization import serializable
from minitorch_ciml.kernels import halves
from minitorch_ciml.ops.resampling import INTERPOLATIONS


def one_of(layer: str, name: str, value: Any, known: tuple) -> Any:
    """`value`, if it is known."""
    if value not in known:
        raise ValueError(f"{layer}: got {name}={value!r}, expected one of {known}.")
    return value


class ImageLayer(Layer):
    """A base for images (N, H, W, C), or one (H, W, C); computed with NumPy, without a gradient,
    except that of `Resizing`.

    On a GPU the images go to the host and back, so such a layer is better put before the model.

    Args:
        data_format: "channels_last", or "channels_first" (N, C, H, W).
        bounding_box_format: of boxes that come with the images, such as "xyxy"; see
            `keras.utils.bounding_boxes`.
    """

    on_host = True

    def __init__(
        self,
        data_format: str | None = None,
        bounding_box_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if bounding_box_format is not None:
            form = str(bounding_box_format).lower()
            one_of(type(self).__name__, "bounding_box_format", form, FORMATS)
        self.bounding_box_format = bounding_box_format
        self.data_format = standardize_data_format(data_format)
        one_of(type(self).__name__, "data_format", self.data_format,
               ("channels_last", "channels_first"))  # fmt: skip
        self.built = True

    def _with_name(self, inputs: Any) -> dict[str, Any]:
        """Images as {"images": images}; a dictionary with more than them stays as it is."""
        data = inputs if isinstance(inputs, dict) else {"images": inputs}
        if "images" not in data:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) takes images or a dictionary with "
                f"'images', and with 'labels', 'segmentation_masks' and 'bounding_boxes'; got "
                f"{sorted(data)}."
            )
        return data

    def _size_of(self, images: Any) -> tuple[int, int]:
        """Their height and width."""
        last = self.data_format == "channels_last"
        return tuple(images.shape[-3:-1] if last else images.shape[-2:])  # type: ignore[return-value]

    def _moved_boxes(self, given: Any, before: Any, after: Any, move: Any) -> dict:
        """`image_boxes.moved`, of images before and after."""
        name, form = type(self).__name__, self.bounding_box_format
        return moved(given, form, self._size_of(before), self._size_of(after), move, name)

    def get_config(self) -> dict:
        config = super().get_config()
        if self.bounding_box_format is not None:
            config["bounding_box_format"] = self.bounding_box_format
        else:
            config.pop("bounding_box_format", None)
        return config

    def _images(self, inputs: Any) -> np.ndarray:
        """The inputs as floats (N, H, W, C), of 32 bits at least: pixels are counted in them."""
        images = np.asarray(inputs)
        if images.ndim not in (3, 4):
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) takes images (N, H, W, C) or (H, W, "
                f"C), got shape {images.shape}."
            )
        if images.dtype.kind not in FLOATS:
            images = images.astype(self.compute_dtype)
        images = halves.wide(images)
        images = images if images.ndim == 4 else images[None]
        return images if self.data_format == "channels_last" else np.moveaxis(images, 1, -1)

    def _outputs(self, images: np.ndarray, inputs: Any) -> Tensor:
        """Images (N, H, W, C) in the layout of the inputs, floats in the layer's dtype."""
        if images.dtype.kind in FLOATS:
            images = images.astype(self.compute_dtype, copy=False)
        if self.data_format == "channels_first":
            images = np.moveaxis(images, -1, 1)
        images = images if len(inputs.shape) == 4 else images[0]
        return Tensor.constant(kernels.place(images, getattr(inputs, "device", "cpu")))

    def _sized(self, input_shape: tuple, height: int, width: int) -> tuple:
        """`input_shape` with another height and width."""
        last = self.data_format == "channels_last"
        first = len(input_shape) - (3 if last else 2)
        return (*input_shape[:first], height, width, *input_shape[first + 2 :])


class _Sized(ImageLayer):
    """A base of what brings images to a size, and with them what belongs to them.

    Besides images it takes a dictionary with "images" and, along with them, "segmentation_masks",
    which come to the same size, "bounding_boxes" and "labels".
    """

    height: int
    width: int

    def fitted(self, images: Any, is_mask: bool) -> Any:
        """The images, or masks, whose numbers are classes, in the size."""
        raise NotImplementedError

    def fitted_boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes (N, K, 4) in images of that size -> in those of the new one; see `image_boxes`."""
        raise NotImplementedError

    def call(self, inputs: Any) -> Any:
        data = self._with_name(inputs)
        results = {**data, "images": self.fitted(data["images"], is_mask=False)}
        if "segmentation_masks" in data:
            masks = self.fitted(data["segmentation_masks"], is_mask=True)
            results["segmentation_masks"] = masks
        if "bounding_boxes" in data:
            before = data["images"]
            results["bounding_boxes"] = self._moved_boxes(
                data["bounding_boxes"], before, results["images"],
                lambda boxes: self.fitted_boxes(boxes, *self._size_of(before)),
            )  # fmt: skip
        return results if isinstance(inputs, dict) else results["images"]

    def compute_output_shape(self, input_shape: Any) -> Any:
        if isinstance(input_shape, dict):
            sized = ("images", "segmentation_masks")
            return {
                name: self.compute_output_shape(shape) if name in sized else shape
                for name, shape in input_shape.items()
            }
        return self._sized(input_shape, self.height, self.width)


@serializable("keras.layers")
class Resizing(_Sized):
    """Images of any size -> images of `height` x `width`.

    Args:
        height, width: the new size.
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".
        crop_to_aspect_ratio: cut borders off first, so that nothing is stretched.
        pad_to_aspect_ratio: add borders of `fill_value` first, so that nothing is stretched.
        fill_mode: "constant", for the borders.
        fill_value: their value.
        antialias: where an image shrinks, average over all pixels that become one.
        data_format: see `ImageLayer`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format, **kwargs)
        self.height = positive("Resizing", "height", height)
        self.width = positive("Resizing", "width", width)
        self.interpolation = one_of("Resizing", "interpolation", interpolation, INTERPOLATIONS)
        self.fill_mode = one_of("Resizing", "fill_mode", fill_mode, ("constant",))
        self.antialias = bool(antialias)
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ValueError(
                "Resizing: give crop_to_aspect_ratio or pad_to_aspect_ratio, not both."
            )
        self.crop_to_aspect_ratio = crop_to_aspect_ratio
        self.pad_to_aspect_ratio = pad_to_aspect_ratio
        self.fill_value = fill_value

    def fitted(self, inputs: Any, is_mask: bool) -> Any:
        size = self.height, self.width
        crop, pad = self.crop_to_aspect_ratio, self.pad_to_aspect_ratio
        interpolation = "nearest" if is_mask else self.interpolation
        if isinstance(inputs, Tensor) and inputs.requires_grad:  # within a model
            return ops.image.resize(
                inputs, size, interpolation, self.antialias, crop, pad,
                fill_value=self.fill_value, data_format=self.data_format,
            )  # fmt: skip
        resized = resize_in_proportion(
            self._images(inputs), size, interpolation, crop, pad, self.fill_value,
            self.antialias,
        )  # fmt: skip
        dtype = inputs.dtype
        if np.dtype(dtype).kind in "iu":  # bytes of images stay such
            limits = np.iinfo(dtype)
            resized = np.clip(np.rint(resized), limits.min, limits.max).astype(dtype)
        return self._outputs(resized, inputs)

    def fitted_boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        across, down = self.width / width, self.height / height
        if self.crop_to_aspect_ratio or self.pad_to_aspect_ratio:
            across = down = (max if self.crop_to_aspect_ratio else min)(across, down)
        left, top = (width * across - self.width) // 2, (height * down - self.height) // 2
        if self.pad_to_aspect_ratio:  # the borders, rounded as in Keras
            left = -((self.width - width * across) // 2)
            top = -((self.height - height * down) // 2)
        nothing = np.isin(boxes, (0, -1)).all(axis=-1, keepdims=True)  # a row that was filled up
        return np.where(nothing, 0, scaled(boxes, across, down, left, top))


@serializable("keras.layers")
class CenterCrop(_Sized):
    """The middle of the images, `height` x `width`; smaller images are cropped and enlarged.

    Args:
        height, width: the new size.
        data_format: see `ImageLayer`.
    """

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.height = positive("CenterCrop", "height", height)
        self.width = positive("CenterCrop", "width", width)

    def fitted(self, inputs: Any, is_mask: bool) -> Any:
        images, size = self._images(inputs), (self.height, self.width)
        top, left = (n - m for n, m in zip(images.shape[1:3], size))
        if top >= 0 and left >= 0:
            top, left = top // 2, left // 2
            middle = images[:, top : top + self.height, left : left + self.width]
            return self._outputs(middle, inputs)
        rows, columns = centre_box(images.shape[1:3], size)
        how = "nearest" if is_mask else "bilinear"
        return self._outputs(resize(images[:, rows, columns], size, how), inputs)

    def fitted_boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        if height >= self.height and width >= self.width:
            return scaled(boxes, 1, 1, (width - self.width) // 2, (height - self.height) // 2)
        rows, columns = centre_box((height, width), (self.height, self.width))
        across = self.width / (columns.stop - columns.start)
        down = self.height / (rows.stop - rows.start)
        return scaled(boxes, across, down, columns.start * across, rows.start * down)


@serializable("keras.layers")
class MaxNumBoundingBoxes(ImageLayer):
    """The boxes of a dictionary with "images" and "bounding_boxes", as many for every image.

    Boxes (N, K, 4) and labels (N, K) become (N, `max_number`, 4) and (N, `max_number`): there are
    no more than that, and where there are fewer, `fill_value` stands in their place.
    """

    def __init__(self, max_number: int, fill_value: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.max_number = positive("MaxNumBoundingBoxes", "max_number", max_number)
        self.fill_value = int(fill_value)

    def call(self, inputs: Any) -> Any:
        data = self._with_name(inputs)
        if "bounding_boxes" not in data:
            return inputs
        images = data["images"]
        boxes = self._moved_boxes(data["bounding_boxes"], images, images, None)
        axis = len(boxes["labels"].shape) - 1
        return {**data, "bounding_boxes": {k: self._so_many(x, axis) for k, x in boxes.items()}}

    def _so_many(self, x: Tensor, axis: int) -> Tensor:
        array = x.numpy()[(slice(None),) * axis + (slice(self.max_number),)]
        missing = [(0, self.max_number - n if i == axis else 0) for i, n in enumerate(array.shape)]
        return Tensor.constant(np.pad(array, missing, constant_values=self.fill_value))

    def compute_output_shape(self, input_shape: Any) -> Any:
        if not isinstance(input_shape, dict) or "bounding_boxes" not in input_shape:
            return input_shape
        shapes = input_shape["bounding_boxes"]
        counted = {k: (*s[:1], self.max_number, *s[2:]) for k, s in shapes.items()}
        return {**input_shape, "bounding_boxes": counted}
