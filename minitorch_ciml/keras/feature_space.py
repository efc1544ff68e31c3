"""`FeatureSpace`: the columns of a table as one vector for each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minitorch_ciml.keras import layers
from minitorch_ciml.keras.layers.keys import keys_of
from minitorch_ciml.keras.serialization import (
    Configurable,
    deserialize_keras_object,
    serializable,
    serialize_keras_object,
)
from minitorch_ciml.keras.symbolic import any_symbolic, unique_name

_KERAS_MODULE = "keras.src.layers.preprocessing.feature_space"  # where Keras keeps the small ones


@serializable(_KERAS_MODULE)
class Feature(Configurable):
    """A column: its dtype, the layer that prepares it, and how the result is put in.

    Args:
        dtype: "float32", "int32" or "string".
        preprocessor: a layer.
        output_mode: "float" or "int" as the layer gives it, "one_hot" for codes of integers.
    """

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str):
        if output_mode not in ("int", "one_hot", "float"):
            raise ValueError(
                f"Feature: got output_mode={output_mode!r}, expected 'int', 'one_hot' or 'float'."
            )
        self.dtype, self.output_mode = dtype, output_mode
        self.preprocessor = deserialize_keras_object(preprocessor)

    def get_config(self) -> dict:
        return {"dtype": self.dtype, "preprocessor": self.preprocessor,
                "output_mode": self.output_mode}  # fmt: skip


@serializable(_KERAS_MODULE)
class Cross(Configurable):
    """Several columns of integers or strings, taken together.

    Args:
        feature_names: theirs.
        crossing_dim: into how many bins the combinations are hashed.
        output_mode: "one_hot", or "int".
    """

    def __init__(self, feature_names: Any, crossing_dim: int, output_mode: str = "one_hot"):
        if output_mode not in ("int", "one_hot"):
            raise ValueError(
                f"Cross: got output_mode={output_mode!r}, expected 'int' or 'one_hot'."
            )
        self.feature_names = tuple(feature_names)
        self.crossing_dim, self.output_mode = crossing_dim, output_mode

    @property
    def name(self) -> str:
        return "_X_".join(self.feature_names)

    def get_config(self) -> dict:
        return {"feature_names": self.feature_names, "crossing_dim": self.crossing_dim,
                "output_mode": self.output_mode}  # fmt: skip


@serializable("keras.utils")
class FeatureSpace(layers.Layer):
    """A table, as a dictionary of columns (N,) or (N, 1), -> (N, D), or a dictionary of codes.

        space = FeatureSpace({"age": "float_normalized", "town": "string_categorical"},
                             crosses=[("town", "job")], ...)
        space.adapt(columns)
        model.fit(space(columns), y)

    The results stand in the order of the columns' names, crosses after them. For use in a model,
    `get_inputs()` are its inputs, and `get_encoded_features()` what comes out of this layer.

    Args:
        features: for each column its kind: "float", "float_normalized", "float_rescaled",
            "float_discretized", "integer_categorical", "string_categorical", "integer_hashed" or
            "string_hashed"; or what the method of that name gives, such as
            `FeatureSpace.string_categorical(max_tokens=10)`; or `FeatureSpace.feature(...)`.
        output_mode: "concat" for one vector, or "dict".
        crosses: tuples of the names of columns, or `FeatureSpace.cross(...)`.
        crossing_dim, hashing_dim, num_discretization_bins: the bins of crosses, of hashed and of
            discretized columns where they are not told.
    """

    takes_text = True

    def __init__(
        self,
        features: dict[str, Any],
        output_mode: str = "concat",
        crosses: Any = None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        if not features:
            raise ValueError("FeatureSpace: features is empty; name at least one column.")
        if output_mode not in ("concat", "dict"):
            raise ValueError(
                f"FeatureSpace: got output_mode={output_mode!r}, expected 'concat' or 'dict'."
            )
        self.output_mode = output_mode
        self.crossing_dim, self.hashing_dim = crossing_dim, hashing_dim
        self.num_discretization_bins = num_discretization_bins
        self.features = {name: self._feature(name, kind) for name, kind in features.items()}
        self.crosses = [self._cross(cross) for cross in crosses or ()]
        self.preprocessors = {name: f.preprocessor for name, f in self.features.items()}
        self.crossers = {c.name: layers.HashedCrossing(c.crossing_dim, name=c.name)
                         for c in self.crosses}  # fmt: skip
        self.inputs = {name: layers.Input((1,), dtype=f.dtype, name=name)
                       for name, f in self.features.items()}  # fmt: skip
        self._encoded: Any = None
        self.built = not self._adaptable()

    # --- kinds of columns -----------------------------------------------------------------------

    @classmethod
    def cross(cls, feature_names: Any, crossing_dim: int, output_mode: str = "one_hot") -> Cross:
        """Several columns taken together; see `Cross`."""
        return Cross(feature_names, crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype: str, preprocessor: Any, output_mode: str) -> Feature:
        """A column with a layer of your choice; see `Feature`."""
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name: str | None = None) -> Feature:
        """Numbers as they are."""
        return Feature("float32", layers.Identity(name=_of("float", name)), "float")

    @classmethod
    def float_rescaled(
        cls, scale: Any = 1.0, offset: Any = 0.0, name: str | None = None
    ) -> Feature:
        """Numbers times `scale`, plus `offset`."""
        layer = layers.Rescaling(scale, offset, name=_of("float_rescaled", name))
        return Feature("float32", layer, "float")

    @classmethod
    def float_normalized(cls, name: str | None = None) -> Feature:
        """Numbers with mean 0 and variance 1."""
        layer = layers.Normalization(axis=-1, name=_of("float_normalized", name))
        return Feature("float32", layer, "float")

    @classmethod
    def float_discretized(
        cls, num_bins: int, bin_boundaries: Any = None, output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:  # fmt: skip
        """Numbers as the bins that they fall into."""
        bins = None if bin_boundaries is not None else num_bins
        layer = layers.Discretization(bin_boundaries, bins, name=_of("float_discretized", name))
        return Feature("float32", layer, output_mode)

    @classmethod
    def integer_categorical(
        cls, max_tokens: int | None = None, num_oov_indices: int = 1,
        output_mode: str = "one_hot", name: str | None = None,
    ) -> Feature:  # fmt: skip
        """Integers as their numbers in a vocabulary."""
        layer = layers.IntegerLookup(
            max_tokens, num_oov_indices, name=_of("integer_categorical", name)
        )
        return Feature("int32", layer, output_mode)

    @classmethod
    def string_categorical(
        cls, max_tokens: int | None = None, num_oov_indices: int = 1,
        output_mode: str = "one_hot", name: str | None = None,
    ) -> Feature:  # fmt: skip
        """Words as their numbers in a vocabulary."""
        layer = layers.StringLookup(
            max_tokens, num_oov_indices, name=_of("string_categorical", name)
        )
        return Feature("string", layer, output_mode)

    @classmethod
    def string_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """Words as bins, by their hash."""
        layer = layers.Hashing(num_bins, name=_of("string_hashed", name))
        return Feature("string", layer, output_mode)

    @classmethod
    def integer_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """Integers as bins, by their hash."""
        layer = layers.Hashing(num_bins, name=_of("integer_hashed", name))
        return Feature("int32", layer, output_mode)

    def _feature(self, name: str, kind: Any) -> Feature:
        kind = deserialize_keras_object(kind)
        if isinstance(kind, Feature):
            return kind
        bins = {"float_discretized": self.num_discretization_bins,
                "integer_hashed": self.hashing_dim, "string_hashed": self.hashing_dim}  # fmt: skip
        if kind in bins:
            return getattr(self, kind)(bins[kind], name=name)
        if kind in ("float", "float_normalized", "float_rescaled", "integer_categorical",
                    "string_categorical"):  # fmt: skip
            return getattr(self, kind)(name=name)
        raise ValueError(
            f"FeatureSpace: column {name!r} has the kind {kind!r}; see its description for those "
            "that there are."
        )

    def _cross(self, cross: Any) -> Cross:
        cross = deserialize_keras_object(cross)
        cross = cross if isinstance(cross, Cross) else Cross(cross, self.crossing_dim)
        unknown = [name for name in cross.feature_names if name not in self.features]
        if unknown:
            raise ValueError(
                f"FeatureSpace: crosses name {unknown}, but the columns are {list(self.features)}."
            )
        return cross

    # --- adapting and calling -------------------------------------------------------------------

    def adapt(self, dataset: Any) -> None:
        """Finds what the columns' layers must know.

        Args:
            dataset: a dictionary of columns, or an iterable of them that can be gone through
                repeatedly, such as a data set; of batches (x, y) it is x that counts.
        """
        for name in self._adaptable():
            self.preprocessors[name].adapt(self._column(dataset, name))
        self.built = True
        self._encoded = None

    def _adaptable(self) -> list[str]:
        found = []
        for name, layer in self.preprocessors.items():
            given = (
                getattr(layer, "input_mean", None) is not None  # Normalization
                or (isinstance(layer, layers.Discretization) and layer.num_bins is None)
                or getattr(getattr(layer, "_lookup_layer", layer), "_fixed", False)
            )
            if hasattr(layer, "adapt") and not given:
                found.append(name)
        return found

    @staticmethod
    def _column(dataset: Any, name: str) -> Iterator[np.ndarray]:
        for batch in [dataset] if isinstance(dataset, dict) else dataset:
            columns = batch[0] if isinstance(batch, tuple) else batch
            yield _two_axes(keys_of(columns[name]))

    def __call__(self, data: Any, **kwargs: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError(
                f"FeatureSpace: expected a dictionary of columns, got {type(data).__name__}."
            )
        missing = sorted(self.features.keys() - data.keys())
        if missing:
            raise ValueError(f"FeatureSpace: the data lack the columns {missing}.")
        if not self.built:
            raise ValueError("FeatureSpace: call adapt(data) first.")
        if any_symbolic(data):
            return self._merged(data)
        columns = {name: keys_of(data[name]) for name in self.features}
        single = all(column.ndim == 0 for column in columns.values())
        result = self._merged({name: _two_axes(column) for name, column in columns.items()})
        if not single:
            return result
        if self.output_mode == "concat":
            return result[0]
        return {name: value[0] for name, value in result.items()}

    def _merged(self, data: dict) -> Any:
        """The results for columns (N, 1), symbolic or not."""
        made = {name: self.preprocessors[name](data[name]) for name in self.features}
        specs: list[tuple[str, Any, Any]] = [
            (name, made[name], self.features[name]) for name in sorted(made)
        ]
        for cross in sorted(self.crosses, key=lambda cross: cross.name):
            crossed = self.crossers[cross.name]([made[name] for name in cross.feature_names])
            specs.append((cross.name, crossed, cross))
        coded = {name: self._coded(name, value, spec) for name, value, spec in specs}
        if self.output_mode == "dict":
            return coded
        plain = [name for name, value, spec in specs if spec.output_mode == "int"]
        if plain:
            raise ValueError(
                f"FeatureSpace: column {plain[0]!r} has output_mode='int', and integers cannot be "
                "put into one vector with others; say output_mode='dict' here."
            )
        return layers.concatenate(list(coded.values())) if len(coded) > 1 else coded.popitem()[1]

    def _coded(self, name: str, value: Any, spec: Any) -> Any:
        if spec.output_mode != "one_hot":
            return value
        layer = self.preprocessors.get(name) or self.crossers[name]
        depth = getattr(layer, "num_bins", None) or getattr(layer, "num_tokens", None)
        if isinstance(layer, (layers.IntegerLookup, layers.StringLookup)):
            depth = layer.vocabulary_size()
        if isinstance(layer, layers.Discretization) and layer.bin_boundaries is not None:
            depth = len(layer.bin_boundaries) + 1
        if depth is None:
            raise ValueError(
                f"FeatureSpace: how many numbers {type(layer).__name__} gives for column {name!r} "
                "is not known; say output_mode='int'."
            )
        return layers.CategoryEncoding(depth, "multi_hot")(value)

    def get_inputs(self) -> dict:
        """The inputs of a model: one for each column, by name."""
        return self.inputs

    def get_encoded_features(self) -> Any:
        """What this layer makes of `get_inputs()`."""
        if self._encoded is None:
            self._encoded = self(self.inputs)
        return self._encoded

    # --- files ----------------------------------------------------------------------------------

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "features": serialize_keras_object(self.features),
            "output_mode": self.output_mode,
            "crosses": serialize_keras_object(self.crosses),
            "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim,
            "num_discretization_bins": self.num_discretization_bins,
        }

    @classmethod
    def from_config(cls, config: dict) -> Any:
        return cls(**config)

    def get_build_config(self) -> dict:
        return {name: layer.get_build_config() for name, layer in self.preprocessors.items()}

    def build_from_config(self, config: dict) -> None:
        self.built = True  # what was saved was adapted

    def save(self, filepath: Any) -> None:
        """Saves it in a `.keras` file; `keras.models.load_model` gives it back."""
        from minitorch_ciml.keras.saving import save_model

        save_model(self, filepath)


def _of(kind: str, name: str | None) -> str:
    return f"{name or unique_name(kind)}_preprocessor"


def _two_axes(column: Any) -> Any:
    """A column (N, 1)."""
    return column.reshape(-1, 1) if column.ndim < 2 else column
