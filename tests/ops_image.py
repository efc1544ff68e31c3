"""Rows for `ops/image.py`, `ops/resampling.py` and `ops/blocks.py`."""

import numpy as np
from op_table import REAL, Integer, Real, Row, fixed, jax, keras, shaped, torch

from minitorch_ciml import ops
from minitorch_ciml.ops import image

ROWS: list[Row] = []
EXCEPTIONS = {
    "elastic_transform": "draws random numbers: test_image.py",
}

IMAGES = (2, 5, 4, 3)
COLOURS = Real(0.05, 0.95)


def rows(op, inputs, *parameters, **how):
    """One row for each set of parameters; the peer is Keras, on PyTorch, if there is no other."""
    module = "image." if op.__name__ in image.__all__ else ""
    if not how.keys() & {"torch", "jax", "numpy"}:
        how["torch"] = lambda *xs, **params: _keras(f"{module}{op.__name__}")(*xs, **params)
    ROWS.extend(Row(op, inputs, params, **how) for params in parameters)


def _keras(path):
    found = keras.ops
    for name in path.split("."):
        found = getattr(found, name)
    return found


# --- colours and borders ------------------------------------------------------------------------

rows(image.rgb_to_grayscale, shaped(REAL, IMAGES), {}, integers=False)
rows(image.rgb_to_grayscale, shaped(REAL, (3, 2, 4)), {"data_format": "channels_first"},
     integers=False)  # fmt: skip
rows(image.rgb_to_grayscale, shaped(Integer(0, 255, "uint8"), IMAGES), {}, grad=False)
rows(image.rgb_to_hsv, shaped(COLOURS, IMAGES), {}, integers=False)
GREYS = np.array([[[0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
rows(image.rgb_to_hsv, fixed(GREYS), {}, order=0, peer_grad=False)
rows(image.hsv_to_rgb, shaped(COLOURS, IMAGES), {}, integers=False)
rows(
    image.pad_images,
    shaped(REAL, IMAGES),
    {"top_padding": 1, "bottom_padding": 2, "left_padding": 1, "target_width": 7},
    {"target_height": 6, "bottom_padding": 0, "right_padding": 2, "target_width": 8},
)
rows(
    image.crop_images,
    shaped(REAL, IMAGES),
    {"top_cropping": 1, "bottom_cropping": 2, "left_cropping": 1, "target_width": 2},
    {"target_height": 3, "bottom_cropping": 0, "right_cropping": 2, "left_cropping": 0},
)

# --- sizes --------------------------------------------------------------------------------------


def _jax_resize(x, size, interpolation, antialias=False):
    shape = (*x.shape[:-3], *size, x.shape[-1])
    return jax.image.resize(x, shape, interpolation, antialias=antialias)


rows(
    image.resize,
    shaped(REAL, IMAGES),
    *(
        {"size": size, "interpolation": name, "antialias": antialias}
        for name in ("bilinear", "bicubic", "lanczos3", "lanczos5")
        for size, antialias in (((3, 7), False), ((2, 3), True))
    ),
    jax=_jax_resize,
    integers=False,
)
rows(
    image.resize,
    shaped(REAL, IMAGES),
    {"size": (3, 9), "interpolation": "nearest"},
    {"size": (2, 4), "crop_to_aspect_ratio": True},
    {"size": (3, 2), "pad_to_aspect_ratio": True, "fill_value": 0.5},
    {"size": (3, 6), "pad_to_aspect_ratio": True},
    integers=False,
)
rows(image.resize, shaped(Integer(0, 255, "uint8"), (5, 4, 3)), {"size": (3, 2)}, grad=False)
for _method in ("linear", "cubic", "lanczos3"):
    rows(
        image.scale_and_translate,
        shaped(REAL, (1, 4, 5, 2)),
        *(
            {
                "output_shape": (1, 6, 4, 2),
                "scale": np.array([1.5, 0.5]),
                "translation": np.array([0.5, 1.0]),
                "spatial_dims": (1, 2),
                "method": _method,
                "antialias": antialias,
            }
            for antialias in (False, True)
        ),
        jax=lambda x, output_shape, scale, translation, spatial_dims, **how: (
            jax.image.scale_and_translate(
                x,
                output_shape,
                spatial_dims,
                jax.numpy.array(scale),
                jax.numpy.array(translation),
                **how,
            )  # fmt: skip
        ),
        integers=False,
    )

# --- places -------------------------------------------------------------------------------------

# No place is near the middle or the border of a pixel, where there are kinks and jumps.
TRANSFORM = np.array([1.07, 0.13, -0.72, 0.23, 0.89, 0.29, 0.0, 0.0])
for _mode in ("constant", "nearest", "wrap", "mirror", "reflect"):
    rows(
        image.map_coordinates,
        shaped((REAL, Real(-3.4, 8.4)), (4, 5), (2, 7)),
        {"order": 1, "fill_mode": _mode, "fill_value": 0.5},
        integers=False,
        order=1,
    )
    rows(
        image.map_coordinates,
        shaped((REAL, Real(-3.4, 8.4)), (4, 5), (2, 7)),
        {"order": 0, "fill_mode": _mode},
        integers=False,
        peer_grad=False,
    )
rows(
    image.affine_transform,
    fixed(np.random.default_rng(0).normal(size=(1, 4, 5, 2)), TRANSFORM[None]),
    {"fill_value": 0.5},
    {"interpolation": "nearest", "fill_mode": "nearest"},
    {"fill_mode": "wrap"},
    {"fill_mode": "reflect"},
    integers=False,
    order=1,
    peer_grad=False,
    rtol32=1e-4,
)
POINTS = np.array([[0.0, 0.0], [4.0, 0.3], [0.2, 3.0], [4.0, 3.0]])
# Keras computes some things in float32 only: they are compared in test_image.py.
ROWS += [
    Row(
        image.perspective_transform,
        fixed(np.random.default_rng(0).normal(size=(4, 5, 2)), POINTS, POINTS[::-1] * 0.9 + 0.13),
        order=1,
        integers=False,
        rtol32=1e-3,
    ),
    Row(
        image.ssim,
        shaped(COLOURS, (2, 6, 5, 2), (2, 6, 5, 2)),
        {"filter_size": 4},
        integers=False,
        rtol32=1e-4,
    ),
]

# --- patches and filters ------------------------------------------------------------------------

rows(
    image.extract_patches,
    shaped(REAL, IMAGES),
    {"size": 2},
    {"size": (2, 3), "strides": (1, 2), "padding": "same"},
    {"size": 2, "strides": 1, "dilation_rate": 2},
)
rows(image.extract_patches, shaped(REAL, (3, 5, 4)), {"size": 2, "data_format": "channels_first"})
rows(
    image.extract_patches_3d,
    shaped(REAL, (1, 4, 3, 4, 2)),
    {"size": 2},
    {"size": (1, 2, 3), "strides": 2, "padding": "same"},
)
rows(
    image.gaussian_blur,
    shaped(REAL, IMAGES),
    {"data_format": "channels_last"},
    {"kernel_size": (5, 5), "sigma": (0.5, 2.0), "data_format": "channels_last"},
    integers=False,
)
rows(image.sobel_edges, shaped(REAL, IMAGES), {"data_format": "channels_last"}, integers=False)

# --- blocks -------------------------------------------------------------------------------------

for _name in ("depth_to_space", "space_to_depth"):
    rows(getattr(ops, _name), shaped(REAL, (2, 4, 2, 12)), {"block_size": 2})
    rows(
        getattr(ops, _name),
        shaped(REAL, (2, 12, 4, 2)),
        {"block_size": 2, "data_format": "channels_first"},
    )
rows(
    ops.unfold,
    shaped(REAL, (2, 3, 4, 5)),
    {"kernel_size": 2},
    {"kernel_size": (2, 3), "dilation": (1, 2), "padding": 1, "stride": 2},
    torch="nn.functional.unfold",
)
rows(
    ops.fold,
    shaped(REAL, (2, 18, 9)),
    {"output_size": (4, 3), "kernel_size": (2, 3), "padding": 1, "stride": (2, 1)},
    torch="nn.functional.fold",
    integers=False,
)
for _op, _peer in (
    (ops.adaptive_average_pool, lambda d: f"adaptive_avg_pool{d}d"),
    (ops.adaptive_max_pool, lambda d: f"adaptive_max_pool{d}d"),
):
    for _shape, _size in (((2, 3, 7), 3), ((2, 3, 5, 4), (2, 4)), ((2, 3, 5, 4, 3), 2)):
        rows(
            _op,
            shaped(REAL, _shape),
            {"output_size": _size, "data_format": "channels_first"},
            torch=lambda x, output_size, data_format, _peer=_peer: getattr(
                torch.nn.functional, _peer(x.ndim - 2)
            )(x, output_size),
            integers=False,
        )
    rows(_op, shaped(REAL, IMAGES), {"output_size": 3}, integers=False)
