"""`Scalar`: a Python float that remembers how it was computed. Small enough to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minitorch_ciml.autograd.engine import Variable, serials


class Scalar(Variable):
    """A number in a graph.

    >>> a, b = Scalar(2.0, name="a"), Scalar(3.0, name="b")
    >>> (a * b + a).backward()
    >>> a.grad, b.grad
    (Scalar(4.0), Scalar(2.0))

    A scalar requires a gradient unless told otherwise: it exists to be differentiated.
    """

    __slots__ = ()

    def __init__(self, value: float, requires_grad: bool = True, name: str | None = None):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"Scalar: expected a number, got {value!r}; use Tensor for arrays."
            ) from None
        super().__init__(number, requires_grad, name)

    @classmethod
    def constant(cls, value: Any) -> Scalar:
        # Called for every result: written out, this takes half of the time of __init__.
        scalar = cls.__new__(cls)
        scalar.value = value
        scalar.grad = scalar.record = scalar.hooks = scalar.name = None
        scalar.requires_grad = False
        scalar.serial = next(serials)
        return scalar

    @classmethod
    def lift(cls, x: Any, like: Sequence) -> Scalar:
        if isinstance(x, Variable):  # its history would be lost
            raise TypeError(
                f"a Scalar cannot be computed with a {type(x).__name__}; convert it with float()."
            )
        try:
            return cls.constant(float(x))
        except (TypeError, ValueError):
            raise TypeError(
                f"a Scalar can be computed with numbers only, not with {type(x).__name__}; use "
                "Tensor for arrays."
            ) from None

    def ones_like(self) -> Scalar:
        return Scalar.constant(1.0)

    if TYPE_CHECKING:  # what `arithmetic.py` installs, for editors
        grad: Scalar | None  # type: ignore[assignment]

        def __add__(self, other: Any) -> Scalar: ...
        def __neg__(self) -> Scalar: ...
        def __eq__(self, other: object) -> Scalar: ...  # type: ignore[override]
        def __hash__(self) -> int: ...

        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
        __pow__ = __rpow__ = __lt__ = __le__ = __gt__ = __ge__ = __add__
        __abs__ = __neg__

    def item(self) -> float:
        """The value as a Python number."""
        return self.value

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __repr__(self) -> str:
        label = f", name={self.name!r}" if self.name else ""
        return f"Scalar({self.value!r}{label})"


Scalar.kind = Scalar
