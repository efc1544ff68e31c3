"""Boxes around things in images, and pictures of them: the numbers are Keras'."""

import numpy as np
import pytest
from keras_peer import keras_peer, seeded, to_numpy, torch

from minitorch_ciml import Tensor, grad, keras

RNG = np.random.default_rng(0)
OURS, THEIRS = keras.utils.bounding_boxes, keras_peer.utils.bounding_boxes
FORMATS = (
    "xyxy yxyx xywh center_xywh center_yxhw rel_xyxy rel_yxyx rel_xywh rel_center_xywh".split()
)


def boxes(*shape, form="xyxy"):
    low = RNG.uniform(0, 40, (*shape, 2))
    edges = np.concatenate([low, low + RNG.uniform(5, 30, (*shape, 2))], -1).astype("float32")
    return to_numpy(THEIRS.convert_format(edges, "xyxy", form, height=60, width=80))


def close(ours, theirs):
    np.testing.assert_allclose(ours.numpy(), to_numpy(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_formats_equal_keras(source, target):
    x, size = boxes(2, 5, form=source), {"height": 60, "width": 80}
    close(OURS.convert_format(x, source, target, **size),
          THEIRS.convert_format(x, source, target, **size))  # fmt: skip
    named = OURS.convert_format({"boxes": x, "labels": [1]}, source, target, **size)
    assert named["labels"] == [1] and named["boxes"].shape == (2, 5, 4)


@pytest.mark.parametrize("shapes", [((4,), (3,)), ((2, 4), (2, 3)), ((2, 4), (3,))])
@pytest.mark.parametrize("form", ["xyxy", "center_yxhw", "rel_xywh"])
@pytest.mark.parametrize("masked", [False, True])
def test_intersection_over_union_equals_keras(shapes, form, masked):
    a, b = (boxes(*shape, form=form) for shape in shapes)
    if masked:
        a[..., 0, :] = -1
        if a.ndim != b.ndim:
            pytest.skip("Keras fails")
    how = {"use_masking": masked, "image_shape": (60, 80, 3)}
    close(OURS.compute_iou(a, b, form, **how), THEIRS.compute_iou(a, b, form, **how))


def test_ciou_and_its_gradient_equal_keras():
    a, b = boxes(6), boxes(6)
    tensor, x = torch.tensor(a, requires_grad=True), Tensor(a, requires_grad=True)
    theirs, ours = (k.compute_ciou(c, b, "xyxy") for k, c in ((THEIRS, tensor), (OURS, x)))
    close(ours, theirs.detach())
    (theirs * torch.tensor(seeded((6,)))).sum().backward()
    np.testing.assert_allclose(
        grad((ours * seeded((6,))).sum(), x), tensor.grad, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("form", ["center_xywh", "center_yxhw"])
@pytest.mark.parametrize("variance", [None, [0.1, 0.1, 0.2, 0.2]])
def test_differences_from_anchors_equal_keras(form, variance):
    anchors, x = boxes(5), boxes(2, 5, form="xywh")
    how = ("xyxy", "xywh", form, variance)
    deltas = OURS.encode_box_to_deltas(anchors, x, *how)
    close(deltas, THEIRS.encode_box_to_deltas(anchors, x, *how))
    np.testing.assert_allclose(
        OURS.decode_deltas_to_boxes(anchors, deltas, *how), x, rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="expected 'center_xywh' or 'center_yxhw'"):
        OURS.encode_box_to_deltas(anchors, x, "xyxy", "xywh", "xyxy")


def test_borders_equal_keras():
    x = boxes(2, 5)
    labels = np.arange(10).reshape(2, 5)
    how = {"height": 35, "width": 30}
    mine = OURS.clip_to_image_size({"boxes": x, "labels": labels}, **how)
    peer = THEIRS.clip_to_image_size({"boxes": torch.tensor(x), "labels": torch.tensor(labels)},
                                     **how)  # fmt: skip
    for name in ("boxes", "labels"):
        close(mine[name], peer[name])
    assert (mine["labels"].numpy() == -1).any()
    close(OURS.crop(x, 3, 4, 30, 20), THEIRS.crop(torch.tensor(x), 3, 4, 30, 20))
    close(OURS.pad(x, 3, 4), THEIRS.pad(torch.tensor(x), 3, 4))
    with pytest.raises(ValueError, match="needs the image's height and width"):
        OURS.convert_format(x, "xyxy", "rel_xyxy")


@pytest.mark.parametrize("blend", [True, False])
@pytest.mark.parametrize("colours", [None, {0: (9, 8, 7), 1: (255, 0, 0), 2: (0, 0, 255)}])
def test_segmentation_masks_equal_keras(blend, colours):
    images = RNG.integers(0, 256, (2, 6, 5, 3))
    masks = RNG.integers(0, 3, (2, 6, 5, 1))
    how = {"num_classes": 3, "blend": blend, "color_mapping": colours, "ignore_index": 0}
    ours = keras.visualization.draw_segmentation_masks(images, masks, **how)
    theirs = keras_peer.visualization.draw_segmentation_masks(images, masks, **how)
    assert abs(ours.astype(float) - to_numpy(theirs)).max() <= 1


def test_boxes_are_drawn_where_they_are():
    images = np.zeros((2, 40, 50, 3), "uint8")
    found = {"boxes": [[[10, 20, 30, 35]], [[0, 0, 5, 5]]], "labels": [[1], [-1]]}
    drawn = keras.visualization.draw_bounding_boxes(
        images, found, "xyxy", color=(255, 0, 0), line_thickness=1
    )
    rows, columns = np.nonzero(drawn[0, ..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 35, 10, 30)
    assert not drawn[0, 22:34, 12:29].any() and not drawn[1].any()
    named = keras.visualization.draw_bounding_boxes(
        images, {**found, "confidences": [[0.5], [0.5]]}, "xyxy", {1: "cat"}
    )
    assert (named[0] > 0).sum() > (drawn[0] > 0).sum()


def test_galleries(tmp_path):
    images = RNG.integers(0, 256, (5, 8, 8, 3))
    path = tmp_path / "gallery.png"
    figure = keras.visualization.plot_image_gallery(
        images, y_true=[0, 1, 0, 1, 1], y_pred=[1, 1, 0, 0, 2], label_map={0: "a", 1: "b"},
        path=path,
    )  # fmt: skip
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "Label: a  Pred: b", "Label: b  Pred: b", "Label: a  Pred: a", "Label: b  Pred: a",
        "Label: b  Pred: Unknown", "",
    ]  # fmt: skip
    assert path.stat().st_size > 1000
    found = {"boxes": np.tile([1, 1, 5, 5], (5, 1, 1)), "labels": np.zeros((5, 1))}
    boxed = keras.visualization.plot_bounding_box_gallery(images, "xyxy", found, found, legend=True)
    assert [t.get_text() for t in boxed.legends[0].texts] == ["Ground Truth", "Prediction"]
    masks = RNG.integers(0, 2, (5, 8, 8))
    assert len(keras.visualization.plot_segmentation_mask_gallery(
        images, 2, y_true=masks, y_pred=masks[..., None]).axes) == 15  # fmt: skip
    with pytest.raises(ValueError, match="need a label_map"):
        keras.visualization.plot_image_gallery(images, y_true=[0])
    with pytest.raises(ValueError, match="expected a batch of images"):
        keras.visualization.plot_image_gallery(images[0])
