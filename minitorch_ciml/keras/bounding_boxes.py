"""Boxes around things in images (`keras.utils.bounding_boxes`).

A box is four numbers in one of the formats of `FORMATS`: its left, top, right and bottom edges
(xyxy), the same in another order (yxyx), a corner or the centre with width and height; with "rel_"
as shares of the image's width and height. Boxes are tensors (..., 4), or a dictionary that has them
as "boxes" and their classes as "labels" (...). Gradients flow through all functions.
"""

from __future__ import annotations

import math
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.backend import epsilon

__all__ = [
    "affine_transform", "clip_to_image_size", "compute_ciou", "compute_iou", "convert_format",
    "crop", "decode_deltas_to_boxes", "encode_box_to_deltas", "pad",
]  # fmt: skip

FORMATS = (
    "xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw",
    "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh",
)  # fmt: skip


def convert_format(
    boxes: Any,
    source: str,
    target: str,
    height: Any = None,
    width: Any = None,
    dtype: Any = "float32",
) -> Any:
    """Boxes in another format.

    Args:
        boxes: (..., 4), or a dictionary with "boxes".
        source, target: of `FORMATS`.
        height, width: of the image, where one of the two formats is relative.
        dtype: of the result.

    Raises:
        ValueError: an unknown format, no four numbers, or no size where it is needed.
    """
    if isinstance(boxes, dict):
        converted = convert_format(boxes["boxes"], source, target, height, width, dtype)
        return {**boxes, "boxes": converted}
    source, target = source.lower(), target.lower()
    for form in (source, target):
        if form not in FORMATS:
            raise ValueError(f"convert_format: got {form!r}, expected one of {FORMATS}.")
    boxes = ops.cast(ops.convert_to_tensor(boxes), dtype)
    if boxes.shape[-1] != 4:
        raise ValueError(f"convert_format: a box has 4 numbers, got shape {boxes.shape}.")
    if source == target:
        return boxes
    relative = source.startswith("rel_"), target.startswith("rel_")
    if any(relative) and (height is None or width is None):
        raise ValueError(
            f"convert_format: from {source!r} to {target!r} needs the image's height and width."
        )
    edges = _edges(boxes, source.removeprefix("rel_"))
    if relative[0] != relative[1]:
        sizes = (width, height, width, height)
        edges = [e * n if relative[0] else e / n for e, n in zip(edges, sizes)]
    return _from_edges(edges, target.removeprefix("rel_"))


def _order(form: str) -> tuple[int, int, int, int]:
    return (1, 0, 3, 2) if "yx" in form and form != "xyxy" else (0, 1, 2, 3)


def _edges(boxes: Any, form: str) -> list:
    """Left, top, right, bottom."""
    x, y, u, v = (boxes[..., i] for i in _order(form))
    if form.startswith("center"):
        return [x - u / 2, y - v / 2, x + u / 2, y + v / 2]
    return [x, y, x + u, y + v] if form == "xywh" else [x, y, u, v]


def _from_edges(edges: list, form: str) -> Any:
    left, top, right, bottom = numbers = edges
    if form.startswith("center"):
        numbers = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    elif form == "xywh":
        numbers = [left, top, right - left, bottom - top]
    return ops.stack([numbers[i] for i in _order(form)], axis=-1)


def clip_to_image_size(
    bounding_boxes: dict, height: Any = None, width: Any = None, bounding_box_format: str = "xyxy"
) -> dict:
    """Boxes cut off at the borders of the image; the labels of those without area become -1.

    Args:
        bounding_boxes: "boxes" (..., 4) and, if there are any, "labels" (...).
        height, width: of the image; not for shares.
        bounding_box_format: "xyxy" or "rel_xyxy".
    """
    if bounding_box_format == "rel_xyxy":
        height = width = 1.0
    elif bounding_box_format != "xyxy" or height is None or width is None:
        raise ValueError(
            "clip_to_image_size: expected boxes 'xyxy' with height and width, or 'rel_xyxy'; got "
            f"{bounding_box_format!r}, height={height}, width={width}."
        )
    clipped = crop(bounding_boxes["boxes"], 0, 0, height, width)
    result = {**bounding_boxes, "boxes": clipped}
    if bounding_boxes.get("labels") is not None:
        result["labels"] = ops.where(_area(clipped) > 0, bounding_boxes["labels"], -1)
    return result


def crop(
    boxes: Any, top: Any, left: Any, height: Any, width: Any, bounding_box_format: str = "xyxy"
) -> Any:
    """Boxes "xyxy" in a part of the image, which begins at (top, left)."""
    _only_edges("crop", bounding_box_format)
    x1, y1, x2, y2 = _edges(ops.convert_to_tensor(boxes), "xyxy")
    columns = [ops.clip(x - left, 0, width) for x in (x1, x2)]
    rows = [ops.clip(y - top, 0, height) for y in (y1, y2)]
    return ops.stack([columns[0], rows[0], columns[1], rows[1]], axis=-1)


def pad(
    boxes: Any,
    top: Any,
    left: Any,
    height: Any = None,
    width: Any = None,
    bounding_box_format: str = "xyxy",
) -> Any:
    """Boxes "xyxy" in an image that got borders of this height above and this width on the left."""
    _only_edges("pad", bounding_box_format)
    x1, y1, x2, y2 = _edges(ops.convert_to_tensor(boxes), "xyxy")
    return ops.stack([x1 + left, y1 + top, x2 + left, y2 + top], axis=-1)


def affine_transform(
    boxes: Any,
    angle: Any,
    translate_x: Any,
    translate_y: Any,
    scale: Any,
    shear_x: Any,
    shear_y: Any,
    height: Any,
    width: Any,
    center_x: float | None = None,
    center_y: float | None = None,
    bounding_box_format: str = "xyxy",
) -> Any:
    """The boxes around what becomes of boxes "xyxy" in images that are moved, turned and slanted.

    Args:
        boxes: (N, K, 4).
        angle: in degrees, (N,); against the clock.
        translate_x, translate_y: as shares of the width and height, (N,).
        scale: a factor of all lengths, (N,).
        shear_x, shear_y: in degrees, (N,).
        height, width: of the images.
        center_x, center_y: what stays, as shares of the width and height; 0.5 if left out.
    """
    _only_edges("affine_transform", bounding_box_format)
    turn, across, down = (
        ops.cast(ops.convert_to_tensor(x), "float32") * (-math.pi / 180)
        for x in (angle, shear_x, shear_y)
    )
    size_x, size_y = width - 1, height - 1
    x0 = (0.5 if center_x is None else center_x) * size_x
    y0 = (0.5 if center_y is None else center_y) * size_y
    # The inverse of turning and slanting, whose determinant is 1.
    a, c = (f(turn - down) / ops.cos(down) for f in (ops.cos, lambda x: -ops.sin(x)))
    b, d = a * ops.tan(across) + ops.sin(turn), ops.cos(turn) - c * ops.tan(across)
    a, b, c, d = (ops.expand_dims(x * scale, (-1, -2)) for x in (d, -b, -c, a))
    left, top, right, bottom = _edges(ops.cast(ops.convert_to_tensor(boxes), "float32"), "xyxy")
    x = ops.stack([left, right, right, left], axis=-1) - x0
    y = ops.stack([top, top, bottom, bottom], axis=-1) - y0
    x = x + ops.reshape(ops.convert_to_tensor(translate_x), (-1, 1, 1)) * size_x
    y = y + ops.reshape(ops.convert_to_tensor(translate_y), (-1, 1, 1)) * size_y
    x, y = a * x + b * y + x0, c * x + d * y + y0
    return ops.stack([ops.min(x, -1), ops.min(y, -1), ops.max(x, -1), ops.max(y, -1)], axis=-1)


def _only_edges(function: str, form: str) -> None:
    if form != "xyxy":
        raise NotImplementedError(f"{function}: takes boxes 'xyxy' only, got {form!r}.")


def _area(boxes: Any) -> Any:
    left, top, right, bottom = _edges(boxes, "xyxy")
    return (right - left) * (bottom - top)


def _size(image_shape: Any) -> tuple:
    """The height and width in (height, width, channels), or None twice."""
    return (None, None) if image_shape is None else tuple(image_shape[:2])


def _overlap(a: list, b: list) -> Any:
    """The area that boxes have in common, from their edges."""
    width = ops.maximum(ops.minimum(a[2], b[2]) - ops.maximum(a[0], b[0]), 0)
    height = ops.maximum(ops.minimum(a[3], b[3]) - ops.maximum(a[1], b[1]), 0)
    return width * height


def compute_iou(
    boxes1: Any,
    boxes2: Any,
    bounding_box_format: str,
    use_masking: bool = False,
    mask_val: float = -1,
    image_shape: Any = None,
) -> Any:
    """The common area of each box of `boxes1` with each of `boxes2`, over that of both together.

    Args:
        boxes1, boxes2: (M, 4) or (N, M, 4), and (K, 4) or (N, K, 4).
        bounding_box_format: of both.
        use_masking: give `mask_val` for pairs in which a box has negative numbers only.
        mask_val: see there.
        image_shape: (height, width, channels), for relative formats.

    Returns:
        (M, K) or (N, M, K).
    """
    size = _size(image_shape)
    one = convert_format(boxes1, bounding_box_format, "xyxy", *size)
    two = convert_format(boxes2, bounding_box_format, "xyxy", *size)
    for boxes in (one, two):
        if boxes.ndim not in (2, 3):
            raise ValueError(f"compute_iou: expected (M, 4) or (N, M, 4), got {boxes.shape}.")
    rows, columns = ops.expand_dims(one, -2), ops.expand_dims(two, -3)
    common = _overlap(_edges(rows, "xyxy"), _edges(columns, "xyxy"))
    shares = common / (_area(rows) + _area(columns) - common + epsilon())
    if not use_masking:
        return shares
    nothing = ops.logical_or(ops.max(rows, axis=-1) < 0, ops.max(columns, axis=-1) < 0)
    return ops.where(nothing, mask_val, shares)


def compute_ciou(
    boxes1: Any, boxes2: Any, bounding_box_format: str, image_shape: Any = None
) -> Any:
    """The IoU of each pair of boxes, less what centres and proportions differ (Zheng et al. 2020).

    Args:
        boxes1, boxes2: (..., 4), alike or to be broadcast.
        bounding_box_format: of both.
        image_shape: (height, width, channels), for relative formats.
    """
    size, small = _size(image_shape), epsilon()
    a, b = (
        _edges(convert_format(boxes, bounding_box_format, "xyxy", *size), "xyxy")
        for boxes in (boxes1, boxes2)
    )
    (w1, h1), (w2, h2) = ((e[2] - e[0], e[3] - e[1] + small) for e in (a, b))
    common = _overlap(a, b)
    iou = common / (w1 * h1 + w2 * h2 - common + 2 * small)
    width = ops.maximum(a[2], b[2]) - ops.minimum(a[0], b[0])
    height = ops.maximum(a[3], b[3]) - ops.minimum(a[1], b[1])
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    v = 4 / math.pi**2 * (ops.arctan(w2 / h2) - ops.arctan(w1 / h1)) ** 2
    return iou - apart / (width**2 + height**2 + small) - v * v / (v - iou + 1 + small)


def encode_box_to_deltas(
    anchors: Any,
    boxes: Any,
    anchor_format: str,
    box_format: str,
    encoding_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Any = None,
) -> Any:
    """How boxes differ from anchors: the way between centres over the size, and ln of the sizes.

    Args:
        anchors, boxes: (M, 4), and (M, 4) or (N, M, 4).
        anchor_format, box_format: of `FORMATS`.
        encoding_format: "center_xywh" or "center_yxhw".
        variance: four numbers that the differences are divided by.
        image_shape: (height, width, channels), for relative formats.
    """
    _centred("encode_box_to_deltas", encoding_format)
    size = _size(image_shape)
    a = convert_format(anchors, anchor_format, encoding_format, *size)
    b = convert_format(boxes, box_format, encoding_format, *size)
    a_size, b_size = (ops.maximum(x[..., 2:], epsilon()) for x in (a, b))
    parts = (b[..., :2] - a[..., :2]) / a_size, ops.log(b_size / a_size)
    deltas = ops.concatenate(parts, axis=-1)
    return deltas if variance is None else deltas / ops.convert_to_tensor(variance, "float32")


def decode_deltas_to_boxes(
    anchors: Any,
    boxes_delta: Any,
    anchor_format: str,
    box_format: str,
    encoded_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Any = None,
) -> Any:
    """The boxes of which `encode_box_to_deltas` gave the differences; also by level, in
    dictionaries."""
    _centred("decode_deltas_to_boxes", encoded_format)
    if isinstance(anchors, dict):
        how = (anchor_format, box_format, encoded_format, variance, image_shape)
        return {k: decode_deltas_to_boxes(a, boxes_delta[k], *how) for k, a in anchors.items()}
    size = _size(image_shape)
    a = convert_format(anchors, anchor_format, encoded_format, *size)
    deltas = ops.convert_to_tensor(boxes_delta)
    deltas = deltas if variance is None else deltas * ops.convert_to_tensor(variance, "float32")
    parts = deltas[..., :2] * a[..., 2:] + a[..., :2], ops.exp(deltas[..., 2:]) * a[..., 2:]
    return convert_format(ops.concatenate(parts, axis=-1), encoded_format, box_format, *size)


def _centred(function: str, form: str) -> None:
    if form not in ("center_xywh", "center_yxhw"):
        raise ValueError(f"{function}: got {form!r}, expected 'center_xywh' or 'center_yxhw'.")


def __dir__() -> list[str]:
    return __all__
