"""`Layer`: weights and a formula. Everything that a model is made of is one, models included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.autograd import Parameter, Tensor
from minitorch_ciml.autograd.tensor import FLOATS, as_array
from minitorch_ciml.keras import changes, dtype_policies
from minitorch_ciml.keras.layers.arguments import (
    bound_arguments,
    init_parameters,
    keras2_input_shape,
    shape_parameters,
)
from minitorch_ciml.keras.layers.contents import HoldsWeights
from minitorch_ciml.keras.layers.input_spec import InputSpec
from minitorch_ciml.keras.layers.of_modules import OF_MODULES
from minitorch_ciml.keras.layers.shapes import as_lists, as_shapes, shapes_of, symbolic
from minitorch_ciml.keras.layers.variable import Variable, name_scope
from minitorch_ciml.keras.masks import CarriesMasks, any_mask, mask_of, set_mask
from minitorch_ciml.keras.serialization import (
    get,
    plain_arguments,
    serialize_keras_object,
    snake_case,
)
from minitorch_ciml.keras.signatures import WholeSignature
from minitorch_ciml.keras.symbolic import (
    KerasTensor,
    Node,
    any_symbolic,
    infer_outputs,
    unique_name,
)
from minitorch_ciml.keras.tree import flatten, map_structure
from minitorch_ciml.kernels.halves import dtype_of
from minitorch_ciml.ops import cast

if TYPE_CHECKING:
    from typing_extensions import Self

# What `training` is for the layers called inside a layer, unless they are told otherwise.
_training: ContextVar[bool | None] = ContextVar("training", default=None)

# The number of the call that is running of a layer that no other layer calls; 0: there is none.
_outermost: ContextVar[int] = ContextVar("outermost", default=0)
_call_numbers = count(1)


def is_training() -> bool:
    """Whether the layers that are called here are being trained."""
    return bool(_training.get())


class Layer(HoldsWeights, CarriesMasks):
    """The base of all layers.

    A subclass keeps the arguments of `__init__` as attributes of the same names (`get_config` reads
    them), makes its weights in `build(input_shape)`, computes in `call(inputs)`, and may give
    `compute_output_shape(input_shape)`, which is otherwise found by running it.

    Args:
        activity_regularizer: a function of the output, added to the loss.
        trainable: whether its weights are trained.
        dtype: a dtype or policy, `floatx()` if left out.
        name: unique within a model; made from the class name if left out.
        input_shape: (without the batch) for the first layer of a `Sequential`, as Keras 2 has it.
    """

    __signature__ = WholeSignature()
    _init_args: inspect.BoundArguments
    _call_names: tuple[str, ...] = ("inputs",)  # the arguments of `call`
    _build_names: tuple[str, ...] = ()  # the arguments of `build` that are needed, or are shapes
    _takes_training = False  # whether one of them is `training`
    _makes_masks = False  # whether its `compute_mask` gives one also where none comes in
    acts_in_training = False  # whether it is another function then than in `predict`
    takes_text = False  # whether `call` takes strings
    _casts_outputs = True  # to the dtype that it computes in
    path: str | None = None  # its name after those of the layers around it, once it has weights

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        layer = super().__new__(cls)
        # As given: `get_config` falls back on them, for layers that keep no attribute.
        layer._init_args = bound_arguments(cls, layer, args, kwargs)
        return layer

    def __reduce__(self) -> tuple:  # a copy is made without arguments
        state = {name: value for name, value in self.__dict__.items() if name != "_found"}
        return object.__new__, (type(self),), state

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls._build_names = shape_parameters(cls.__dict__["build"])
            cls.build = _marks_built(cls.__dict__["build"])  # type: ignore[method-assign]
        cls._call_names = tuple(inspect.signature(cls.call).parameters)[1:]
        cls._takes_training = "training" in cls._call_names
        if "compute_mask" in cls.__dict__:
            cls._makes_masks = cls.__dict__.get("_makes_masks", True)
        if "compute_mask" in cls.__dict__ and "supports_masking" not in cls.__dict__:
            cls.supports_masking = True

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **old_arguments: Any,
    ):
        self.name = str(name) if name else unique_name(snake_case(type(self).__name__))
        if "/" in self.name:
            raise ValueError(f"name={self.name!r}: a name has no '/', which stands in paths.")
        self.activity_regularizer = get("keras.regularizers", activity_regularizer, "regularizer")
        self.dtype_policy = dtype_policies.get(dtype)
        self.autocast = autocast
        self.built = False
        self.input_spec: InputSpec | list | None = None
        self._trainable = bool(trainable)
        self._inbound_nodes: list[Node] = []
        self._added_losses: list = []
        self._loss_call = 0  # the outermost call that added them
        self._own_call = 0  # the last outermost call that was of this layer
        self._roles = {}
        self._build_shape: Any = None
        self._build_shapes: dict[str, Any] = {}  # where `build` takes several, by name
        self._first_input_shape = keras2_input_shape(self, old_arguments)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Only called for what is not there."""
            kind = type(self).__name__
            if "_inbound_nodes" not in self.__dict__:
                raise AttributeError(
                    f"{kind} has no {name!r}: its __init__ must first call super().__init__()."
                )
            if isinstance(getattr(type(self), name, None), property):
                return getattr(type(self), name).fget(self)  # raises again, with its message
            hint = OF_MODULES.get(name, "")
            raise AttributeError(f"{kind!r} object has no attribute {name!r}{hint}")

    # --- weights --------------------------------------------------------------------------------

    def build(self, input_shape: Any) -> None:
        """Makes the weights. A layer without weights has nothing to do here."""

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str | None = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:
        """A new weight.

        Args:
            shape: its shape; a number for one axis, () for a scalar.
            initializer: glorot_uniform for floats and zeros for integers if left out.
            dtype: that of the layer's policy if left out.
            trainable: whether the optimizer changes it.
            autocast: whether a mixed policy computes with a 16-bit copy of it.
            regularizer, constraint: of its values, if any.
            aggregation: accepted as in Keras, where TensorFlow's strategies ask for it.
            overwrite_with_gradient: of Keras' quantisation, which is not there: False.
            name: the last part of its `path`.
        """
        if overwrite_with_gradient:
            raise ValueError("add_weight: overwrite_with_gradient is of Keras' quantisation only.")
        if isinstance(shape, str):
            raise TypeError(f"add_weight: the shape comes first; write name={shape!r}.")
        shape = (shape,) if isinstance(shape, int) else tuple(shape or ())
        if None in shape:
            raise ValueError(
                f"add_weight: got shape {shape}, expected numbers only: a weight's sizes must be "
                "known; make it in build(self, input_shape)."
            )
        dtype = dtype or self.variable_dtype
        if initializer is None:
            initializer = "glorot_uniform" if dtype_of(dtype).kind in FLOATS else "zeros"
        with name_scope(self.name, self):
            weight = Variable(
                initializer,
                shape,
                dtype,
                trainable,
                name,
                get("keras.regularizers", regularizer, "regularizer"),
                get("keras.constraints", constraint, "constraint"),
            )
        weight.autocast = autocast
        weight.trainable = trainable and self._trainable
        self._roles[weight] = trainable
        changes.note()
        return weight

    @property
    def dtype(self) -> str:
        return self.dtype_policy.variable_dtype

    @property
    def compute_dtype(self) -> str:
        return self.dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        return self.dtype_policy.variable_dtype

    @property
    def input_dtype(self) -> str:
        """What floats that come in are cast to."""
        return self.dtype_policy.compute_dtype

    @property
    def quantization_mode(self) -> str | None:
        """None, or "int8" after `quantize`."""
        return self.dtype_policy.quantization_mode

    def quantize(self, mode: Any = None, config: Any = None, type_check: bool = True) -> None:
        """Refused, as by most layers; see `Dense`."""
        raise NotImplementedError(
            f"quantize: layer {self.name!r} ({type(self).__name__}) has no 8-bit form; only Dense, "
            "EinsumDense and Embedding have one."
        )

    # --- losses ---------------------------------------------------------------------------------

    def add_loss(self, loss: Any) -> None:
        """Adds a term to the loss of this step; to be called within `call`."""
        call = _outermost.get()
        if call and call != self._loss_call:  # what is there belongs to another call
            self._added_losses.clear()
        self._loss_call = call or self._own_call
        self._added_losses.extend(flatten(loss))

    @property
    def losses(self) -> list[Tensor]:
        """The terms that layers have added in the last call, and the weights' regularizers'."""
        inventory, last = self._inventory(), self._own_call
        terms = [t for layer in inventory.layers if layer._loss_call >= last
                 for t in layer._added_losses]  # fmt: skip
        return terms + [w.regularizer(w) for w in inventory.regularized if w.trainable]

    def _clear_losses(self) -> None:
        for layer in self._inventory().layers:
            if layer._added_losses:
                layer._added_losses.clear()

    # --- calling --------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's formula."""
        raise NotImplementedError(f"{type(self).__name__} must define call(self, inputs).")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _outermost.get():
            self._own_call = next(_call_numbers)
            before = _outermost.set(self._own_call)
            try:
                return self(*args, **kwargs)
            finally:
                _outermost.reset(before)
        if not args and kwargs.keys() & set(self._call_names[:1]):  # layer(inputs=x)
            args = (kwargs.pop(self._call_names[0]),)
        if not self._fit(args):
            if any_symbolic((args, kwargs)):
                return self._call_symbolically(args, kwargs)
            args = map_structure(self._convert, _with_array_first(args))
        if not self.built:
            return self._build_and_call(args, kwargs)
        if self.input_spec is not None:
            self._check_inputs(args)
        training = kwargs.pop("training", None)
        if training is None:
            training = _training.get()
        elif training != _training.get():
            token = _training.set(training)
            try:
                return self._run(args, kwargs, training)
            finally:
                _training.reset(token)
        return self._run(args, kwargs, training)

    def _fit(self, args: tuple) -> bool:
        """Whether the arguments can be computed with as they are; nearly always."""
        dtype = self.dtype_policy.arithmetic
        for x in args:
            for leaf in x if type(x) is list else (x,):
                if type(leaf) is not Tensor or leaf.value.dtype != dtype:
                    return False
        return bool(args)

    def _run(self, args: tuple, kwargs: dict, training: Any) -> Any:
        masked = self._makes_masks or any_mask(args, kwargs)
        mask = self._fill_in_masks(args, kwargs) if masked else None
        if self._takes_training and training is not None:
            kwargs["training"] = training
        if self.dtype_policy.mixed and self.autocast:
            with self._cast_weights():
                outputs = self.call(*args, **kwargs)
                if self._casts_outputs:
                    outputs = map_structure(self._convert, outputs)
        else:
            outputs = self.call(*args, **kwargs)
        if self.activity_regularizer is not None:
            for y in flatten(outputs):
                self.add_loss(self.activity_regularizer(y) / max(1, y.shape[0]))
        if masked:
            self._pass_mask_on(args[0], outputs, mask)
        return outputs

    @contextmanager
    def _cast_weights(self) -> Iterator[None]:
        """Within the block, this layer's own trained weights are in the dtype that it computes in.

        Gradients flow through the cast to the weights.
        """
        kept = {
            name: value
            for name, value in self.__dict__.items()
            if isinstance(value, Parameter) and value.value.dtype.kind in FLOATS
            and self._roles.get(value) and getattr(value, "autocast", True)
        }  # fmt: skip
        self.__dict__.update({name: cast(w, self.compute_dtype) for name, w in kept.items()})
        try:
            yield
        finally:
            self.__dict__.update(kept)

    def _convert(self, x: Any) -> Any:
        """Arrays become tensors, and floats take this layer's dtype."""
        if is_text(x):
            return self._text(x)
        if isinstance(x, (np.ndarray, np.generic)):
            x = Tensor(x)
        if isinstance(x, Tensor) and self.autocast and x.value.dtype.kind in FLOATS:
            if x.value.dtype != self.dtype_policy.arithmetic:
                mask = mask_of(x)
                x = cast(x, self.compute_dtype)
                set_mask(x, mask)
        return x

    def _text(self, x: Any) -> Tensor:
        """Texts as they are, for layers that take them."""
        if not self.takes_text:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) takes numbers, got texts; turn them "
                "into numbers first, with TextVectorization or StringLookup."
            )
        return x if isinstance(x, Tensor) else Tensor.constant(np.asarray(x, dtype=object))

    def _build_and_call(self, args: tuple, kwargs: dict) -> Any:
        """The first call: the layers inside may make their weights in `build` or in `call`."""
        with name_scope(self.name, self):
            self._build_for(args, kwargs)
            return self(*args, **kwargs)

    def _build_for(self, args: tuple, kwargs: dict) -> None:
        if self.input_spec is not None:
            self._check_inputs(args)
        if len(self._build_names) > 1:  # build(self, query_shape, value_shape), as in Keras
            given = {**dict(zip(self._call_names, args)), **kwargs}
            names = [name.removesuffix("_shape") for name in self._build_names]
            present = [name for name in names if given.get(name) is not None]
            self.build(**{f"{name}_shape": shapes_of(given[name]) for name in present})
        else:
            self.build(shapes_of(args[0]) if args else None)
        self.built = True

    def _check_inputs(self, args: tuple) -> None:
        if args and type(args[0]) is Tensor and isinstance(self.input_spec, InputSpec):  # as a rule
            self.input_spec.check(args[0].value.shape, self)
            return
        if not args:
            raise TypeError(
                f"layer {self.name!r} ({type(self).__name__}) was called without an input; write "
                "layer(x)."
            )
        inputs = flatten(args[0])
        specs = self.input_spec if isinstance(self.input_spec, list) else [self.input_spec]
        if len(inputs) != len(specs):
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) takes {len(specs)} inputs, "
                f"got {len(inputs)}."
            )
        for x, spec in zip(inputs, specs):
            if x is None and spec is not None and spec.optional:
                continue
            if not hasattr(x, "shape"):
                raise TypeError(
                    f"layer {self.name!r} ({type(self).__name__}) takes arrays or the results of "
                    f"layers, got {type(x).__name__}{_hint(x)}."
                )
            if spec is not None:
                spec.check(tuple(x.shape), self)

    def _call_symbolically(self, args: tuple, kwargs: dict) -> Any:
        """Records the call as a `Node` of the model that is being built."""
        if not self.built:
            return self._build_and_call(args, kwargs)
        if self.input_spec is not None:
            self._check_inputs(args)
        kwargs = {k: v for k, v in kwargs.items() if v is not None}
        outputs = self.compute_output_spec(*args, **kwargs)
        self._clear_losses()  # those of the zeros that told the shapes
        Node(self, args, kwargs, outputs)
        return outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The symbolic outputs for symbolic inputs."""
        if type(self).compute_output_shape is not Layer.compute_output_shape:
            shapes = map_structure(lambda x: x.shape, args[0])
            shape = self.compute_output_shape(shapes)
            if isinstance(shape, list) or (shape and isinstance(shape[0], (tuple, list))):
                return type(shape)(KerasTensor(s, self.compute_dtype) for s in shape)
            return KerasTensor(shape, self.compute_dtype)
        if self._takes_training:
            kwargs = {**kwargs, "training": False}
        return infer_outputs(self.call, args, kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output for an input of `input_shape`, None where unknown."""
        outputs = infer_outputs(self.__call__, (symbolic(as_shapes(input_shape)),), {})
        return map_structure(lambda y: y.shape, outputs)

    # --- in a model -----------------------------------------------------------------------------

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's first call in a model, or a list of them."""
        inputs = self._first_node().inputs
        return inputs[0] if len(inputs) == 1 else inputs

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's first call in a model, or a list of them."""
        outputs = flatten(self._first_node().outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _first_node(self) -> Node:
        if not self._inbound_nodes:
            raise AttributeError(
                f"layer {self.name!r} has no input or output yet: it has not been called on a "
                "model's input. Give the model's input shape (keras.Input) or call it on data."
            )
        return self._inbound_nodes[0]

    # --- configuration --------------------------------------------------------------------------

    def get_config(self) -> dict:
        """The arguments of `__init__`, from the attributes of the same names, as plain data."""
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self._trainable,
            "dtype": serialize_keras_object(self.dtype_policy),
        }
        for name, default in init_parameters(type(self)).items():
            if name not in config:
                given = self._init_args.arguments.get(name, default)
                config[name] = plain_arguments(getattr(self, name, given))
        if self.activity_regularizer is not None:  # also where it came by way of **kwargs
            config["activity_regularizer"] = plain_arguments(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict) -> Any:
        """A layer from the dictionary that `get_config` gave, or that a file of Keras holds."""
        known = {*init_parameters(cls), "name", "trainable", "dtype", "activity_regularizer"}
        # Keras also writes arguments that this layer does not have: switched off, they are ignored.
        used = {k: v for k, v in config.items() if k in known or v not in (None, False)}
        return super().from_config(used)

    def get_build_config(self) -> dict | None:
        """The input shape that `build` was called with."""
        if self._build_shapes:
            return {"shapes_dict": {k: as_lists(v) for k, v in self._build_shapes.items()}}
        return None if self._build_shape is None else {"input_shape": self._build_shape}

    def build_from_config(self, config: dict) -> None:
        """Builds the weights for the shapes that `get_build_config` gave."""
        if config.get("shapes_dict"):
            self.build(**{k: as_shapes(shape) for k, shape in config["shapes_dict"].items()})
        elif config.get("input_shape") is not None:
            self.build(as_shapes(config["input_shape"]))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


# --- helpers ------------------------------------------------------------------------------------


def is_text(x: Any) -> bool:
    """Whether it is an array or tensor of strings."""
    return isinstance(x, (np.ndarray, Tensor)) and x.dtype.kind in "OSU"


def _with_array_first(args: tuple) -> tuple:
    """The arguments, with an array in place of a first one that is nested lists of numbers."""
    first = args[0] if args else None
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    is_nested = args and isinstance(args[0], (list, tuple)) and isinstance(first, (int, float))
    return (as_array(args[0]), *args[1:]) if is_nested else args


def _hint(x: Any) -> str:
    return "; call it on its input first, as in Dense(10)(x)" if isinstance(x, Layer) else ""


def _marks_built(build: Callable) -> Callable:
    """`build` that also remembers its shape and marks the layer as built."""

    @wraps(build)
    def wrapper(self: Layer, *args: Any, **kwargs: Any) -> None:
        shape = args[0] if args else kwargs.get("input_shape")
        with name_scope(self.name, self):
            build(self, *args, **kwargs)
        self._build_shape = shape
        self._build_shapes = kwargs if len(self._build_names) > 1 else {}
        self.built = True

    return wrapper
