"""What happens to gradients before an optimizer's rule: order, exchange, accumulation, clipping."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.autograd import Parameter
from minitorch_ciml.autograd.flat import FlatBuffer
from minitorch_ciml.distributed import init
from minitorch_ciml.kernels import halves

# Combines the gradients of several ranks, given for each buffer, in `buffer.gradient`, and says in
# `buffer.present` which there are; returns False if some are still to come.
Exchange = Callable[[list[FlatBuffer], list[list]], bool]

# From so many elements per parameter on, a copy costs more than another call of the kernel. On a
# GPU a launch takes about 2 us, in which 2 MB are moved; one copies what eight parameters have.
_LARGE = {"cpu": 4096, "cuda": 2**18}


class Gradients:
    """Mixed into `Optimizer`: its gradients, from those of backward to those of the rule."""

    name: str
    kernel: str | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    _trainable_variables: list[Parameter]
    _positions: dict[int, int]
    _members: list[list[int]]
    _buffers: list[FlatBuffer]
    _slot_arrays: dict[str, list[np.ndarray]]
    _accumulated: set[int]

    def _in_order(
        self, grads: Sequence, variables: Sequence[Parameter]
    ) -> tuple[Sequence, set[int]]:
        """The gradients in the order of `build`, and the positions that were not given."""
        known = self._trainable_variables
        if len(variables) == len(known):
            for a, b in zip(variables, known):
                if a is not b:
                    break
            else:
                return grads, set()
        if len(grads) != len(variables):
            raise ValueError(
                f"apply: got {len(grads)} gradients for {len(variables)} parameters; expected one "
                "for each, in the same order."
            )
        ordered: list = [None] * len(known)
        skipped = set(range(len(known)))
        for gradient, variable in zip(grads, variables):
            position = self._positions.get(id(variable))
            if position is None:
                raise ValueError(
                    f"optimizer {self.name!r} was not built with parameter {variable.name!r}; "
                    "make a new optimizer, or build it with all parameters first."
                )
            ordered[position] = gradient
            skipped.discard(position)
        return ordered, skipped

    def _exchanged(self, grads: Sequence, exchange: Exchange) -> list | None:
        """The gradients of all ranks together, None where no rank has one; or None: not yet."""
        own = [[grads[i] for i in members] for members in self._members]
        if not exchange(self._buffers, own):
            return None
        together: list = [None] * len(grads)
        for buffer, members in zip(self._buffers, self._members):
            for i, view, ranks in zip(members, buffer.gradient_views, buffer.present):
                together[i] = view if ranks else None
        return together

    def _check_missing(self, grads: Sequence, skipped: set[int]) -> list[int]:
        """The positions of parameters without a gradient; warns of those not in `skipped`."""
        missing = [i for i, g in enumerate(grads) if g is None]
        if missing:
            if len(missing) == len(grads):
                raise ValueError("apply: there is no gradient for any parameter.")
            unused = [self._trainable_variables[i] for i in missing if i not in skipped]
            if unused:
                names = ", ".join(str(getattr(v, "path", v.name)) for v in unused)
                warnings.warn(
                    f"no gradient for {names}: the loss does not depend on it, so it stays as it "
                    "is.",
                    stacklevel=3,
                )
        return missing

    def _take(self, k: int, grads: Sequence) -> list[np.ndarray | None] | None:
        """Brings the gradients into buffer `k` (None), or gives them as they lie, one by one."""
        buffer, members = self._buffers[k], self._members[k]
        own = grads if len(members) == len(grads) else [grads[i] for i in members]
        treated = (
            self.clipnorm or self.clipvalue or self.global_clipnorm
            or self.gradient_accumulation_steps or self.loss_scale_factor
        )  # fmt: skip
        large = buffer.size >= _LARGE[buffer.device] * len(members)
        if self.kernel is not None and not treated and large:
            return buffer.borrow(own)
        buffer.gather(own)
        return None

    def _accumulate(self, grads: Sequence, update: bool) -> list | None:
        """Adds the gradients to those so far; to `update`, returns their mean."""
        for buffer, members, total in zip(
            self._buffers, self._members, self._slot_arrays["gradient_accumulator"]
        ):
            missing = buffer.gather([grads[i] for i in members])
            self._accumulated |= set(members) - {members[k] for k in missing}
            if update:
                buffer.gradient += total
                buffer.gradient /= self.gradient_accumulation_steps
                total[...] = 0
            else:
                total += buffer.gradient
        if not update:
            return None
        means: list = [None] * len(grads)
        for buffer, members in zip(self._buffers, self._members):
            for i, view in zip(members, buffer.gradient_views):
                means[i] = view if i in self._accumulated else None
        self._accumulated.clear()
        return means

    def share_accumulated(self) -> None:
        """Before rank 0 writes the state for all: gradients that wait become the ranks' mean."""
        for total in self._slot_arrays.get("gradient_accumulator", ()):
            init().allreduce(total, "mean")

    def _clip(self) -> None:
        if self.clipnorm:
            for buffer in self._buffers:
                clip = kernel_of(buffer, "clip_norm")
                for part in buffer.slices:
                    clip(buffer.gradient[part], self.clipnorm)
        elif self.clipvalue:
            for buffer in self._buffers:
                kernel_of(buffer, "clip_value")(buffer.gradient, self.clipvalue)
        elif self.global_clipnorm:
            clip = kernel_of(self._buffers[0], "clip_global_norm")
            clip([buffer.gradient for buffer in self._buffers], self.global_clipnorm)


def kernel_of(buffer: FlatBuffer, name: str) -> Callable:
    """The kernel of that name, on the buffer's device and for its dtype."""
    kernel = kernels.find(buffer.device, name)
    assert kernel is not None, name
    if buffer.device == "cpu" and halves.is_half(buffer.gradient.dtype):
        return halves.Update(kernel)
    return kernel
