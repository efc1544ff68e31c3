"""Digits that the package draws itself, in MNIST's layout, for machines without MNIST.

Master shapes (fonts and pen strokes, see glyphs.py) are rotated, sheared, stretched, bent by a
smooth random displacement (Simard, Steinkraus and Platt, 2003), drawn with a random stroke,
softened and roughened, and framed about as MNIST frames its digits: 20 pixels for the longer side,
the centre of mass in the middle of 28 x 28.

Only +, -, *, / and square roots touch the numbers, and only uniform random draws: a seed gives the
same images whatever the processor. Another matplotlib may read an outline a hair differently, which
can change a pixel by a grey level.
"""

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from minitorch_ciml.datasets.files import atomic_write, cache_dir
from minitorch_ciml.datasets.glyphs import (
    GRID,
    REACH,
    Array32,
    Masters,
    font_masters,
    joined,
    pen_masters,
)
from minitorch_ciml.datasets.mnist import Bytes, Split, read

VERSION = 1  # part of the cached file's name: raise it whenever the images change
SIZE = 28  # pixels a side
BOX = 20.0  # pixels for a digit's longer side, as in MNIST
BATCH = 250  # images warped at once: their working arrays stay in the cache
HANDS = 12  # people whose pens wrote the training digits, and as many others for the test digits
PEN_SHARE = 0.6  # of the images; the rest are fonts
KNOTS = 6  # a side of the grid whose random displacements bend the digit


def synthetic_digits(
    n_train: int = 60_000, n_test: int = 10_000, seed: int = 0
) -> tuple[Split, Split]:
    """Draws labelled digits in the layout of MNIST: a stand-in for it, and not MNIST.

    The test digits come from other random draws and other hands than the training digits. Fewer
    images are the first of more. The result is kept in the package's cache folder.

    Args:
        n_train: number of training images, at least 1.
        n_test: number of test images, at least 1.
        seed: non-negative integer that fixes every image.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (n, 28, 28) uint8, 0 paper to 255 ink,
        and labels (n,) uint8, 0 to 9, about equally many of each.

    Raises:
        ValueError: if a number of images is below 1 or the seed is negative.
    """
    if min(n_train, n_test) < 1 or seed < 0:
        raise ValueError(
            f"synthetic_digits(n_train={n_train}, n_test={n_test}, seed={seed}): expected at least "
            "one image of each kind and a seed of at least 0"
        )
    file = cache_dir() / f"synthetic-digits-v{VERSION}-{n_train}-{n_test}-{seed}.npz"
    if file.is_file():
        try:
            return read(file)
        except ValueError:
            pass  # damaged: drawn and written anew below
    (x_train, y_train), (x_test, y_test) = train, test = draw(n_train, n_test, seed)
    try:
        with atomic_write(file) as out:
            np.savez_compressed(out, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    except OSError as error:
        warnings.warn(f"synthetic_digits cannot keep its images in {file} ({error})", stacklevel=2)
    return train, test


def draw(n_train: int, n_test: int, seed: int) -> tuple[Split, Split]:
    """What `synthetic_digits` does when its cache is empty: same arguments, same result."""
    fonts = font_masters()
    training, testing = np.random.SeedSequence(seed).spawn(2)
    return _split(n_train, fonts, training), _split(n_test, fonts, testing)


def _split(n: int, fonts: Masters, entropy: np.random.SeedSequence) -> Split:
    rng = np.random.Generator(np.random.PCG64(entropy))
    pens = pen_masters(rng, HANDS)
    styles = joined(fonts, pens)
    choices = [
        [np.flatnonzero(part.digits == digit) + first for digit in range(10)]
        for part, first in ((fonts, 0), (pens, len(fonts.digits)))
    ]
    images = np.empty((n, SIZE, SIZE), np.uint8)
    labels = np.empty(n, np.uint8)
    for first in range(0, n, BATCH):
        digits = rng.integers(
            0, 10, BATCH
        )  # whole batches, so that fewer images are the first of more
        chosen = _choose(rng, digits, choices)
        count = min(BATCH, n - first)
        images[first : first + count] = _draw_batch(rng, styles, chosen)[:count]
        labels[first : first + count] = digits[:count]
    return images, labels


def _choose(
    rng: np.random.Generator,
    digits: npt.NDArray[np.int64],
    choices: list[list[npt.NDArray[np.intp]]],
) -> npt.NDArray[np.intp]:
    """A master (B,) for each digit (B,): a pen's with probability PEN_SHARE, else a font's."""
    pens = rng.random(len(digits)) < PEN_SHARE
    places = rng.random(len(digits))
    found = [choices[pen][digit] for pen, digit in zip(pens.astype(int), digits, strict=True)]
    return np.array([some[int(at * len(some))] for some, at in zip(found, places, strict=True)])


class _Frame(NamedTuple):
    """How B masters are laid on the pixels; every field (B, 1, 1) but the matrix."""

    inverse: tuple[Array32, Array32, Array32, Array32]  # pixels to master, a 2 x 2 matrix by rows
    centre_x: Array32  # of mass, in the master
    centre_y: Array32
    scale: Array32  # pixels per unit of the master
    thicken: Array32  # pixels added to half the stroke's width


def _draw_batch(rng: np.random.Generator, styles: Masters, chosen: npt.NDArray[np.intp]) -> Bytes:
    """Images (B, 28, 28) of the masters `chosen` (B,)."""
    frame = _frame(rng, styles, chosen)
    shape = (len(chosen), 1, 1)
    pixels = np.arange(SIZE, dtype=np.float32)
    middle = np.float32(SIZE / 2)
    across = (
        pixels[None, None, :] - middle + _bend(rng, len(chosen)) - _uniform(rng, shape, -0.7, 0.7)
    )
    down = (
        pixels[None, :, None] - middle + _bend(rng, len(chosen)) - _uniform(rng, shape, -0.7, 0.7)
    )
    a, b, c, d = frame.inverse
    distance = _sample(
        styles.fields,
        chosen,
        a * across + b * down + frame.centre_x,
        c * across + d * down + frame.centre_y,
    )
    distance *= frame.scale
    distance += frame.thicken
    distance += _uniform(rng, shape, 0, 0.8) * (
        rng.random(distance.shape, np.float32) - np.float32(0.5)
    )
    softness = _uniform(rng, shape, 1.0, 2.0)  # pixels from paper to full ink
    ink = np.clip(distance / softness + np.float32(0.5), 0, 1)
    return (ink * _uniform(rng, shape, 225, 255) + np.float32(0.5)).astype(np.uint8)


def _frame(rng: np.random.Generator, styles: Masters, chosen: npt.NDArray[np.intp]) -> _Frame:
    """Random rotation, slant, stretch and stroke, sized so that the digit fills BOX."""
    shape = (len(chosen), 1, 1)
    # cos and sin from the tangent of half the angle: exact on every processor, unlike np.cos.
    half = np.float32(0.07) * _bell(rng, shape)
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    slant = np.float32(0.12) + np.float32(0.18) * _bell(rng, shape)  # to the right, on average
    stretch = np.float32(1.1) + np.float32(0.16) * _bell(rng, shape)
    a, b = cosine * stretch, -cosine * slant - sine
    c, d = sine * stretch, cosine - sine * slant
    x, y = styles.hulls[chosen, None, :, 0], styles.hulls[chosen, None, :, 1]
    warped_x, warped_y = a * x + b * y, c * x + d * y
    extent = np.maximum(np.ptp(warped_x, axis=2), np.ptp(warped_y, axis=2))[..., None]
    drawn = styles.half_widths[chosen, None, None]
    wanted = np.maximum(np.float32(1.4) + np.float32(0.35) * _bell(rng, shape), np.float32(0.8))
    box = BOX * _uniform(rng, shape, 0.88, 1)
    scale = (box - 2 * wanted) / (
        extent - 2 * drawn
    )  # the middle line of the stroke, then its width
    determinant = a * d - b * c
    inverse = (d, -b, -c, a)
    pixels = scale * np.sqrt(determinant)
    # A font's hairlines vanish before its stems are thin.
    thicken = np.maximum(wanted - drawn * pixels, np.float32(-0.4) * drawn * pixels)
    centre = styles.centres[chosen, :, None, None]
    return _Frame(
        (*(part / (determinant * scale) for part in inverse),),
        centre[:, 0],
        centre[:, 1],
        pixels,
        thicken,
    )


def _bend(rng: np.random.Generator, n: int) -> Array32:
    """Smooth displacements (n, 28, 28) in pixels: a cubic B-spline over KNOTS x KNOTS draws."""
    knots = np.float32(1.8) * _bell(rng, (n, KNOTS, KNOTS))
    weights = _spline_weights()
    rows = _weighted([knots[:, :, j, None] for j in range(KNOTS)], list(weights))
    return _weighted([rows[:, i, None, :] for i in range(KNOTS)], list(weights[:, :, None]))


def _weighted(terms: list[Array32], weights: list[Array32]) -> Array32:
    """The sum of products. np.matmul would be shorter, but rounds as the processor likes."""
    total = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total += term * weight
    return total


def _spline_weights() -> Array32:
    """Weight (KNOTS, 28) of each knot at each pixel, uniform cubic B-spline."""
    spacing = np.float32((SIZE - 1) / (KNOTS - 3))
    place = np.arange(SIZE, dtype=np.float32) / spacing + 1
    distance = np.abs(place - np.arange(KNOTS, dtype=np.float32)[:, None])
    near = 2 / 3 - distance * distance * (1 - distance / 2)
    far = (
        np.maximum(2 - distance, 0) * np.maximum(2 - distance, 0) * np.maximum(2 - distance, 0) / 6
    )
    return np.where(distance < 1, near, far).astype(np.float32)


def _sample(fields: Array32, chosen: npt.NDArray[np.intp], x: Array32, y: Array32) -> Array32:
    """Values (B, 28, 28) of fields[chosen[b]] at x, y (B, 28, 28) in the masters' units."""
    half = np.float32((GRID - 1) / 2)
    last = np.float32(GRID - 1.001)
    x = np.clip(x * (half / np.float32(REACH)) + half, 0, last)
    y = np.clip(y * (half / np.float32(REACH)) + half, 0, last)
    column, row = x.astype(np.int32), y.astype(np.int32)
    x -= column
    y -= row
    flat = fields.reshape(-1)
    at = (
        chosen.astype(np.int32)[:, None, None] * np.int32(GRID * GRID)
        + row * np.int32(GRID)
        + column
    )
    top = flat[at]
    top += x * (flat[at + 1] - top)
    at += np.int32(GRID)
    bottom = flat[at]
    bottom += x * (flat[at + 1] - bottom)
    return top + y * (bottom - top)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Array32:
    return np.float32(low) + np.float32(high - low) * rng.random(shape, np.float32)


def _bell(rng: np.random.Generator, shape: tuple[int, ...]) -> Array32:
    """Draws of mean 0, standard deviation 1 and at most 3 in size: the sum of three uniforms."""
    total = (
        rng.random(shape, np.float32)
        + rng.random(shape, np.float32)
        + rng.random(shape, np.float32)
    )
    return np.float32(2) * (total - np.float32(1.5))
