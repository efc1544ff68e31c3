"""`KerasTensor`: a tensor that is not there yet. Calling a layer on one builds a model's graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.autograd.tensor import assignments_taken_back
from minitorch_ciml.config import no_grad
from minitorch_ciml.keras.tree import flatten, map_structure
from minitorch_ciml.kernels.halves import dtype_of

_counters: dict[str, int] = {}


def unique_name(prefix: str) -> str:
    """`prefix`, then `prefix_1`, `prefix_2`, ...: the names of unnamed layers."""
    n = _counters.get(prefix, 0)
    _counters[prefix] = n + 1
    return prefix if n == 0 else f"{prefix}_{n}"


def clear_session(free_memory: bool = True) -> None:
    """Starts the numbering of unnamed layers again; `free_memory` is accepted as in Keras."""
    _counters.clear()


class KerasTensor:
    """A symbolic tensor: shape (None where it is not known yet), dtype, and the call that makes it.

    Attributes:
        node: the `Node` of the layer call that it is a result of.
        index: which of the call's results it is.
        sparse, ragged: False, as all tensors are dense here.
    """

    sparse = ragged = False

    __array_priority__ = 2000  # arrays and tensors on the left leave operators to this class

    def __init__(
        self,
        shape: tuple,
        dtype: str = "float32",
        sparse: bool = False,
        ragged: bool = False,
        name: str | None = None,
    ):
        if sparse or ragged:
            raise ValueError("KerasTensor: there are no sparse or ragged tensors here.")
        self.shape = tuple(None if n is None else int(n) for n in shape)
        self.dtype = dtype if dtype == "string" else dtype_of(dtype).name
        self.name = name or unique_name("keras_tensor")
        self.node: Node | None = None
        self.index = 0

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __keras_tensor__(self) -> dict:
        """This tensor in a saved model: which call of which layer gives it."""
        layer, position = self.node.layer, self.node.position  # type: ignore[union-attr]
        return {
            "class_name": "__keras_tensor__",
            "config": {
                "shape": list(self.shape),
                "dtype": self.dtype,
                "keras_history": [layer.name, position, self.index],
            },
        }

    def __repr__(self) -> str:
        kind = f"shape={self.shape}, dtype={self.dtype}, sparse=False, ragged=False"
        return f"<KerasTensor {kind}, name={self.name}>"

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no value yet: it cannot decide an `if`; use ops.where.")

    def __iter__(self) -> Iterator:
        raise TypeError(f"{self!r} has no values yet, so it cannot be iterated over.")

    def __len__(self) -> int:
        raise TypeError(f"{self!r} has no values yet, so it has no length; its shape is .shape.")

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise self._no_values("cannot become a NumPy array")

    def __float__(self) -> float:
        raise self._no_values("is no float")

    def __int__(self) -> int:
        raise self._no_values("is no int")

    def _no_values(self, what: str) -> ValueError:
        return ValueError(
            f"{self!r} has no values yet, so it {what}: compute with keras.ops, or in the call of "
            "a layer of your own; data that pass through the model give values."
        )

    def __array_ufunc__(self, function: np.ufunc, how: str, *inputs: Any, **options: Any) -> Any:
        """What `array + x` gives; NumPy's other elementwise functions are refused."""
        name = _OF_NUMPY.get(function.__name__)
        array_first = isinstance(inputs[0], (np.ndarray, np.generic))
        if name and how == "__call__" and not options and array_first:
            return symbolic_call(name, *inputs)
        raise self._not_for_numpy(function.__name__)

    def __array_function__(self, function: Callable, *_: Any) -> None:
        raise self._not_for_numpy(function.__name__)

    def _not_for_numpy(self, name: str) -> ValueError:
        return ValueError(
            f"np.{name} computes with values, which {self!r} does not have yet: take keras.ops"
            f"{'.' + name if name in _functions() else ''}, or a layer of your own."
        )

    def __getitem__(self, index: Any) -> Any:
        return symbolic_call("get_item", self, index)

    def reshape(self, newshape: Any) -> Any:
        """`ops.reshape` of this tensor."""
        return symbolic_call("reshape", self, newshape)

    def squeeze(self, axis: Any = None) -> Any:
        """`ops.squeeze` of this tensor."""
        return symbolic_call("squeeze", self, axis)

    def __round__(self, ndigits: int | None = None) -> Any:
        return symbolic_call("round", self, ndigits or 0)


def _operator(name: str, reflected: bool) -> Callable:
    def method(self: KerasTensor, *others: Any) -> Any:
        args = (*others, self) if reflected else (self, *others)
        return symbolic_call(name, *args)

    return method


for _symbol, _name in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "pow": "power",
    "matmul": "matmul", "floordiv": "floor_divide", "mod": "mod", "and": "logical_and",
    "or": "logical_or", "xor": "logical_xor",
}.items():  # fmt: skip
    setattr(KerasTensor, f"__{_symbol}__", _operator(_name, reflected=False))
    setattr(KerasTensor, f"__r{_symbol}__", _operator(_name, reflected=True))
# No "eq": as in Keras, == asks whether it is the same tensor.
for _symbol, _name in {
    "neg": "negative", "abs": "absolute", "ne": "not_equal", "lt": "less", "le": "less_equal",
    "gt": "greater", "ge": "greater_equal", "invert": "logical_not",
}.items():  # fmt: skip
    setattr(KerasTensor, f"__{_symbol}__", _operator(_name, reflected=False))

# The operators of an array to the left of a KerasTensor, by what NumPy calls them.
_OF_NUMPY = {
    "add": "add", "subtract": "subtract", "multiply": "multiply", "divide": "true_divide",
    "power": "power", "matmul": "matmul", "floor_divide": "floor_divide", "remainder": "mod",
    "bitwise_and": "logical_and", "bitwise_or": "logical_or", "bitwise_xor": "logical_xor",
    "not_equal": "not_equal", "less": "less", "less_equal": "less_equal", "greater": "greater",
    "greater_equal": "greater_equal",
}  # fmt: skip


def _functions() -> Any:
    """The functions of `keras.ops` by name."""
    from minitorch_ciml.keras.ops.table import FUNCTIONS

    return FUNCTIONS


def symbolic_call(name: str, *args: Any, **kwargs: Any) -> Any:
    """The function `ops.<name>` as a layer of the model that is being built."""
    from minitorch_ciml.keras.layers.function import apply

    return apply(name, *args, **kwargs)


def any_symbolic(structure: Any) -> bool:
    """Whether a KerasTensor is among the leaves."""
    return any(isinstance(x, KerasTensor) for x in flatten(structure))


class Node:
    """One call of a layer while a model is built: `outputs = layer(*args, **kwargs)`."""

    def __init__(self, layer: Any, args: tuple, kwargs: dict, outputs: Any):
        self.layer = layer
        self.args = args
        self.kwargs = kwargs
        self.outputs = outputs
        self.position = len(layer._inbound_nodes)
        layer._inbound_nodes.append(self)
        for index, y in enumerate(flatten(outputs)):
            y.node, y.index = self, index

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic tensors among the arguments."""
        return [x for x in flatten((self.args, self.kwargs)) if isinstance(x, KerasTensor)]


@contextmanager
def metrics_kept(function: Callable) -> Iterator[None]:
    """At the end of the block, the metrics of the layer whose method it is are what they were."""
    layer = getattr(function, "__self__", function)
    variables = getattr(layer, "metrics_variables", ())
    values = [variable.value.copy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values):
            variable.assign(value)


def _regular(shape: list[int], dtype: str) -> np.ndarray:
    """Numbers of which any square matrix is positive definite, and no two are alike."""
    rows, columns = shape[-2:] if len(shape) > 1 else (1, 1)
    numbers = np.random.default_rng(0).uniform(size=shape)
    return (numbers + max(rows, columns) * np.eye(rows, columns)).astype(dtype)


def counting(shape: list[int], dtype: str) -> np.ndarray:
    """0, 1, 2, 3, 4, 0, 1, ..."""
    return (np.arange(math.prod(shape)) % 5).reshape(shape).astype(dtype)


# In place of unknown sizes other than the batch's: enough for windows, and for strides in a row.
_LARGE = 32, 48


def infer_outputs(
    function: Callable, args: tuple, kwargs: dict, second: Callable = np.zeros
) -> Any:
    """What `function` gives on symbolic arguments, found by running it on zeros.

    It runs twice, with 2 and with 3 in place of every unknown size; sizes of the results that
    differ between the two are unknown themselves. Where more than the size of the batch is unknown,
    it runs once more, with large sizes: of 2 and 3, strides may make the same. (Larger ones than it
    can take tell nothing.) Where 2 is too small, as for a window, only large ones are taken.

    Args:
        second: makes the numbers of the second run. Others than zeros show which sizes depend on
            the numbers.
    """

    def run(batch: int, size: int, make: Callable) -> list:
        def stand_in(x: Any) -> Any:
            if not isinstance(x, KerasTensor):
                return x
            sizes = [batch, *[size] * len(x.shape)]
            shape = [unknown if n is None else n for n, unknown in zip(x.shape, sizes)]
            return Tensor(make(shape, x.dtype))

        # Zeros are no data: dividing by them means nothing here, nor what is counted of them.
        with no_grad(), np.errstate(all="ignore"), metrics_kept(function), assignments_taken_back():
            return function(*map_structure(stand_in, args), **map_structure(stand_in, kwargs))

    given = [x for x in flatten((args, kwargs)) if isinstance(x, KerasTensor)]
    only_the_batch = not any(None in x.shape[1:] for x in given)
    try:
        runs = [run(2, 2, np.zeros), run(3, 3, second)]
    except np.linalg.LinAlgError:  # what takes no matrix of zeros
        runs = [run(2, 2, _regular), run(3, 3, _regular)]
    except (ValueError, IndexError) as error:
        if only_the_batch:
            raise
        try:
            runs = [run(batch, size, np.zeros) for batch, size in zip((2, 3), _LARGE)]
        except (ValueError, IndexError):
            raise error from None
    else:
        if not only_the_batch:
            with suppress(ValueError, IndexError):
                runs.append(run(2, _LARGE[1], np.zeros))
    shapes = zip(*([y.shape for y in flatten(result)] for result in runs))

    def describe(y: Any) -> KerasTensor:
        sizes = zip(*next(shapes))
        return KerasTensor(tuple(n[0] if len(set(n)) == 1 else None for n in sizes), y.dtype)

    return map_structure(describe, runs[0])
