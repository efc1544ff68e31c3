"""`Sequential`: a stack of layers, each called on the result of the one before."""

from __future__ import annotations

from typing import Any

from minitorch_ciml.keras.layers.input import InputLayer
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.layers.shapes import as_shapes
from minitorch_ciml.keras.layers.variable import name_scope
from minitorch_ciml.keras.masks import set_mask
from minitorch_ciml.keras.models.graph import LayerGraph
from minitorch_ciml.keras.models.model import Model
from minitorch_ciml.keras.serialization import (
    custom_object_scope,
    deserialize_keras_object,
    serializable,
    serialize_keras_object,
)
from minitorch_ciml.keras.symbolic import KerasTensor, unique_name
from minitorch_ciml.keras.tree import flatten


@serializable("keras")
class Sequential(Model):
    """A stack of layers.

        model = Sequential([Input((784,)), Dense(32, activation="relu"), Dense(10)])

    The weights are made as soon as the input's shape is known: from an `Input`, from the first
    layer's `input_shape=`, or from the first data.

    Args:
        layers: the layers to begin with; more come with `add`.
        name: made from the class name if left out.
    """

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None):
        super().__init__(trainable=trainable, name=name)
        self._layers: list[Layer] = []
        self._tensors: list[KerasTensor] = []  # the symbolic results, from the input on
        if isinstance(layers, (Layer, KerasTensor)):
            raise TypeError(
                f"Sequential takes a list of layers, got {layers!r}; write Sequential([...])."
            )
        for layer in layers or ():
            self.add(layer, rebuild=False)
        self._count()

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Puts a layer on top of the stack.

        Args:
            layer: the layer, or an `Input` at first.
            rebuild: as in Keras, whether the names of unnamed models go on counting.
        """
        if isinstance(layer, KerasTensor):  # Sequential([Input(...), ...])
            layer = layer.node.layer  # type: ignore[union-attr]
        if not isinstance(layer, Layer):
            given = f"the class {layer.__name__}" if isinstance(layer, type) else repr(layer)
            raise ValueError(
                f"Sequential.add: expected a layer, got {given}; pass an instance such as "
                "Dense(10)."
            )
        if any(layer is other for other in self._layers):
            raise ValueError(
                f"Sequential.add: layer {layer.name!r} is in this model already; make a new one, "
                "or share its weights with keras.Model(inputs, outputs)."
            )
        if any(layer.name == other.name for other in self._layers):
            raise ValueError(
                f"Sequential.add: there is a layer named {layer.name!r} already; give this one "
                "another name=."
            )
        if not self._layers and not self._tensors:
            self._start(layer)
        elif isinstance(layer, InputLayer):
            raise ValueError("Sequential.add: an Input can only come first.")
        if isinstance(layer, InputLayer):
            return
        self._layers.append(layer)
        if self._tensors:
            self._extend(layer)
        if rebuild:
            self._count()

    def _count(self) -> None:
        """Uses up a name: in Keras there is a new, unnamed `Functional` inside for every change."""
        # A model alone in the stack is not wrapped.
        alone = len(self._layers) == 1 and isinstance(self._layers[0], Model)
        if self._tensors and self._layers and not alone:
            unique_name("functional")

    def _start(self, layer: Layer) -> None:
        """Begins the symbolic stack if this first layer tells the input's shape."""
        if isinstance(layer, InputLayer):
            self._tensors = [layer.output]
        elif layer._first_input_shape is not None:
            self._tensors = [InputLayer(batch_shape=layer._first_input_shape).output]
        elif isinstance(layer, Model) and layer._graph is not None and len(layer.inputs) == 1:
            self._tensors = [InputLayer(batch_shape=layer.inputs[0].shape).output]

    def _extend(self, layer: Layer) -> None:
        with name_scope(self.name, self):
            result = layer(self._tensors[-1])
        if len(flatten(result)) != 1:
            raise ValueError(
                f"Sequential.add: layer {layer.name!r} has {len(flatten(result))} outputs, but a "
                "layer in a stack must have one; use keras.Model(inputs, outputs)."
            )
        self._tensors.append(result)
        self._graph = LayerGraph(self._tensors[0], self._tensors[-1])
        self.inputs, self.outputs = [self._tensors[0]], [self._tensors[-1]]
        self._build_shape = self._tensors[0].shape
        self.built = True

    def pop(self, rebuild: bool = True) -> Layer:
        """Takes the last layer off the stack and returns it."""
        if not self._layers:
            raise ValueError("Sequential.pop: there are no layers.")
        layer = self._layers.pop()
        if self._tensors:
            self._tensors.pop()
            self._graph = LayerGraph(self._tensors[0], self._tensors[-1])
            self.outputs = [self._tensors[-1]]
        self.built = bool(self._layers) and bool(self._tensors)
        if self.built:
            self._count()
        return layer

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights for inputs of `input_shape` (with the batch)."""
        if self._tensors or not self._layers:
            return
        shape = as_shapes(input_shape)
        self._tensors = [InputLayer(batch_shape=(None, *shape[1:])).output]
        for layer in self._layers:
            self._extend(layer)
        self._count()

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input."""
        return list(self._layers)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if self._graph is not None:
            return super().call(inputs, training, mask)
        set_mask(inputs, mask)
        x = inputs
        for layer in self._layers:
            x = layer(x)
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = input_shape
        for layer in self._layers:
            shape = layer.compute_output_shape(shape)
        return shape

    def get_config(self) -> dict:
        layers = [self._tensors[0].node.layer] if self._tensors else []  # type: ignore[union-attr]
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize_keras_object(self.dtype_policy),
            "layers": [serialize_keras_object(layer) for layer in [*layers, *self._layers]],
        }
        if self._tensors:
            config["build_input_shape"] = self._tensors[0].shape
        return config

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Sequential:
        if custom_objects:
            with custom_object_scope(custom_objects):
                return cls.from_config(config)
        if "layers" not in config:
            raise ValueError(
                "Sequential.from_config: expected what get_config() gave, with 'layers', got "
                f"{config!r}."
            )
        model = cls(name=config.get("name"), trainable=config.get("trainable", True))
        for layer in config["layers"]:
            model.add(deserialize_keras_object(layer))
        if not model._tensors and config.get("build_input_shape"):
            model.build(config["build_input_shape"])
        return model
