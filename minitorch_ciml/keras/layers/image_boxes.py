"""Bounding boxes in images that a layer changes: they go where the pixels go.

In here boxes are floats (N, K, 4): the left, top, right and bottom edges in pixels. Points are
counted as pixels' centres are, from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import as_array
from minitorch_ciml.keras.bounding_boxes import clip_to_image_size, convert_format

Size = tuple[int, int]  # height and width


def moved(
    given: Any, form: str | None, before: Size, after: Size, move: Callable | None, layer: str
) -> dict[str, Tensor]:
    """Boxes, as users give them, in the changed images; the labels of those outside become -1.

    Args:
        given: {"boxes": (N, K, 4), "labels": (N, K)}, or (K, 4) and (K,) of one image; as lists,
            they may differ in length, and are filled up with boxes of 0 and labels of -1.
        form: of the boxes, there and in the result; see `keras.utils.bounding_boxes`.
        before, after: the sizes of the images.
        move: boxes of the first size -> boxes of the second; None leaves them as they are.
        layer: how an error message calls it.
    """
    if form is None:
        raise ValueError(
            f"{layer}: there are 'bounding_boxes', so it needs their format, such as "
            "bounding_box_format='xyxy'."
        )
    boxes, labels = _dense(given, layer)
    if move is None:
        return {"boxes": Tensor.constant(boxes), "labels": Tensor.constant(labels)}
    edges = convert_format(boxes, form, "xyxy", *before).numpy()
    edges = move(edges if edges.ndim == 3 else edges[None]).astype("float32")
    edges = edges if boxes.ndim == 3 else edges[0]
    within = clip_to_image_size({"boxes": edges, "labels": labels}, *after)
    return {
        "boxes": convert_format(within["boxes"], "xyxy", form, *after),
        "labels": Tensor.constant(within["labels"].numpy().astype(labels.dtype)),
    }


def _dense(given: Any, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as float32, and labels."""
    if not isinstance(given, dict) or not {"boxes", "labels"} <= given.keys():
        raise ValueError(
            f"{layer}: 'bounding_boxes' must be a dictionary with 'boxes' and 'labels', got "
            f"{sorted(given) if isinstance(given, dict) else type(given).__name__}."
        )
    boxes, labels = given["boxes"], given["labels"]
    lists = isinstance(boxes, (list, tuple)) and isinstance(labels, (list, tuple))
    if lists and len({len(row) for row in boxes}) > 1 and np.ndim(labels[0]) == 1:
        most = max(map(len, boxes))
        boxes = [[*row, *[[0.0] * 4] * (most - len(row))] for row in boxes]
        labels = [[*row, *[-1] * (most - len(row))] for row in labels]
    boxes, labels = as_array(boxes).astype("float32"), as_array(labels)
    if boxes.ndim not in (2, 3) or boxes.shape[-1] != 4 or labels.shape[: boxes.ndim - 1] != (
        boxes.shape[:-1]
    ):  # fmt: skip
        raise ValueError(
            f"{layer}: expected boxes (N, K, 4) and labels (N, K), or (K, 4) and (K,) of one "
            f"image; got {boxes.shape} and {labels.shape}."
        )
    return boxes, labels


def scaled(
    boxes: np.ndarray, across: float, down: float, left: float = 0.0, top: float = 0.0
) -> np.ndarray:
    """Boxes in images that became `across` times as wide and `down` times as high, and then lost
    `left` columns and `top` rows."""
    return boxes * np.array([across, down] * 2) - np.array([left, top] * 2)


def mapped(boxes: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """The boxes around what becomes of boxes in images that `resampling.transformed` changes."""
    n = len(matrices)
    rows = np.concatenate([matrices, np.zeros((n, 8 - matrices.shape[1])), np.ones((n, 1))], axis=1)
    forward = np.linalg.inv(rows.reshape(n, 1, 3, 3).astype("float64"))
    x = boxes[..., [0, 2, 0, 2]]
    y = boxes[..., [1, 1, 3, 3]]
    corners = forward @ np.stack([x, y, np.ones_like(x)], axis=-2)
    corners = corners[..., :2, :] / corners[..., 2:, :]
    return np.concatenate([corners.min(-1), corners.max(-1)], axis=-1)
