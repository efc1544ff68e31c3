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


# --- layers that change images move the boxes in them ---------------------------------------------

IMAGES = np.random.default_rng(1).uniform(0, 255, (4, 60, 80, 3)).astype("float32")
LABELS = np.array([[0, 1, -1], [2, 3, 4], [1, 1, 1], [0, 0, 2]])


def things(form):
    corners = RNG.uniform(5, 30, (4, 3, 2))
    edges = np.concatenate([corners, corners + RNG.uniform(5, 25, (4, 3, 2))], -1)
    edges[0, 2] = 0  # a row that was filled up
    found = THEIRS.convert_format(edges.astype("float32"), "xyxy", form, height=60, width=80)
    return {"boxes": to_numpy(found), "labels": LABELS.copy()}


SETTLED = [  # with equal limits there is no chance left
    ("Resizing", {"height": 30, "width": 50}),
    *[("Resizing", {"height": height, "width": 50, f"{how}_to_aspect_ratio": True})
      for height in (30, 90) for how in ("pad", "crop")],
    *[("CenterCrop", {"height": height, "width": 41}) for height in (30, 31, 70)],
    ("MaxNumBoundingBoxes", {"max_number": 2}),
    ("MaxNumBoundingBoxes", {"max_number": 5, "fill_value": -3}),
    ("RandomZoom", {"height_factor": (0.2, 0.2), "width_factor": (-0.3, -0.3)}),
    ("RandomZoom", {"height_factor": (-0.4, -0.4)}),
    ("RandomTranslation", {"height_factor": (0.5, 0.5), "width_factor": (-0.3, -0.3)}),
    ("RandomErasing", {}), ("RandomBrightness", {"factor": 0.2}), ("RandomColorJitter", {}),
    ("AugMix", {}),
    ("RandomRotation", {"factor": (0.1, 0.1)}), ("RandomRotation", {"factor": (-0.3, -0.3)}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Tensor.T is deprecated")  # Keras
@pytest.mark.parametrize("form", ["xyxy", "rel_xyxy", "center_xywh"])
@pytest.mark.parametrize(("name", "kwargs"), SETTLED)
def test_layers_move_boxes_as_in_keras(name, kwargs, form):
    if name == "RandomRotation":
        form = "xyxy"  # Keras takes boxes to be that
    boxes = things(form)
    results = []
    for k in (keras, keras_peer):
        layer = getattr(k.layers, name)(bounding_box_format=form, **kwargs)
        copies = {key: value.copy() for key, value in boxes.items()}
        results.append(layer({"images": IMAGES, "bounding_boxes": copies, "ids": LABELS}))
    ours, theirs = (r["bounding_boxes"] for r in results)
    close(ours["boxes"], theirs["boxes"])
    np.testing.assert_array_equal(ours["labels"].numpy(), to_numpy(theirs["labels"]))
    np.testing.assert_array_equal(results[0]["ids"], LABELS)


MOVING = [
    ("RandomFlip", {"mode": "horizontal"}), ("RandomFlip", {"mode": "vertical"}),
    ("RandomFlip", {}),
    ("RandomCrop", {"height": 40, "width": 52}), ("RandomCrop", {"height": 90, "width": 60}),
    ("RandomRotation", {"factor": 0.05, "fill_mode": "constant"}),
    ("RandomShear", {"x_factor": 0.2, "y_factor": 0.3, "fill_mode": "constant"}),
    ("RandomPerspective", {"scale": 0.2}),
    ("RandAugment", {"factor": 0.1}),
    ("RandomZoom", {"height_factor": 0.3, "fill_mode": "constant"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs"), MOVING)
@pytest.mark.parametrize("form", ["xyxy", "rel_center_xywh"])
def test_boxes_go_where_the_pixels_go(name, kwargs, form):
    image, edges = np.zeros((6, 60, 80, 1), "float32"), np.empty((6, 1, 4), "float32")
    for i, (x, y) in enumerate(RNG.integers(22, 30, (6, 2))):
        edges[i] = x, y, x + 16, y + 12
        image[i, y : y + 12, x : x + 16] = 255
    data = {
        "images": np.repeat(image, 3, axis=-1),
        "bounding_boxes": {
            "boxes": OURS.convert_format(edges, "xyxy", form, height=60, width=80).numpy(),
            "labels": np.ones((6, 1), int),
        },
    }
    layer = getattr(keras.layers, name)(bounding_box_format=form, seed=3, **kwargs)
    result = layer(data)
    images = result["images"].numpy()[..., 0]
    size = {"height": images.shape[1], "width": images.shape[2]}
    found = result["bounding_boxes"]
    boxes = OURS.convert_format(found["boxes"], form, "xyxy", **size).numpy()
    for seen, box in zip(images, boxes[:, 0]):
        y, x = np.nonzero(seen > 100)
        expected = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        # Boxes' edges are counted as the pixels' centres are, so a corner may be a pixel away.
        np.testing.assert_allclose(box, expected, atol=2.5)
    np.testing.assert_array_equal(found["labels"].numpy(), 1)
    single = {"images": data["images"][0],
              "bounding_boxes": {k: v[0] for k, v in data["bounding_boxes"].items()}}  # fmt: skip
    assert layer(single)["bounding_boxes"]["boxes"].shape == (1, 4)
    if name != "RandomCrop":
        same = layer(data, training=False)["bounding_boxes"]["boxes"]
        np.testing.assert_array_equal(same.numpy(), data["bounding_boxes"]["boxes"])


def test_boxes_of_mixed_images_are_those_of_both():
    boxes = things("xyxy")
    data = {"images": IMAGES, "labels": np.eye(4, dtype="float32"), "bounding_boxes": boxes}
    mixed = keras.layers.MixUp(bounding_box_format="xyxy", seed=1)(data)["bounding_boxes"]
    assert mixed["boxes"].shape == (4, 6, 4) and mixed["labels"].shape == (4, 6)
    np.testing.assert_array_equal(mixed["boxes"].numpy()[:, :3], boxes["boxes"])
    partners = [int((boxes["boxes"] == row).all(axis=(1, 2)).argmax())
                for row in mixed["boxes"].numpy()[:, 3:]]  # fmt: skip
    np.testing.assert_array_equal(mixed["labels"].numpy()[:, 3:], LABELS[partners])


def test_lists_of_boxes_may_differ_in_length():
    lists = {"boxes": [[[1, 2, 3, 4]], [[1, 2, 3, 4], [5, 6, 7, 8]]], "labels": [[3], [4, 5]]}
    layer = keras.layers.MaxNumBoundingBoxes(3, bounding_box_format="xyxy")
    found = layer({"images": IMAGES[:2], "bounding_boxes": lists})["bounding_boxes"]
    np.testing.assert_array_equal(found["labels"].numpy(), [[3, -1, -1], [4, 5, -1]])
    np.testing.assert_array_equal(found["boxes"].numpy()[0], [[1, 2, 3, 4], [0] * 4, [-1] * 4])
    assert keras.layers.RandomFlip().get_config().keys() >= {"seed"}
    assert "bounding_box_format" not in keras.layers.RandomFlip().get_config()
    again = keras.layers.MaxNumBoundingBoxes.from_config(layer.get_config())
    assert again.bounding_box_format == "xyxy" and again.max_number == 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: keras.layers.RandomFlip(), ValueError, "needs their format, such as "),
        (lambda: keras.layers.RandomFlip(bounding_box_format="xyz"), ValueError, "got boundi"),
        (lambda: keras.layers.CutMix(bounding_box_format="xyxy"), NotImplementedError, "CutMix do"),
        (lambda: keras.layers.RandomElasticTransform(bounding_box_format="xyxy"),
         NotImplementedError, "does not take bounding boxes; give it the images without them"),
    ],
)  # fmt: skip
def test_mistakes_with_boxes(make, error, message):
    with pytest.raises(error, match=message):
        make()({"images": IMAGES, "bounding_boxes": things("xyxy"), "labels": np.eye(4)})


def test_boxes_of_another_shape_are_refused():
    layer = keras.layers.RandomFlip(bounding_box_format="xyxy")
    for boxes, message in (
        ({"boxes": np.ones((4, 3, 4)), "labels": np.ones((4, 2))}, r"got \(4, 3, 4\) and \(4, 2\)"),
        ({"boxes": np.ones((4, 3, 4))}, "a dictionary with 'boxes' and 'labels', got .'boxes'."),
        (np.ones((4, 3, 4)), "a dictionary with 'boxes' and 'labels', got Tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            layer({"images": IMAGES, "bounding_boxes": boxes})


@pytest.mark.parametrize("centre", [{}, {"center_x": 0.2, "center_y": 0.7}])
def test_affine_transform_equals_keras(centre):
    limits = [(-90, 90), (-0.5, 0.5), (-0.5, 0.5), (0.5, 2), (-30, 30), (-30, 30)]
    how = [RNG.uniform(*pair, 3).astype("float32") for pair in limits]
    x = boxes(3, 5)
    theirs = THEIRS.affine_transform(*map(torch.tensor, (x, *how)), 60, 80, **centre)
    close(OURS.affine_transform(x, *how, 60, 80, **centre), theirs)
