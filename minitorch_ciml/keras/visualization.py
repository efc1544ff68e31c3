"""Pictures of images with what is in them (`keras.visualization`).

Boxes are drawn with Pillow, galleries with matplotlib; both are imported when something is drawn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.autograd.tensor import FLOATS, as_array
from minitorch_ciml.keras.backend import standardize_data_format
from minitorch_ciml.keras.bounding_boxes import convert_format

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "draw_bounding_boxes", "draw_segmentation_masks", "plot_bounding_box_gallery",
    "plot_image_gallery", "plot_segmentation_mask_gallery",
]  # fmt: skip

_PALETTE = np.array([2**25 - 1, 2**15 - 1, 2**21 - 1])  # any factors without a common pattern
_TEXT = 12  # pixels: the height of letters for font_scale=1


def _batch(images: Any, data_format: str | None) -> np.ndarray:
    """Images as an array (N, H, W, C)."""
    array = as_array(images)
    if array.ndim != 4:
        raise ValueError(f"expected a batch of images (N, H, W, C), got shape {array.shape}.")
    return np.moveaxis(array, 1, -1) if _first(data_format) else array


def _first(data_format: str | None) -> bool:
    return standardize_data_format(data_format) == "channels_first"


def draw_bounding_boxes(
    images: Any,
    bounding_boxes: dict,
    bounding_box_format: str,
    class_mapping: dict | None = None,
    color: tuple = (128, 128, 128),
    line_thickness: int = 2,
    text_thickness: int = 1,
    font_scale: float = 1.0,
    data_format: str | None = None,
) -> np.ndarray:
    """Images with boxes around what is in them.

    Args:
        images: (N, H, W, 3), 0 to 255; floats that are all at most 1 are taken times 255.
        bounding_boxes: "boxes" (N, M, 4), "labels" (N, M); -1 for no box; "confidences" (N, M) if
            they are to be written.
        bounding_box_format: of `keras.utils.bounding_boxes`.
        class_mapping: what to write for which label.
        color: red, green, blue, 0 to 255.
        line_thickness, text_thickness: pixels; the latter as in Keras, without effect.
        font_scale: 1 for letters of 12 pixels.
        data_format: "channels_last", or "channels_first".

    Returns:
        uint8 (N, H, W, 3).
    """
    from PIL import Image, ImageDraw, ImageFont

    if not isinstance(bounding_boxes, dict) or not {"boxes", "labels"} <= bounding_boxes.keys():
        raise ValueError("draw_bounding_boxes: expected a dictionary with 'boxes' and 'labels'.")
    array = _bytes(_batch(images, data_format))
    height, width = array.shape[1:3]
    boxes = convert_format(bounding_boxes["boxes"], bounding_box_format, "xyxy", height, width)
    corners = as_array(boxes).astype("int32")
    labels = as_array(bounding_boxes["labels"]).astype("int32")
    confidences = bounding_boxes.get("confidences")
    letters = _TEXT * font_scale
    font = ImageFont.load_default(letters)
    drawn = []
    for n, image in enumerate(array):
        picture = Image.fromarray(image)
        draw = ImageDraw.Draw(picture)
        for m, label in enumerate(labels[n]):
            if label == -1:
                continue
            x1, y1, x2, y2 = corners[n, m].tolist()
            edges = sorted((x1, x2)) + sorted((y1, y2))
            draw.rectangle((edges[0], edges[2], edges[1], edges[3]), outline=tuple(color),
                           width=line_thickness)  # fmt: skip
            text = (class_mapping or {}).get(int(label))
            if text is not None:
                if confidences is not None:
                    text = f"{text} | {float(as_array(confidences)[n, m]):.2f}"
                above = y1 - 1.4 * letters
                draw.text((x1 + 2, above if above > 0 else y1 + 2), text, tuple(color), font)
        drawn.append(np.asarray(picture))
    return np.stack(drawn)


def _bytes(images: np.ndarray) -> np.ndarray:
    if images.dtype.kind in FLOATS and images.size:
        images = images * 255 if images.max() <= 1 else images
        images = np.clip(images, 0, 255)
    return images.astype("uint8")


def draw_segmentation_masks(
    images: Any,
    segmentation_masks: Any,
    num_classes: int | None = None,
    color_mapping: dict | None = None,
    alpha: float = 0.8,
    blend: bool = True,
    ignore_index: int = -1,
    data_format: str | None = None,
) -> np.ndarray:
    """Images under the colours of their pixels' classes.

    Args:
        images: (N, H, W, 3), 0 to 255.
        segmentation_masks: integers (N, H, W) or (N, H, W, 1), 0 to num_classes - 1.
        num_classes: the largest class plus 1 if left out.
        color_mapping: (red, green, blue) for every class.
        alpha: how much of the colour there is, 0 to 1.
        blend: False for the colours alone.
        ignore_index: the class of pixels that stay as they are.
        data_format: "channels_last", or "channels_first".

    Returns:
        uint8 (N, H, W, 3); float32 with blend=False, as in Keras.
    """
    array = _batch(images, data_format).astype("float32")
    classes = as_array(segmentation_masks)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"draw_segmentation_masks: masks must be integers, got {classes.dtype}.")
    classes = np.moveaxis(classes, 1, -1) if classes.ndim == 4 and _first(data_format) else classes
    classes = classes[..., 0] if classes.ndim == 4 else classes
    count = int(classes.max()) + 1 if num_classes is None else num_classes
    colours = [(i * _PALETTE) % 255 for i in range(count)]
    if color_mapping is not None:
        colours = [np.array(color_mapping[i]) for i in range(count)]
    painted = array.copy()
    for i, colour in enumerate(colours):
        painted[classes == i] = colour
    if not blend:
        return painted
    mixed = array * (1 - alpha) + painted * alpha
    return np.where((classes != ignore_index)[..., None], mixed, array).astype("uint8")


def plot_image_gallery(
    images: Any,
    y_true: Any = None,
    y_pred: Any = None,
    label_map: dict | None = None,
    rows: int | None = None,
    cols: int | None = None,
    value_range: tuple = (0, 255),
    scale: float = 2,
    path: Any = None,
    show: bool | None = None,
    transparent: bool = True,
    dpi: int = 60,
    legend_handles: Any = None,
    data_format: str | None = None,
) -> Figure:
    """Images in rows and columns, with their labels above them.

    Args:
        images: (N, H, W, C).
        y_true, y_pred: labels (N,), true and predicted; `label_map` has their names.
        label_map: what to write for which label.
        rows, cols: as square as possible if left out.
        value_range: the numbers for black and white.
        scale: inches for each image.
        path: where to save it, if anywhere.
        show: accepted as in Keras: a notebook shows the figure that is returned.
        transparent, dpi: of the file.
        legend_handles: matplotlib's, for a legend.
        data_format: "channels_last", or "channels_first".
    """
    from minitorch_ciml.viz.style import finished, new_figure

    if path is not None and show:
        raise ValueError("plot_image_gallery: give path or show=True, not both.")
    if (y_true is not None or y_pred is not None) and label_map is None:
        raise ValueError("plot_image_gallery: y_true and y_pred need a label_map with names.")
    array = _batch(images, data_format)
    rows = rows or math.ceil(math.sqrt(len(array) if cols is None else len(array) / cols))
    cols = cols or math.ceil(len(array) / rows)
    low, high = value_range
    shown = np.clip((array.astype("float32") - low) / (high - low), 0, 1)
    figure = new_figure(cols * scale, rows * scale)
    for i, axes in enumerate(np.ravel(figure.subplots(rows, cols))):
        axes.set_axis_off()
        if i < len(shown):
            grey = shown.shape[-1] == 1
            axes.imshow(shown[i, ..., 0] if grey else shown[i], cmap="gray" if grey else None,
                        vmin=0, vmax=1)  # fmt: skip
            axes.set_title(_title(i, y_true, y_pred, label_map or {}), fontsize=8)
    if legend_handles is not None:
        figure.legend(handles=legend_handles, loc="lower center")
    figure.set_facecolor("none" if transparent and path is not None else "white")
    figure.set_dpi(dpi)
    return finished(figure, path)


def _title(i: int, y_true: Any, y_pred: Any, names: dict) -> str:
    parts = []
    for word, labels in (("Label", y_true), ("Pred", y_pred)):
        if labels is not None and i < len(labels):
            parts.append(f"{word}: {names.get(as_array(labels)[i].item(), 'Unknown')}")
    return "  ".join(parts)


def plot_bounding_box_gallery(
    images: Any,
    bounding_box_format: str,
    y_true: dict | None = None,
    y_pred: dict | None = None,
    value_range: tuple = (0, 255),
    true_color: tuple = (0, 188, 212),
    pred_color: tuple = (255, 235, 59),
    line_thickness: int = 2,
    font_scale: float = 1.0,
    text_thickness: int | None = None,
    class_mapping: dict | None = None,
    ground_truth_mapping: dict | None = None,
    prediction_mapping: dict | None = None,
    legend: bool = False,
    legend_handles: Any = None,
    rows: int | None = None,
    cols: int | None = None,
    data_format: str | None = None,
    **kwargs: Any,
) -> Figure:
    """A gallery of images with true and predicted boxes.

    Args:
        y_true, y_pred: boxes as `draw_bounding_boxes` takes them.
        true_color, pred_color: of each kind; `legend` tells which is which.
        ground_truth_mapping, prediction_mapping: names of labels; `class_mapping` if left out.
        images, bounding_box_format, value_range, line_thickness, ...: see `draw_bounding_boxes` and
            `plot_image_gallery`.
    """
    from matplotlib.patches import Patch

    array = _batch(images, data_format)
    kinds = (
        ("Ground Truth", y_true, true_color, ground_truth_mapping),
        ("Prediction", y_pred, pred_color, prediction_mapping),
    )
    for _, boxes, colour, names in kinds:
        if boxes is not None:
            array = draw_bounding_boxes(
                array, boxes, bounding_box_format, names or class_mapping, colour, line_thickness,
                text_thickness or line_thickness, font_scale, "channels_last",
            )  # fmt: skip
    if legend:
        if legend_handles:
            raise ValueError("plot_bounding_box_gallery: give legend or legend_handles, not both.")
        legend_handles = [
            Patch(color=tuple(n / 255 for n in c), label=name)  # type: ignore[arg-type]
            for name, _, c, _ in kinds
        ]
    return plot_image_gallery(
        array, value_range=value_range, legend_handles=legend_handles, rows=rows, cols=cols,
        data_format="channels_last", **kwargs,
    )  # fmt: skip


def plot_segmentation_mask_gallery(
    images: Any,
    num_classes: int,
    value_range: tuple = (0, 255),
    y_true: Any = None,
    y_pred: Any = None,
    color_mapping: dict | None = None,
    blend: bool = True,
    alpha: float = 0.8,
    ignore_index: int = -1,
    data_format: str | None = None,
    **kwargs: Any,
) -> Figure:
    """A row for each image: as it is, under its true classes, and under the predicted ones.

    Args:
        y_true, y_pred: masks as `draw_segmentation_masks` takes them; likewise the other arguments.
    """
    array = _batch(images, data_format)
    columns = [array]
    for masks in (y_true, y_pred):
        if masks is not None:
            classes = as_array(masks).astype("int32")
            if classes.ndim == 4 and _first(data_format):
                classes = np.moveaxis(classes, 1, -1)
            columns.append(draw_segmentation_masks(
                array, classes, num_classes, color_mapping, alpha, blend, ignore_index,
                "channels_last",
            ))  # fmt: skip
    gallery = np.stack(columns, axis=1).reshape(-1, *array.shape[1:])
    return plot_image_gallery(
        gallery, value_range=value_range, rows=len(array), cols=len(columns),
        data_format="channels_last", **kwargs,
    )  # fmt: skip


def __dir__() -> list[str]:
    return __all__
