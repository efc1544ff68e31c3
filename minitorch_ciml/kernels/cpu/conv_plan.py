"""How a convolution of given shapes is done: by which kernels, and by which plans.

A plan says which outputs are computed together, and where what they need lies. All of it is found
out once for each combination of shapes, strides and the like, and kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache
from itertools import product

import numpy as np

from minitorch_ciml.kernels.cpu import depthwise_grad, pointwise_grad, winograd, winograd_grad
from minitorch_ciml.kernels.cpu.correlate import Weights
from minitorch_ciml.kernels.cpu.correlate_rows import RowPlan, fits, row_plan
from minitorch_ciml.kernels.cpu.geometry import (
    Window,
    as_record,
    as_three,
    backward_axes,
    forward_axis,
    tap_order,
    window,
)
from minitorch_ciml.kernels.cpu.vector import lanes_of
from minitorch_ciml.kernels.cpu.wide_product import BACKWARD, FORWARD, WideProduct, wide_product
from minitorch_ciml.kernels.reference.conv import Ints, Pads, output_size

Plan = Window | RowPlan  # how a correlation is done


class Convolution:
    """`y = x * w`: x `(N, *S, C)`, w `(*K, C // groups, F)` -> y `(N, *O, F)`.

    Attributes:
        x_shape, w_shape, y_shape: as above.
        strides, padding, dilation, groups: as of the op.
        dtype: of all three.
        depthwise: whether every channel is convolved for itself, so that vectors run along the
            channels.
        operations: what it costs, in multiplications; those of depthwise ones share nothing.
        by_winograd: whether `winograd` does it.
    """

    def __init__(
        self, x_shape: Ints, w_shape: Ints, strides: Ints, padding: Pads, dilation: Ints,
        groups: int, dtype: np.dtype,
    ):  # fmt: skip
        self.x_shape, self.w_shape = x_shape, w_shape
        self.strides, self.padding, self.dilation, self.groups = strides, padding, dilation, groups
        self.dtype = dtype
        sizes = zip(x_shape[1:-1], w_shape[:-2], strides, padding, dilation, strict=True)
        places = (output_size(s, k, st, p, d) for s, k, st, p, d in sizes)
        self.y_shape = (x_shape[0], *places, w_shape[-1])
        self.depthwise = groups == x_shape[-1] > 1
        self.operations = math.prod(self.y_shape) * math.prod(w_shape[:-1])
        if self.depthwise:
            self.operations *= 4
        self.by_winograd = winograd.fits(w_shape, strides, dilation, groups, dtype)

    # --- other ways, where they are faster ------------------------------------------------------

    @cached_property
    def wide_forward(self) -> WideProduct | None:
        """The convolution as a product of matrices that packs its weights."""
        return self._wide(FORWARD)

    @cached_property
    def wide_backward(self) -> WideProduct | None:
        """The same for its gradients."""
        return self._wide(BACKWARD)

    def _wide(self, patience: int) -> WideProduct | None:
        return wide_product(
            self.x_shape, self.w_shape, self.strides, self.padding, self.dilation, self.groups,
            self.dtype, patience,
        )  # fmt: skip

    @cached_property
    def by_places(self) -> bool:
        """Whether each output sees one place of x, and `pointwise_grad` computes the gradients."""
        one_place = max(*self.w_shape[:-2], self.groups) == 1
        unpadded = not any(map(any, self.padding))
        channels, filters = self.w_shape[-2:]
        return one_place and unpadded and pointwise_grad.fits(channels, filters, self.dtype)

    @cached_property
    def is_product(self) -> bool:
        """Whether each output sees a place of its own: one product of matrices."""
        return self.by_places and max(self.strides) == 1 and 0 not in self.x_shape

    @cached_property
    def depthwise_at_once(self) -> bool:
        """Whether `depthwise_grad` computes the gradients."""
        return 0 not in self.y_shape and depthwise_grad.fits(
            self.x_shape, self.w_shape, self.strides, self.padding, self.dilation, self.groups,
            self.dtype,
        )  # fmt: skip

    @cached_property
    def both_by_winograd(self) -> bool:
        """Whether `winograd_grad` computes both gradients in one pass."""
        possible = self.by_winograd and winograd_grad.can_do_both(self.padding)
        return possible and 0 not in self.x_shape and 0 not in self.y_shape

    # --- plans ----------------------------------------------------------------------------------

    @cached_property
    def forward(self) -> Plan:
        """The plan: along rows, where that is the faster kernel."""
        return self._rows or self.window

    @cached_property
    def window(self) -> Window:
        """The plan that fits every convolution."""
        return window(
            self.x_shape[0],
            self._axes(forward_axis),
            self._taps,
            self.x_shape[-1],
            self.w_shape[-1],
            groups=self.groups,
            need_slab=self.depthwise,
        )

    @cached_property
    def backward(self) -> list[Plan]:
        """The plans of the input gradient: one for each phase of the strides."""
        return self._backward(False)

    @cached_property
    def backward_masked(self) -> list[Plan]:
        """The same where what is correlated is masked."""
        return self._backward(True)

    @cached_property
    def forward_weights(self) -> np.ndarray:
        """Where the weights lie that the outputs are summed with."""
        inputs, filters = self.w_shape[-2:]
        if self.depthwise:
            return as_record(Weights(1, 1, filters, 0, filters, 0, 1, True))
        kept = filters // self.groups
        by = Weights(self.groups, inputs, kept, kept, inputs * filters, filters, 1, False)
        return as_record(by)

    @cached_property
    def backward_weights(self) -> np.ndarray:
        """Where the same weights lie for the input gradient, which sums over the filters."""
        inputs, filters = self.w_shape[-2:]
        if self.depthwise:
            return self.forward_weights
        summed = filters // self.groups
        by = Weights(self.groups, summed, inputs, summed, inputs * filters, 1, filters, False)
        return as_record(by)

    @cached_property
    def _rows(self) -> RowPlan | None:
        axes, step = self._axes(forward_axis), lanes_of(self.dtype)
        channels, filters = self.x_shape[-1], self.w_shape[-1]
        alone = _is_alone(channels, filters, step)
        if self.groups > 1 or alone or not fits(axes, filters, step):
            return None
        order = tap_order(axes, self._taps)
        return row_plan(self.x_shape[0], axes, order, channels, filters, masked=False, step=step)

    def _backward(self, masked: bool) -> list[Plan]:
        images, step = self.x_shape[0], lanes_of(self.dtype)
        channels, filters = self.x_shape[-1], self.w_shape[-1]
        alone = _is_alone(filters, channels, step)
        plans: list[Plan] = []
        for phase in product(*self._axes(backward_axes)):
            if self.groups == 1 and not alone and fits(phase, channels, step):
                order = tap_order(phase, self._taps)
                plans.append(
                    row_plan(images, phase, order, filters, channels, masked=masked, step=step)
                )
            else:
                plans.append(
                    window(
                        images,
                        phase,
                        self._taps,
                        filters,
                        channels,
                        groups=self.groups,
                        need_slab=masked or self.depthwise,
                    )  # fmt: skip
                )
        return plans

    @property
    def _taps(self) -> Ints:
        return as_three(self.w_shape[:-2], 1)

    def _axes(self, make: Callable) -> list:
        """One result of `make` for depth, height and width each."""
        sizes = zip(
            as_three(self.x_shape[1:-1], 1),
            self._taps,
            as_three(self.strides, 1),
            as_three(self.padding, (0, 0)),
            as_three(self.dilation, 1),
            strict=True,
        )
        return [make(*one) for one in sizes]


convolution = lru_cache(maxsize=1024)(Convolution)


def _is_alone(channels: int, filters: int, step: int) -> bool:
    """Whether a filter has no other beside it, so that vectors run along the channels."""
    return filters == 1 and channels % step == 0
