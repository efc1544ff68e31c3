"""Where the elements lie that a convolution multiplies: forward, and for the input's gradient.

Both are the same thing, a *correlation*: `y[n, i] = sum over taps j of x[n, at(i, j)] w[j]` with
`at(i, j) = start + i stride + j step` in each dimension, and 0 where that is outside x. The
input's gradient correlates the result's gradient with the flipped kernel. Where the strides are
not 1 it falls into as many correlations as the product of the strides: the elements s of the input
with the same residue of (s + before) by the stride meet the same taps of the kernel, and no others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from minitorch_ciml.kernels.cuda.windows import before, in_three
from minitorch_ciml.kernels.reference.conv import Ints, Pads


@dataclass(frozen=True)
class Taps:
    """Some of a kernel's taps: `first`, first + step, ..., `count` of them, in each dimension."""

    first: Ints
    step: Ints
    count: Ints


@dataclass(frozen=True)
class Correlation:
    """One correlation, in three dimensions; missing ones have size 1 and come first.

    Attributes:
        sizes: x's sizes.
        places: how many places i the window takes.
        taps: how many taps the window has, and which of the kernel's they are.
        start, stride, step: where place i and tap j meet x; see the head of this file.
        target: the result's sizes.
        target_start, target_stride: place i of the window is element start + i stride of it.
    """

    sizes: Ints
    places: Ints
    taps: Taps
    start: Ints
    stride: Ints
    step: Ints
    target: Ints
    target_start: Ints
    target_stride: Ints

    @property
    def arguments(self) -> Ints:
        """What the kernels get of it."""
        return (
            *self.sizes, *self.places, *self.taps.count, *self.start, *self.stride, *self.step,
        )  # fmt: skip

    @property
    def target_arguments(self) -> Ints:
        """What kernels get to find the result's elements; of the sizes the first is not needed."""
        return (*self.target, *self.target_start, *self.target_stride)

    @property
    def is_dense(self) -> bool:
        """Whether the places are all of the result's elements, in their order."""
        return self.target == self.places


@lru_cache(maxsize=1024)
def forward(
    spatial: Ints, outputs: Ints, window: Ints, strides: Ints, padding: Pads, dilation: Ints
) -> Correlation:
    """The correlation that `conv` is."""
    places, zeros, ones = in_three(outputs), (0, 0, 0), (1, 1, 1)
    return Correlation(
        sizes=in_three(spatial),
        places=places,
        taps=Taps(zeros, ones, in_three(window)),
        start=tuple(-b for b in before(padding)),
        stride=in_three(strides),
        step=in_three(dilation),
        target=places,
        target_start=zeros,
        target_stride=ones,
    )


@lru_cache(maxsize=1024)
def backward(
    spatial: Ints, outputs: Ints, window: Ints, strides: Ints, padding: Pads, dilation: Ints
) -> list[Correlation]:
    """The correlations of the result's gradient that make up the input's; some have no taps."""
    sizes = zip(
        in_three(spatial), in_three(window), in_three(strides), before(padding), in_three(dilation)
    )
    by_dimension = [[_part(*one, residue) for residue in range(one[2])] for one in sizes]
    parts = []
    for axes in product(*by_dimension):
        names = ("places", "target_start", "first", "tap_step", "taps", "start", "step")
        part = {name: tuple(axis[i] for axis in axes) for i, name in enumerate(names)}
        parts.append(
            Correlation(
                sizes=in_three(outputs),
                places=part["places"],
                taps=Taps(part["first"], part["tap_step"], part["taps"]),
                start=part["start"],
                stride=(1, 1, 1),
                step=part["step"],
                target=in_three(spatial),
                target_start=part["target_start"],
                target_stride=in_three(strides),
            )
        )
    return [part for part in parts if math.prod(part.places)]


def _part(size: int, window: int, stride: int, pad: int, dilation: int, residue: int) -> Ints:
    """Along one dimension, the elements s with (s + pad) % stride == residue.

    Tap k brings them what is at place (s + pad - dilation k) / stride, where that is whole.
    """
    target_start = (residue - pad) % stride
    places = max(0, -((target_start - size) // stride))
    meets = [k for k in range(window) if (dilation * k - residue) % stride == 0]
    first, count = (meets[0], len(meets)) if meets else (0, 0)
    tap_step = stride // math.gcd(stride, dilation)
    start = (target_start + pad - dilation * first) // stride
    return places, target_start, first, tap_step, count, start, -dilation * tap_step // stride
