"""`Model`: a layer that can be trained, summarised and saved."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from typing import TYPE_CHECKING, Any

from minitorch_ciml import distributed
from minitorch_ciml.keras.layers.function import Function
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.layers.quantized import Quantized
from minitorch_ciml.keras.layers.shapes import any_batch, as_shapes, symbolic
from minitorch_ciml.keras.masks import set_mask
from minitorch_ciml.keras.models.graph import LayerGraph
from minitorch_ciml.keras.models.state import StateTree
from minitorch_ciml.keras.models.trainer import Trainer
from minitorch_ciml.keras.quantizers import config_of
from minitorch_ciml.keras.serialization import (
    custom_object_scope,
    serializable,
    serialize_keras_object,
)
from minitorch_ciml.keras.symbolic import KerasTensor, infer_outputs
from minitorch_ciml.keras.tree import flatten, map_structure

if TYPE_CHECKING:
    from typing_extensions import Self


@serializable("keras")
class Model(StateTree, Trainer, Layer):
    """A graph of layers from inputs to outputs, or a subclass with a `call` of its own.

        inputs = keras.Input((28, 28, 1))
        x = keras.layers.Flatten()(inputs)
        outputs = keras.layers.Dense(10, activation="softmax")(x)
        model = keras.Model(inputs, outputs)

    Args:
        inputs: one KerasTensor, or a list or dictionary of them.
        outputs: likewise. Any tensor between the inputs and the end of a model may be an output.
        name: made from the class name if left out.
    """

    _makes_masks = False  # the layers inside do
    _casts_outputs = False  # the last layer's dtype is the model's: a softmax may be in float32

    takes_text = True  # its first layer may

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if cls is Model and (args or "inputs" in kwargs):
            cls = Functional  # type: ignore[assignment]
        return super().__new__(cls, *args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for loop in ("train", "test", "predict"):
            if f"make_{loop}_function" in cls.__dict__:
                raise NotImplementedError(
                    f"{cls.__name__}: make_{loop}_function is never called here; define "
                    f"{loop}_step(self, data)."
                )

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kw: Any):
        super().__init__(name=name, **kw)
        self._graph: LayerGraph | None = None
        if inputs is None and outputs is None:
            return
        if outputs is None or inputs is None:
            raise ValueError("Model: give both, inputs and outputs.")
        self._graph = LayerGraph(inputs, outputs)
        self.inputs, self.outputs = flatten(inputs), flatten(outputs)
        self._graph_layers = self._graph.layers
        self._build_shape = map_structure(lambda t: t.shape, inputs)
        self.built = True

    @property
    def layers(self) -> list[Layer]:
        """The layers of the model, in order; as in Keras without functions, such as x + 1."""
        if self._graph is None:
            return self._parts()[0]
        return [layer for layer in self._graph_layers if not isinstance(layer, Function)]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name, or at that index."""
        if (name is None) == (index is None):
            raise ValueError("get_layer: give either a name or an index.")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(
                    f"get_layer: there is no layer {index}; {self.name!r} has {len(self.layers)}."
                )
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"get_layer: {self.name!r} has no layer {name!r}; it has: "
            f"{', '.join(layer.name for layer in self.layers)}."
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if self._graph is None:
            raise NotImplementedError(f"{type(self).__name__} must define call(self, inputs).")
        set_mask(inputs, mask)
        return self._graph(inputs, one_by_one=self.run_eagerly)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the layers inside have given the outputs their masks."""
        return None

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights of a subclass with a `call` of its own, by running it on zeros.

        Args:
            input_shape: with the batch, such as (None, 784); a list of shapes for several inputs.
        """
        if self._graph is None and input_shape is not None:
            self.built = True  # the call shall not build again, which may end here
            try:
                infer_outputs(self, (symbolic(as_shapes(input_shape)),), {})
            except BaseException:
                self.built = False
                raise
            self._clear_losses()
            for layer in self._inventory().layers:  # they have seen batches of that trial only
                layer._build_shape = any_batch(layer._build_shape)

    def _build_for(self, args: tuple, kwargs: dict) -> None:
        if type(self).build is not Model.build:
            super()._build_for(args, kwargs)
        else:  # the call that follows makes the weights
            self._build_shape = map_structure(lambda x: getattr(x, "shape", None), args[0])
            self.built = True

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if self._graph is None:
            return super().compute_output_spec(*args, **kwargs)
        if all(_same_rank(a, b) for a, b in zip(flatten(args[0]), self.inputs)):
            known = map_structure(lambda t: t.shape[1:], self.outputs)
            if all(a.shape[1:] == b.shape[1:] for a, b in zip(flatten(args[0]), self.inputs)):
                batch = flatten(args[0])[0].shape[0]
                fresh = [KerasTensor((batch, *s), t.dtype) for s, t in zip(known, self.outputs)]
                return self._graph.pack_outputs(fresh)
        return super().compute_output_spec(*args, **kwargs)

    @property
    def input(self) -> Any:
        """The symbolic input, or the structure of them."""
        return self._graph.inputs if self._graph is not None else super().input

    @property
    def output(self) -> Any:
        """The symbolic output, or the structure of them."""
        return self._graph.outputs if self._graph is not None else super().output

    @property
    def input_shape(self) -> Any:
        """The shape of the input, or a list of them."""
        return _shape_or_shapes(self.input)

    @property
    def output_shape(self) -> Any:
        """The shape of the output, or a list of them."""
        return _shape_or_shapes(self.output)

    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Any = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
    ) -> None:
        """Prints the layers with their output shapes and numbers of parameters.

        Args:
            line_length: the width of the table; that of the terminal if left out, at most 120.
            positions: the right edges of the columns, as shares of the width.
            print_fn: gets the text in place of `print`.
            expand_nested: also list the layers in layers.
            show_trainable: also tell which layers are trained.
            layer_range: (first, last): names, or patterns for them, of the layers to list.
        """
        from minitorch_ciml.keras.models.summary import print_summary

        if print_fn is None and not distributed.leads():
            return
        print_summary(
            self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range
        )

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves architecture, weights and optimizer in a `.keras` (or the old `.h5`) file."""
        from minitorch_ciml.keras.saving import save_model

        save_model(self, filepath, overwrite=overwrite, **kwargs)

    def save_weights(
        self, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None
    ) -> None:
        """Saves the weights in a `.weights.h5` file, as Keras 3 does."""
        from minitorch_ciml.keras.saving import save_weights

        save_weights(self, filepath, overwrite, max_shard_size)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Loads the weights from a `.weights.h5`, `.keras` or old `.h5` file."""
        from minitorch_ciml.keras.saving import load_weights

        load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    def export(self, filepath: Any, format: str = "tf_saved_model", **kwargs: Any) -> None:
        """Refused: the formats are those of other libraries, which Keras calls for them."""
        raise NotImplementedError(
            f"export: the format {format!r} is not available; save the model with "
            "model.save('name.keras'), and export it in Keras: "
            "keras.models.load_model('name.keras').export(...)."
        )

    def quantize(  # type: ignore[override]
        self, mode: Any = None, config: Any = None, filters: Any = None, type_check: bool = True
    ) -> None:
        """Rounds the matrices of `Dense`, `EinsumDense` and `Embedding` layers to 8 bits.

        Args:
            mode: "int8"; may be left out if there is a config.
            config: a `keras.quantizers.Int8QuantizationConfig`.
            filters: which layers: a regular expression for their names, a list of them, or a
                function of the layer.
            type_check: whether to leave out layers of classes that were made from those.

        Layers that have other weights keep them, and a warning says so.
        """
        config = config_of(mode, config)
        kept = []
        for layer in self._inventory().layers:
            if isinstance(layer, Quantized) and _chosen(layer, filters):
                if "quantizes" in type(layer).__dict__ or not type_check:
                    layer.quantize(type_check=type_check, config=config)
                    continue
            if layer._own_weights() and _chosen(layer, filters):
                kept.append(layer.name)
        if kept:
            names = ", ".join(dict.fromkeys(kept))
            warnings.warn(
                f"quantize: {names} keep their weights as they are; only Dense, EinsumDense and "
                "Embedding have an 8-bit form.",
                stacklevel=2,
            )
        self._stepper = None

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that give the outputs."""
        return [y.node.layer.name for y in flatten(self.output)]

    def to_json(self, **kwargs: Any) -> str:
        """The architecture as JSON; `keras.models.model_from_json` makes a model of it."""
        return json.dumps(serialize_keras_object(self), **kwargs)

    def get_config(self) -> dict:
        """The graph of a model made of inputs and outputs; the arguments of any other."""
        from minitorch_ciml.keras.models.configuration import functional_config

        if self._graph is not None and _made_of_tensors(type(self)):
            return functional_config(self)
        config = super().get_config()
        named = inspect.signature(type(self).__init__).parameters
        for key in ("inputs", "outputs"):  # those of Model, which no subclass has to be made with
            if key not in named or config[key] is None:
                config.pop(key, None)
        return config

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Any:
        from minitorch_ciml.keras.models.configuration import functional_from_config

        if custom_objects:
            with custom_object_scope(custom_objects):
                return cls.from_config(config)
        if _made_of_tensors(cls) and "output_layers" in config:
            return functional_from_config(cls, config)
        return super().from_config(config)


@serializable("keras", "Functional")
class Functional(Model):
    """What `Model(inputs, outputs)` gives: a model that is its graph."""

    serialized_as = ("keras.src.models.functional", "Functional")  # where Keras looks for it


def _made_of_tensors(cls: type) -> bool:
    """Whether a model of this class is made of inputs and outputs, not of arguments of its own."""
    return cls.__init__ is Model.__init__  # type: ignore[misc]


def _chosen(layer: Layer, filters: Any) -> bool:
    """Whether `quantize` is to be applied to a layer."""
    if filters is None or isinstance(filters, (str, list, tuple)):
        patterns = [filters or ""] if not isinstance(filters, (list, tuple)) else filters
        return any(re.search(pattern, layer.name) for pattern in patterns)
    return bool(filters(layer))


def _shape_or_shapes(tensors: Any) -> Any:
    shapes = [t.shape for t in flatten(tensors)]
    return shapes[0] if len(shapes) == 1 else shapes


def _same_rank(a: Any, b: Any) -> bool:
    return len(a.shape) == len(b.shape)
