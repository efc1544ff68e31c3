"""`Tensor`: an array that remembers how it was computed; `Parameter`: one that can be assigned.

The functions of `minitorch_ciml.ops` that NumPy has as methods become methods here when `ops` is
imported (see `ops/methods.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.autograd.engine import Op, Variable, serials

_FLOAT64 = np.dtype("float64")
FLOATS = "fV"  # the kinds of float dtypes: bfloat16 has no kind of its own
_NO_INTEGERS = "fcV"
_HOST = (1, 0)  # the CPU, as DLPack calls it
_GPU = 2  # the kind of device that an NVIDIA GPU is, there
_HISTORY = ("grad", "serial", "record", "hooks", "__weakref__")


class Tensor(Variable):
    """An n-dimensional array in a graph.

    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.numpy()
    array([2., 4., 6.], dtype=float32)

    Tensors are immutable; only `Parameter.assign` changes a value.

    Args:
        data: numbers, nested lists of them, an array, or a tensor. An array keeps its dtype and is
            not copied; Python floats become `floatx()`.
        dtype: another dtype.
        requires_grad: whether gradients flow to it; floats only.
        name: for messages and pictures.
    """

    __slots__ = ("_keras_mask",)  # which steps count: the facade's layers set and read it

    # NumPy arrays on the left of an operator leave the work to Tensor.
    __array_priority__ = 1000
    __array_ufunc__ = None

    def __init__(
        self,
        data: Any,
        dtype: Any = None,
        requires_grad: bool = False,
        name: str | None = None,
    ):
        super().__init__(placed(data, dtype), requires_grad, name)
        if requires_grad and self.value.dtype.kind not in FLOATS:
            raise TypeError(
                f"Tensor: gradients need a float dtype, got {self.value.dtype}; pass "
                "dtype='float32' or requires_grad=False."
            )

    @classmethod
    def constant(cls, value: Any) -> Tensor:
        # Called for every result: written out, this takes a third of the time of __init__.
        tensor = cls.__new__(cls)
        tensor.value = np.asarray(value) if isinstance(value, np.generic) else value
        tensor.grad = tensor.record = tensor.hooks = tensor.name = None
        tensor.requires_grad = False
        tensor.serial = next(serials)
        return tensor

    @classmethod
    def lift(cls, x: Any, like: Sequence) -> Tensor:
        if isinstance(x, (bool, int, float)):
            # A Python number takes the float type of the tensors it is combined with.
            dtype = _weak_dtype(x, like)
            return cls.constant(kernels.constant(x, dtype, _device_among(like)))
        if isinstance(x, Variable):
            raise TypeError(
                f"a Tensor cannot be computed with a {type(x).__name__}; convert it with float()."
            )
        return cls.constant(kernels.place(as_array(x), _device_among(like)))

    @staticmethod
    def promote(values: list, mode: str) -> list:
        """Casts `values` to the dtype they are computed in.

        As NumPy promotes, but an integer never makes a float wider (int64 with float32 gives
        float32), and where floats are needed integers become `floatx()`.
        """
        if mode == "choice":
            return [values[0], *Tensor.promote(values[1:], "common")]
        first = values[0].dtype
        for v in values:
            if v.dtype is not first and v.dtype != first:
                break
        else:  # nearly always: all are alike
            if mode != "float" or first.kind in _NO_INTEGERS:
                return values
        dtype = promoted(*[v.dtype for v in values])
        if mode == "float" and dtype.kind not in _NO_INTEGERS:
            dtype = np.dtype(config.floatx())
        return [v if v.dtype == dtype else v.astype(dtype) for v in values]

    @staticmethod
    def unbroadcast(gradient: Variable, x: Variable) -> Variable:
        g, value = gradient.value, x.value
        if g.shape != value.shape:
            gradient = sum_to(gradient, shape=value.shape)
        if g.dtype is not value.dtype and g.dtype != value.dtype:
            gradient = cast(gradient, dtype=value.dtype)
        return gradient

    @staticmethod
    def unbroadcast_values(gradients: Sequence, inputs: Sequence[Variable], needs: tuple) -> list:
        fitted = []
        for g, x, need in zip(gradients, inputs, needs):
            if not need or g is None:
                g = None
            elif g.shape != x.value.shape or (
                g.dtype is not x.value.dtype and g.dtype != x.value.dtype
            ):
                g = Tensor.unbroadcast(Tensor.constant(g), x).value
            elif isinstance(g, np.generic):
                g = np.asarray(g)
            fitted.append(g)
        return fitted

    @staticmethod
    def plus(a: Any, b: Any) -> Any:
        return (Tensor.constant(a) + Tensor.constant(b)).value

    def ones_like(self) -> Tensor:
        one = Tensor.constant(kernels.constant(1, self.dtype, self.device))
        return broadcast_to(one, shape=self.shape) if self.shape else one

    # --- what it is -----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def device(self) -> str:
        """Where the values are: 'cpu' or 'cuda'."""
        return kernels.device_of(type(self.value))

    def to(self, device: str) -> Tensor:
        """The same values on another device; gradients flow back to this one."""
        return to(self, device=config.known_device(device))

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array: a read-only view, since tensors are immutable.

        From a GPU they are copied.
        """
        view = kernels.place(self.value, "cpu").view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises:
            ValueError: if there is another number of elements.
        """
        try:
            return self.value.item()
        except ValueError:
            raise ValueError(
                f"a Tensor of shape {self.shape} is not one number; index it, or reduce it "
                "(for example with .mean())."
            ) from None

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.value.tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy or (dtype is not None and np.dtype(dtype) != self.value.dtype):
            return self.numpy().astype(dtype or self.value.dtype)
        return self.numpy()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickle: all but the history."""
        names = [n for kind in type(self).__mro__ for n in getattr(kind, "__slots__", ())]
        return {n: getattr(self, n) for n in names if n not in _HISTORY and hasattr(self, n)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Variable.__init__(self, None)
        for name, value in state.items():
            setattr(self, name, value)

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """For `from_dlpack` of other libraries, with the array API's arguments.

        From the CPU they get a copy, since this tensor is immutable. From a GPU they get its own
        memory, read-only; a copy with `copy=True`, or if they know only DLPack before 1.0.

        Raises:
            BufferError: it cannot be had on `dl_device`, or not without a copy.
        """
        here = dl_device is None or tuple(dl_device) == self.__dlpack_device__()
        if self.device == "cuda" and here:
            return kernels.to_dlpack(self.value, stream, max_version, copy)
        if (not here and tuple(dl_device or ()) != _HOST) or copy is False:
            raise BufferError(
                f"__dlpack__: cannot give a tensor on {self.device!r} to device {dl_device} with "
                f"copy={copy}; use .to(...) first."
            )
        options: Any = {} if max_version is None else {"max_version": max_version}
        return kernels.to_host(self.value).copy().__dlpack__(**options)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """On a GPU: for CuPy (`cupy.asarray(x)`), PyTorch (`torch.as_tensor(x)`) and mpi4py."""
        if self.device != "cuda":
            raise AttributeError("the tensor is not on a GPU")
        return self.value.__cuda_array_interface__

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's numbers of the device: (1, 0) for the CPU, (2, n) for GPU n."""
        return kernels.dlpack_device() if self.device == "cuda" else _HOST

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self.numpy().__index__()

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self):
        return (self[i] for i in range(len(self.value)))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "tensors are immutable: change the NumPy array before it becomes a tensor, or make "
            "another tensor, such as with ops.where or ops.slice_update."
        )

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec and self.size == 1 else str(self), spec)

    def __repr__(self) -> str:
        text = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=100)
        label = f", name={self.name!r}" if self.name else ""
        if self.device != "cpu":
            label += f", device={self.device!r}"
        if self.requires_grad:
            label += ", requires_grad=True"
        return f"Tensor({text}, shape={self.shape}, dtype={self.dtype}{label})"

    if TYPE_CHECKING:  # what `ops/methods.py` and `arithmetic.py` install, for editors
        _keras_mask: Tensor | None
        grad: Tensor | None  # type: ignore[assignment]
        T: Tensor
        mT: Tensor

        def __getitem__(self, index: Any) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __hash__(self) -> int: ...

        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
        __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __mod__ = __rmod__ = __add__
        __floordiv__ = __rfloordiv__ = __and__ = __rand__ = __or__ = __ror__ = __add__
        __xor__ = __rxor__ = __lt__ = __le__ = __gt__ = __ge__ = __add__
        __abs__ = __invert__ = __neg__

        def abs(self) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def round(self, decimals: int = 0) -> Tensor: ...
        def clip(self, min: Any = None, max: Any = None) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def std(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def var(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def any(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def all(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def argsort(self, axis: int | None = -1) -> Tensor: ...
        def cumsum(self, axis: int | None = None, dtype: Any = None) -> Tensor: ...
        def cumprod(self, axis: int | None = None, dtype: Any = None) -> Tensor: ...
        def reshape(self, *newshape: Any) -> Tensor: ...
        def transpose(self, *axes: Any) -> Tensor: ...
        def flatten(self) -> Tensor: ...
        def ravel(self) -> Tensor: ...
        def squeeze(self, axis: Any = None) -> Tensor: ...
        def swapaxes(self, axis1: int, axis2: int) -> Tensor: ...
        def repeat(self, repeats: Any, axis: int | None = None) -> Tensor: ...
        def take(self, indices: Any, axis: int | None = None) -> Tensor: ...
        def nonzero(self) -> tuple[Tensor, ...]: ...
        def dot(self, x2: Any) -> Tensor: ...
        def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor: ...
        def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor: ...


Tensor.kind = Variable.kind = Tensor  # ops on plain arrays and numbers give tensors


class Parameter(Tensor):
    """A tensor that is trained: the one kind whose value can be assigned.

    Args:
        data: the initial value; copied.
        trainable: whether it requires a gradient.
        name: for messages and files.
        dtype: a dtype, `floatx()` for Python floats if left out.
    """

    __slots__ = ()

    def __init__(
        self, data: Any, trainable: bool = True, name: str | None = None, dtype: Any = None
    ):
        array = placed(data, dtype)
        array = np.array(array, order="C") if isinstance(array, np.ndarray) else array.copy()
        super().__init__(array, requires_grad=trainable and array.dtype.kind in FLOATS, name=name)

    @property
    def trainable(self) -> bool:
        return self.requires_grad

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.requires_grad = bool(value) and self.value.dtype.kind in FLOATS

    def assign(self, data: Any) -> Parameter:
        """Replaces the value, in place; the shape stays."""
        array = data.value if isinstance(data, Tensor) else as_array(data)
        if array.shape != self.shape:
            raise ValueError(
                f"assign: {self.name or 'the parameter'} has shape {self.shape}, the new value "
                f"{array.shape}; they must be equal."
            )
        before = _before.get()
        if before is not None:
            before.setdefault(self, self.value.copy())
        if isinstance(self.value, np.ndarray):
            self.value[...] = kernels.place(array, "cpu")
        else:
            self.value.assign(array.astype(self.dtype, copy=False))
        self.touch()
        return self

    def assign_add(self, data: Any) -> Parameter:
        """Adds to the value, in place."""
        with config.no_grad():
            return self.assign(self + data)

    def assign_sub(self, data: Any) -> Parameter:
        """Subtracts from the value, in place."""
        with config.no_grad():
            return self.assign(self - data)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"value": state["value"].copy()})

    def touch(self) -> None:
        """Marks the value as changed, so that backward through its earlier uses is refused."""
        self.serial = next(serials)

    def __repr__(self) -> str:
        return f"Parameter(name={self.name!r}, shape={self.shape}, dtype={self.dtype})"


# Where assignments are taken back: the parameters assigned to so far, and what they were.
_before: ContextVar[dict[Parameter, Any] | None] = ContextVar("before", default=None)


@contextmanager
def assignments_taken_back() -> Iterator[None]:
    """Within the block parameters can be assigned to; at its end they are what they were."""
    before: dict[Parameter, Any] = {}
    token = _before.set(before)
    try:
        yield
    finally:
        _before.reset(token)
        for parameter, value in before.items():
            parameter.assign(Tensor.constant(value))


# --- arrays and dtypes --------------------------------------------------------------------------


def as_tensor(x: Any) -> Tensor:
    """`x` itself if it is a tensor, otherwise a constant tensor on the current device."""
    return x if isinstance(x, Tensor) else Tensor.constant(placed(x))


def placed(data: Any, dtype: Any = None) -> Any:
    """`data` as an array on the current device; an array that is elsewhere stays there."""
    if isinstance(data, Tensor):
        data = data.value
    if kernels.device_of(type(data)) in ("cuda", "program"):
        return data if dtype is None else data.astype(dtype, copy=False)
    found = kernels.from_other_library(data)
    if found is not None:
        return found if dtype is None else found.astype(dtype, copy=False)
    array, device = as_array(data, dtype), config.get_device()
    return array if device == "cpu" else kernels.place(array, device)


def from_dlpack(x: Any, device: str | None = None, copy: bool | None = None) -> Tensor:
    """A tensor from an array of another library, such as PyTorch, CuPy or JAX, by DLPack.

    On the CPU it shares the array's memory, which must not change while the tensor is in use; from
    a GPU it is a copy, made there after what the other library has yet to do.

    Args:
        x: has `__dlpack__` and `__dlpack_device__`.
        device: 'cpu' or 'cuda'; where x is if left out.
        copy: True: copy in any case; False: never.

    Raises:
        TypeError: x does not know DLPack.
        BufferError: x is on another GPU than this process uses, or needs to be copied.
    """
    if isinstance(x, Tensor) and x.device == "cpu":
        x = x.value
    try:
        there = tuple(map(int, x.__dlpack_device__()))
    except AttributeError:
        raise TypeError(
            f"from_dlpack: expected an array with __dlpack__, got a {type(x).__name__}."
        ) from None
    on_host = there[0] != _GPU
    device = config.known_device(device or ("cpu" if on_host else "cuda"))
    if copy is False and not (on_host and device == "cpu"):
        raise BufferError("from_dlpack: tensors on a GPU are copies; leave out copy=False.")
    if device == "cuda" and there == kernels.dlpack_device():
        return Tensor.constant(kernels.from_dlpack(x))
    if not on_host:
        return Tensor.constant(kernels.place(kernels.from_dlpack(x), device))
    array = np.from_dlpack(x)
    return Tensor.constant(kernels.place(array.copy() if copy else array, device))


def as_array(data: Any, dtype: Any = None) -> np.ndarray:
    """`data` as a plain NumPy array; Python floats become `floatx()`, arrays keep their dtype."""
    if isinstance(data, Tensor):
        data = data.value
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    else:
        array = _from_sequence(data)
        if array.dtype == _FLOAT64 and dtype is None:
            array = array.astype(config.floatx())
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(
            f"Tensor: expected numbers, got {type(data).__name__} of dtype {array.dtype}."
        )
    if dtype is not None:
        array = array.astype(kernels.halves.dtype_of(dtype), copy=False)
    kernels.prepare_for(array.dtype)
    return array


def as_booleans(mask: Any) -> Any:
    """A mask as booleans where it lies: an array on the host, a constant tensor on a GPU."""
    if isinstance(mask, Tensor) and mask.device != "cpu":
        return cast(mask.detach(), dtype=np.dtype(bool))
    return np.asarray(mask).astype(bool)


def _from_sequence(data: Any) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ValueError(f"Tensor: the nested lists do not form an array ({error}).") from None


def promoted(*dtypes: np.dtype) -> np.dtype:
    """The common dtype: the widest of the floats if there are any, otherwise NumPy's."""
    floats = [d for d in dtypes if d.kind in FLOATS]
    return kernels.halves.promoted(*(floats or dtypes))


def _device_among(like: Sequence) -> str:
    """The device of the first tensor in `like`."""
    return next((x.device for x in like if isinstance(x, Tensor)), config.get_device())


def _weak_dtype(number: bool | int | float, like: Sequence) -> np.dtype:
    dtypes = [x.value.dtype for x in like if isinstance(x, Tensor)]
    if not dtypes:  # among plain numbers, as in expand_dims(3, 0)
        return as_array(number).dtype
    dtype = dtypes[0] if len(dtypes) == 1 else promoted(*dtypes)
    if dtype.kind in FLOATS or (isinstance(number, bool) and dtype.kind == "b"):
        return dtype
    if isinstance(number, float):
        return np.dtype(config.floatx())
    return np.dtype("int64") if dtype.kind == "b" else dtype


# --- the ops that move, stretch and convert values -------------------------------------------

sum_to: Op = Op(
    "sum_to",
    lambda g, y, x, shape: broadcast_to(g, shape=x.shape),
    doc="Sums x over the axes along which `shape` would be broadcast to it.",
)
broadcast_to: Op = Op(
    "broadcast_to",
    lambda g, y, x, shape: sum_to(g, shape=x.shape),
    doc="Repeats x along new axes and axes of size 1 until it has `shape`.",
)
cast: Op = Op(
    "cast",
    lambda g, y, x, dtype: cast(g, dtype=x.dtype),
    doc="y = x as `dtype`. No gradient flows through a cast to integers.",
)
to: Op = Op(
    "to",
    lambda g, y, x, device: to(g, device=x.device),
    doc="y = x, on `device`.",
)


def _stack_rule(g, y, *xs, needs, axis):
    front = (slice(None),) * (axis % y.ndim)
    return [g[(*front, i)] if need else None for i, need in enumerate(needs)]


stack = Op("stack", joint=_stack_rule, dtypes="common", doc="Joins along a new axis.")
