"""`Tensor` and `Parameter` themselves: from data and back, dtypes, operators, immutability."""

from __future__ import annotations

import copy
import operator
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minitorch_ciml import ops  # noqa: F401  (gives tensors their methods)
from minitorch_ciml.autograd import GraphError, Parameter, Scalar, Tensor
from minitorch_ciml.config import floatx, set_float32_matmul_precision, set_floatx


@pytest.fixture
def double():
    """float64 as the default, for one test."""
    before = floatx()
    set_floatx("float64")
    yield
    set_floatx(before)


# --- construction ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, dtype, shape",
    [
        (1.5, "float32", ()),
        (2, "int64", ()),
        (True, "bool", ()),
        ([1.0, 2], "float32", (2,)),
        ([[1, 2], [3, 4]], "int64", (2, 2)),
        ((1.0,), "float32", (1,)),
        ([], "float32", (0,)),
        (range(3), "int64", (3,)),
        ([True, False], "bool", (2,)),
        (np.float64(1.0), "float64", ()),
        (np.ones((2, 3)), "float64", (2, 3)),
        (np.ones(2, "float16"), "float16", (2,)),
        (np.ones(2, "uint8"), "uint8", (2,)),
        ([np.float32(1), np.float32(2)], "float32", (2,)),
        (Tensor([1.0]), "float32", (1,)),
        ([Tensor(1.0), Tensor(2.0)], "float32", (2,)),
        ([Tensor([1, 2]), Tensor([3, 4])], "int64", (2, 2)),
    ],
)
def test_construction(data, dtype, shape):
    x = Tensor(data)
    assert (x.dtype, x.shape, x.ndim, x.size) == (dtype, shape, len(shape), np.prod(shape))
    np.testing.assert_array_equal(x.numpy(), np.asarray(data))


def test_a_dtype_can_be_asked_for():
    assert Tensor([1, 2], dtype="float16").dtype == "float16"
    assert Tensor([1.7], dtype=int).tolist() == [1]


def test_an_array_is_not_copied():
    a = np.ones(3)
    assert np.shares_memory(Tensor(a).numpy(), a)


def test_python_floats_get_floatx(double):
    assert Tensor([1.0]).dtype == "float64"
    assert (Tensor([1, 2]) / 2).dtype == "float64"
    assert (Tensor([1, 2]) * 0.5).dtype == "float64"


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Tensor("abc"), TypeError, "expected numbers, got str of dtype <U3"),
        (lambda: Tensor([1j]), TypeError, "expected numbers, got list of dtype complex128"),
        (lambda: Tensor(None), TypeError, "expected numbers, got NoneType of dtype object"),
        (lambda: Tensor([[1], [2, 3]]), ValueError, "the nested lists do not form an array"),
        (lambda: Tensor([1, 2], requires_grad=True), TypeError, "need a float dtype, got int64"),
        (lambda: set_floatx("int32"), ValueError, "got 'int32', expected one of float16, bfloat16"),
        (lambda: set_float32_matmul_precision("tf32"), ValueError, "got 'tf32', expected one of"),
        (lambda: Tensor(1.0) + Scalar(1.0), TypeError, "convert it with float"),
    ],
)
def test_errors_say_what_was_given(make, error, message):
    with pytest.raises(error, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


# --- dtypes ---------------------------------------------------------------------------------------

F16, F32, F64 = (np.ones(1, f"float{n}") for n in (16, 32, 64))
I32, I64, U8, BOOL = (np.ones(1, t) for t in ("int32", "int64", "uint8", "bool"))


@pytest.mark.parametrize(
    "a, b, dtype",
    [
        (F32, F32, "float32"),
        (F32, F64, "float64"),
        (F16, F32, "float32"),
        (I64, F32, "float32"),
        (I64, F16, "float16"),
        (I32, I64, "int64"),
        (U8, I32, "int32"),
        (BOOL, F32, "float32"),
        (BOOL, I32, "int32"),
        # Python's numbers take the dtype of the tensor, or floatx where it is not a float.
        (F16, 2, "float16"),
        (F16, 2.5, "float16"),
        (F64, 2.5, "float64"),
        (I32, 2, "int32"),
        (I32, 2.5, "float32"),
        (I64, True, "int64"),
        (BOOL, 2, "int64"),
        (BOOL, 2.5, "float32"),
    ],
)
def test_promotion(a, b, dtype):
    for x, y in ((Tensor(a), b), (Tensor(a), Tensor(b) if isinstance(b, np.ndarray) else b)):
        assert (x * y).dtype == dtype
        assert (y * x).dtype == dtype


@pytest.mark.parametrize(
    "a, b, dtype",
    [(I64, I64, "float32"), (I64, F64, "float64"), (I64, F16, "float16"), (BOOL, 2, "float32")],
)
def test_division_gives_floats(a, b, dtype):
    assert (Tensor(a) / b).dtype == dtype


def test_gradients_have_their_tensors_dtype():
    x = Tensor([1.0], requires_grad=True)
    y = Tensor([2.0], dtype="float64", requires_grad=True)
    (x * y).sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == ("float32", "float64")


# --- out again ------------------------------------------------------------------------------------


def test_conversions():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.asarray(x) is not x and np.asarray(x).dtype == "float32"
    assert np.array(x, dtype="float64").dtype == "float64"
    assert np.array(x).flags.writeable
    assert np.stack([x, x]).shape == (2, 2, 2)
    assert x.tolist() == [[1, 2], [3, 4]]
    assert [row.tolist() for row in x] == x.tolist()
    assert len(x) == 2
    first, second = x
    assert isinstance(second, Tensor)


def test_one_element_is_a_number():
    assert Tensor([[2.5]]).item() == float(Tensor([[2.5]])) == 2.5
    assert int(Tensor(3.7)) == 3
    assert [10, 20, 30][Tensor(1)] == 20
    assert bool(Tensor([0.5])) and not Tensor(False)
    assert list(range(Tensor(3))) == [0, 1, 2]


def test_what_is_no_number():
    with pytest.raises(ValueError, match="is not one number; index it, or reduce it"):
        float(Tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="only integer scalar arrays"):
        operator.index(Tensor(1.0))
    with pytest.raises(TypeError, match="len"):
        len(Tensor(1.0))


def test_repr_is_short_and_complete():
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.], shape=(2,), dtype=float32)"
    x = Tensor(1, name="n")
    assert repr(x) == "Tensor(1, shape=(), dtype=int64, name='n')"
    assert repr(Tensor(1.0, requires_grad=True)).endswith("dtype=float32, requires_grad=True)")
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 500
    assert repr(Parameter([1.0], name="w")) == "Parameter(name='w', shape=(1,), dtype=float32)"


def test_dlpack():
    torch = pytest.importorskip("torch")
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    y = torch.from_dlpack(x)
    assert y.tolist() == x.tolist()
    y += 1  # a copy: tensors are immutable
    assert x.tolist() == [[1, 2], [3, 4]]
    assert np.from_dlpack(x.T).tolist() == x.T.tolist()
    assert x.__dlpack_device__() == (1, 0)


# --- operators ------------------------------------------------------------------------------------

ARITHMETIC = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
SMALL = arrays("float64", 3, elements=st.sampled_from([0.5, 1.0, 2.0, 3.0]))


@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("name", [*ARITHMETIC, *COMPARISONS])
@given(a=SMALL, b=SMALL)
def test_operators(name, a, b):
    op = getattr(operator, name)
    for x, y in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b)), (Tensor(a), b.tolist())):
        z = op(x, y)
        assert isinstance(z, Tensor)  # also with the NumPy array on the left
        np.testing.assert_allclose(z.numpy(), op(a, b), rtol=1e-6)
    np.testing.assert_allclose(op(2.0, Tensor(b)).numpy(), op(2.0, b))


def test_operators_on_integers_and_bools():
    a, b = np.array([6, 3]), np.array([4, 1])
    p, q = a > 5, b < 5
    for op in (operator.and_, operator.or_, operator.xor):
        for left, right in ((a, b), (p, q)):
            assert op(Tensor(left), Tensor(right)).tolist() == op(left, right).tolist()
            assert op(left, Tensor(right)).tolist() == op(left, right).tolist()
    assert (~Tensor(p)).tolist() == (~p).tolist()
    assert (~Tensor(a)).tolist() == (~a).tolist()
    assert (-Tensor(a)).tolist() == [-6, -3]
    assert abs(-Tensor(a)).tolist() == [6, 3]


def test_a_numpy_number_on_the_left():
    y = np.float64(2.0) * Tensor([1.0], requires_grad=True)
    assert isinstance(y, Tensor) and y.requires_grad


def test_augmented_assignment_makes_a_new_tensor():
    x = y = Tensor([1.0])
    x += 1
    assert (x.tolist(), y.tolist()) == ([2], [1])


# --- methods --------------------------------------------------------------------------------------

MATRIX = np.array([[3.0, -1.0, 2.0], [0.5, 4.0, 1.0]])


@pytest.mark.parametrize(
    "call",
    [
        *[
            lambda x, name=name: getattr(x, name)()
            for name in """sum mean std var prod max min argmax argmin cumsum cumprod flatten ravel
            squeeze transpose argsort trace any all diagonal""".split()
        ],
        *[
            lambda x, name=name: getattr(x, name)(axis=1)
            for name in """sum mean std var prod max min argmax argmin cumsum cumprod any all
            argsort""".split()
        ],
        *[
            lambda x, name=name: getattr(x, name)(axis=0, keepdims=True)
            for name in "sum mean std var prod max min any all argmax".split()
        ],
        lambda x: x.sum(1),
        lambda x: x.sum((0, 1)),
        lambda x: x.reshape(3, 2),
        lambda x: x.reshape((3, 2)),
        lambda x: x.reshape([-1, 2]),
        lambda x: x.reshape(-1),
        lambda x: x.T,
        lambda x: x.mT,
        lambda x: x.transpose(1, 0),
        lambda x: x.transpose((1, 0)),
        lambda x: x.transpose(None),
        lambda x: x.swapaxes(0, 1),
        lambda x: x.reshape(1, 2, 3).squeeze(0),
        lambda x: x.astype("int32"),
        lambda x: x.astype(bool),
        lambda x: x.clip(0, 2),
        lambda x: x.clip(min=0),
        lambda x: x.clip(max=2),
        lambda x: x.astype(int).clip(1),
        lambda x: x.astype(int).clip(max=1),
        lambda x: x.round(),
        lambda x: x.round(1),
        lambda x: x.dot(x.T),
        lambda x: x.repeat(2),
        lambda x: x.repeat(2, axis=0),
        lambda x: x.take([1, 0]),
        lambda x: x.take([1, 0], axis=1),
        lambda x: x.nonzero()[0],
    ],
)
def test_methods_are_numpys(call):
    ours, numpys = call(Tensor(MATRIX)), call(MATRIX)
    np.testing.assert_allclose(ours.numpy(), numpys, rtol=1e-12)
    assert ours.shape == numpys.shape


def test_methods_that_arrays_do_not_have():
    x = Tensor(MATRIX)
    for name in ("exp", "abs"):
        np.testing.assert_allclose(getattr(x, name)().numpy(), getattr(np, name)(MATRIX))
    for name in ("log", "sqrt"):
        np.testing.assert_allclose(getattr(x * x, name)().numpy(), getattr(np, name)(MATRIX**2))


def test_unknown_attributes_are_errors():
    with pytest.raises(AttributeError, match="no attribute 'summ'"):
        Tensor(1.0).summ()


# --- immutability, copies, parameters -------------------------------------------------------------


def test_tensors_are_immutable():
    x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x)[0] = 5
    with pytest.raises(TypeError, match="tensors are immutable"):
        x[0] = 5


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_have_no_history(duplicate):
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    y = duplicate(x * 2)
    assert y.tolist() == [2, 4] and y.is_leaf and y.requires_grad
    assert duplicate(x).name == "x"
    p = Parameter([1.0], trainable=False, name="p")
    q = duplicate(p)
    assert type(q) is Parameter and (q.name, q.trainable) == ("p", False)
    assert q.serial > p.serial
    q.assign([5.0])
    assert p.tolist() == [1]


class Weight(Parameter):
    __slots__ = ("path",)

    def __init__(self, shape, path):
        super().__init__(np.zeros(shape))
        self.path = path


def test_copies_of_other_kinds_of_parameters():
    w = pickle.loads(pickle.dumps(Weight((2,), "a/b")))
    assert type(w) is Weight and w.path == "a/b" and w.shape == (2,)


def test_parameters_own_their_values():
    a = np.ones(3, "float32")
    p = Parameter(a)
    p.assign([1, 2, 3])
    assert a.tolist() == [1, 1, 1] and p.tolist() == [1, 2, 3] and p.dtype == "float32"
    p.assign_add(1).assign_sub([1.0, 0.0, 0.0])
    assert p.tolist() == [1, 3, 4]
    with pytest.raises(ValueError, match=r"assign: w has shape \(2,\), the new value \(3,\)"):
        Parameter([1.0, 2.0], name="w").assign([1, 2, 3])


def test_trainable_is_requires_grad():
    p = Parameter([1.0])
    assert p.trainable and p.requires_grad
    p.trainable = False
    assert not p.requires_grad
    counter = Parameter([1])
    counter.trainable = True
    assert not counter.requires_grad  # integers have no gradients


def test_backward_through_an_assigned_parameter_is_refused():
    p = Parameter([1.0], name="w")
    loss = (p * p).sum()
    p.assign([2.0])
    with pytest.raises(GraphError, match="'w'.*was assigned a new value after 'multiply' used it"):
        loss.backward()
    (p * p).sum().backward()
    assert p.grad.tolist() == [4]


def test_detach_and_zero_grad():
    x = Tensor([2.0], requires_grad=True)
    (x.detach() * x).sum().backward()
    assert x.grad.tolist() == [2]
    x.zero_grad()
    assert x.grad is None


def test_import_is_light():
    """No numba, no plots: these wait until they are needed."""
    code = (
        "import sys, minitorch_ciml.ops; "
        "print([m for m in ('numba', 'matplotlib', 'h5py', 'scipy', 'rich') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "[]", printed.stderr


def test_every_op_takes_float16():
    """In a process of its own, and without the package that knows bfloat16."""
    code = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np
from minitorch_ciml import Tensor
from minitorch_ciml.keras import ops
x = np.linspace(-2, 2, 6)
for name in ("sigmoid", "softplus", "silu", "gelu", "erf", "mish", "elu", "softmax", "sum"):
    op = getattr(ops, name)
    for half in (Tensor(x, dtype="float16"), ops.cast(x, "float16"), Tensor(x.astype("float16"))):
        y = op(half)
        assert y.dtype == np.float16, (name, y.dtype)
        np.testing.assert_allclose(y.numpy(), op(x).numpy(), rtol=2e-3, atol=2e-3)
w = Tensor(x, dtype="float16", requires_grad=True)
ops.sum(ops.gelu(w)).backward()
assert w.grad.dtype == np.float16
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numpys_elementwise_functions_give_tensors():
    x = Tensor([1.0, -2.0, 3.0], requires_grad=True)
    array = np.array([1.0, 2.0, 3.0], "float32")
    for function in (np.abs, np.exp, np.square, np.tanh, np.sign, np.negative, np.isnan, np.floor):
        np.testing.assert_allclose(np.asarray(function(x)), function(x.numpy()), rtol=1e-6)
    for function in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.arctan2, np.less,
                     np.greater_equal, np.equal, np.matmul, np.remainder):  # fmt: skip
        for a, b in ((x, array), (array, x), (x, 2.0), (np.float64(2), x)):
            if function is np.matmul and np.ndim(a) != np.ndim(b):
                continue
            y = function(a, b)
            expected = function(np.asarray(a, "float32"), np.asarray(b, "float32"))
            assert isinstance(y, Tensor) and y.dtype == expected.dtype
            np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
    np.sqrt(np.mean(np.square(x - array))).backward()
    assert np.abs(x.grad.numpy()).max() > 0


def test_arrays_beside_tensors_make_tensors():
    x, array = Tensor([1.0, 2.0], requires_grad=True), np.ones(2, "float32")
    for y in (array + x, array - x, array * x, array / x, array**x, array @ x, array < x):
        assert isinstance(y, Tensor)
    total = array
    total += x
    assert isinstance(total, Tensor) and total.requires_grad and (array == 1).all()
    for misused in (lambda: np.add.reduce(x), lambda: np.frexp(x),
                    lambda: np.add(array, x, out=np.zeros(2, "float32"))):  # fmt: skip
        with pytest.raises(TypeError, match=r"does not take tensors in this way; pass x.numpy\(\)"):
            misused()
