"""Models on disk, in Keras 3's own formats (`keras.saving`).

A `.keras` file is a zip archive of `metadata.json`, `config.json` (the architecture and what
`compile` was given) and `model.weights.h5`; a `.weights.h5` file is the last one alone. Files are
written beside their place and renamed into it, so that none is ever half there. Loading makes
registered classes from the configuration and never executes code from a file. A name that ends in
`.h5` means the format of Keras 2 (see `legacy_h5.py`).
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml import distributed
from minitorch_ciml.keras import legacy_h5
from minitorch_ciml.keras.files import read_arrays, replacing, write_array
from minitorch_ciml.keras.layers.layer import Layer
from minitorch_ciml.keras.serialization import (
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
    snake_case,
)

if TYPE_CHECKING:
    from minitorch_ciml.keras.models.model import Model

CustomObjectScope = custom_object_scope

__all__ = [
    "CustomObjectScope", "custom_object_scope", "deserialize_keras_object", "get_custom_objects",
    "get_registered_name", "get_registered_object", "load_model", "load_weights",
    "register_keras_serializable", "save_model", "save_weights", "serialize_keras_object",
]  # fmt: skip

# The version of Keras whose format and interface this is: readers of files look at it.
KERAS_VERSION = "3.15.1"
_HDF5 = (".h5", ".hdf5")


def save_model(
    model: Any, filepath: Any, overwrite: bool = True, include_optimizer: bool = True,
    zipped: bool | None = None, **old_arguments: Any,
) -> None:  # fmt: skip
    """Saves a model in a file: architecture, weights, compile arguments, optimizer.

    Args:
        model: the model. One whose weights have not been made is saved without any, with a warning.
        filepath: `.keras`; or `.h5` (`.hdf5`), Keras 2's format, of models that are their graph.
        overwrite: whether an existing file may be replaced.
        include_optimizer: whether the optimizer goes into a `.h5` file; into a `.keras` file it
            always goes.
        zipped: True, or left out; Keras can also save a `.keras` folder.
    """
    if zipped is False:
        raise ValueError("save: zipped=False (a folder) is not supported; leave it out.")
    path = Path(filepath)
    if path.suffix not in (".keras", *_HDF5):
        raise ValueError(
            f"save: the file name must end in .keras (or .h5, the old format), got "
            f"{str(filepath)!r}."
        )
    if not distributed.leads():  # rank 0 writes for all
        return
    _refuse_overwriting(path, overwrite)
    if _is_unbuilt(model):
        warnings.warn(
            f"save: {model.name!r} has no weights yet, so the file gets none; call it on data or "
            "give its input shape first.",
            stacklevel=3,
        )
    if path.suffix in _HDF5:
        contents = legacy_h5.model_bytes(model, KERAS_VERSION, include_optimizer)
        with replacing(path) as temporary:
            temporary.write_bytes(contents)
        return
    config = json.dumps(serialize_keras_object(model))
    metadata = {
        "keras_version": KERAS_VERSION,
        "date_saved": datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
    }
    with replacing(path) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr("metadata.json", json.dumps(metadata))
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", _weights_bytes(model))
            _write_assets(model, archive)


def load_model(
    filepath: Any,
    custom_objects: dict | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Model:
    """The model in a `.keras` or `.h5` file, written here or by Keras.

    Args:
        filepath: the file.
        custom_objects: classes and functions of your own, by the name in the file.
        compile: whether to compile it as it was.
        safe_mode: as in Keras; code in files is refused in any case.
    """
    path = _existing(filepath, "load_model")
    if path.suffix in _HDF5:
        with _hdf5(path, path) as file:
            return legacy_h5.read_model(file, str(path), custom_objects, compile)
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5")
            assets = {name: archive.read(name) for name in archive.namelist()
                      if name.startswith("assets/") and not name.endswith("/")}  # fmt: skip
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, EOFError) as error:
        raise ValueError(
            f"load_model: {str(path)!r} is no complete .keras file ({error}); save the model again "
            "with model.save('name.keras')."
        ) from None
    if not compile:
        config.pop("compile_config", None)
    model = deserialize_keras_object(config, custom_objects)
    with _hdf5(BytesIO(weights), path) as file:
        _load(model, file, str(path))
        if compile:
            _load_optimizer(model, file, build=True)
    _load_assets(model, assets)
    return model


def save_weights(
    model: Any, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None
) -> None:
    """Saves a model's weights (and its optimizer's) in a `.weights.h5` file.

    Args:
        model: its weights must have been made.
        filepath: the name of the file.
        overwrite: whether an existing file may be replaced.
        max_shard_size: None; Keras can also split the weights into several files.
    """
    if max_shard_size is not None:
        raise ValueError("save_weights: max_shard_size is not supported: there is one file.")
    path = Path(filepath)
    if not path.name.endswith(".weights.h5"):
        raise ValueError(
            f"save_weights: the file name must end in .weights.h5, got {str(filepath)!r}."
        )
    if not distributed.leads():
        return
    _refuse_overwriting(path, overwrite)
    _refuse_unbuilt(model, "save_weights")
    with replacing(path) as temporary:
        temporary.write_bytes(_weights_bytes(model))


def load_weights(
    model: Any, filepath: Any, skip_mismatch: bool = False, by_name: bool = False
) -> None:
    """Loads weights from a `.weights.h5`, `.keras` or `.h5` file into the same architecture.

    Args:
        model: the model; its weights must have been made.
        filepath: the file.
        skip_mismatch: leave layers as they are whose weights in the file have other shapes.
        by_name: (of `.h5` files) into the layers of the same names, whatever else there is.

    The optimizer's state is loaded as well if the model's optimizer has been built, by training or
    by `model.optimizer.build(model.trainable_variables)`; otherwise a warning says that it is not.
    """
    path = _existing(filepath, "load_weights")
    _refuse_unbuilt(model, "load_weights")
    source: Any = path
    if path.suffix in _HDF5 and not path.name.endswith(".weights.h5"):
        with _hdf5(path, path) as file:
            legacy_h5.read_weights(model, file, str(path), skip_mismatch, by_name)
        return
    if by_name:
        raise ValueError(
            f"load_weights: by_name works with Keras 2's .h5 files only, got {path.name!r}."
        )
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            source = BytesIO(archive.read("model.weights.h5"))
    with _hdf5(source, path) as file:
        _load(model, file, str(path), skip_mismatch)
        _load_optimizer(model, file)


# --- the layout of a weights file ----------------------------------------------------------------


def _children(item: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a layer that have weights of their own, with their paths below it, as in Keras.

    They are under the names of the attributes that hold them, in the alphabet's order, those with
    an underscore last. A model's `layers` is one of them, and the first of all if it is a graph:
    whatever comes later in the alphabet is found there.
    """
    if getattr(item, "_graph", None) is not None or hasattr(item, "_tensors"):
        yield from _numbered("layers", item.layers)
    names = {*item.__dict__, *_properties(type(item))} - _SKIPPED
    for name in sorted(names, key=lambda name: (name.startswith("_"), name)):
        try:
            value = getattr(item, name)
        except Exception:  # a property may have no value yet
            continue
        if _is_saved(value):
            yield name, value
        elif isinstance(value, (list, tuple, dict)):
            yield from _numbered(name, value)


def _properties(cls: type) -> Iterator[str]:
    """The properties in which Keras looks for parts: `layers`, and those of users' classes."""
    for base in cls.__mro__:
        own = not base.__module__.startswith("minitorch_ciml.")
        for name, member in base.__dict__.items():
            if isinstance(member, property) and (own or name == "layers"):
                yield name


# The optimizer is written for itself; the rest are what `layers` reaches, and no parts.
_SKIPPED = {"optimizer", "_graph_layers", "_layers", "_compile_arguments"}


def _is_saved(value: Any) -> bool:
    return hasattr(value, "save_own_variables") and not isinstance(value, type)


def _numbered(prefix: str, items: list | tuple | dict) -> Iterator[tuple[str, Any]]:
    """`prefix/conv2d`, `prefix/conv2d_1`, ...: by class, in order; lists in it are `container`."""
    counts: dict[str, int] = {}
    for item in items.values() if isinstance(items, dict) else items:
        nested = isinstance(item, (list, tuple, dict))
        if not nested and not _is_saved(item):
            continue
        name = "container" if nested else snake_case(type(item).__name__)
        n = counts[name] = counts.get(name, -1) + 1
        path = f"{prefix}/{name}_{n}" if n else f"{prefix}/{name}"
        if nested:
            yield from _numbered(path, item)
        else:
            yield path, item


def _walk(item: Any, path: str = "", seen: set | None = None) -> Iterator[tuple[str, Any]]:
    """Every layer in a model with its path in the file."""
    seen = set() if seen is None else seen
    if id(item) in seen:
        return
    seen.add(id(item))
    yield path, item
    if isinstance(item, Layer):
        for name, child in _children(item):
            yield from _walk(child, f"{path}/{name}" if path else name, seen)


def _weights_bytes(model: Any) -> bytes:
    import h5py

    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        for path, item in _walk(model):
            _write_variables(file, path, item)
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None:
            _write_variables(file, "optimizer", optimizer)
            inner = getattr(optimizer, "inner_optimizer", None)
            if (
                inner is not None
            ):  # Keras has its variables twice, and looks for them in both places
                _write_variables(file, "optimizer/inner_optimizer", inner)
    return buffer.getvalue()


def _write_variables(file: Any, path: str, item: Any) -> None:
    group = file.create_group(f"{path}/vars" if path else "vars")
    if getattr(item, "name", None):
        group.attrs["name"] = item.name
    store: dict[str, Any] = {}
    item.save_own_variables(store)
    for key, value in store.items():
        write_array(group, key, np.asarray(value))


def _load(model: Any, file: Any, name: str, skip_mismatch: bool = False) -> None:
    skipped = []
    for path, item in _walk(model):
        group = file.get(f"{path}/vars" if path else "vars")
        stored = {} if group is None else read_arrays(group)
        try:
            if stored or (isinstance(item, Layer) and item._own_weights()):
                item.load_own_variables(stored)
        except ValueError as error:
            if not skip_mismatch:
                raise ValueError(f"{name}:{path}: {error}") from None
            skipped.append(item.name)
    if skipped:
        warnings.warn(
            f"load_weights: {name} does not fit {', '.join(skipped)}, which keep their weights.",
            stacklevel=5,
        )


def _load_optimizer(model: Any, file: Any, build: bool = False) -> None:
    """Loads the optimizer's variables; with a warning, none if it has not been built.

    Args:
        model: the model.
        file: the open file.
        build: build it for the file. Otherwise what was compiled anew keeps its learning rate.
    """
    optimizer = getattr(model, "optimizer", None)
    group = file.get("optimizer/vars")
    if optimizer is None or group is None or not len(group):
        return
    # A model that was never trained has an optimizer without slots in its file.
    if build and len(group) > len(optimizer.variables):
        optimizer.build(model.trainable_weights)
    optimizer.load_own_variables(read_arrays(group))


def _write_assets(model: Any, archive: zipfile.ZipFile) -> None:
    """Adds the files that layers save beside their weights, in a folder for each."""
    for path, item in _walk(model):
        if not hasattr(item, "save_assets"):
            continue
        with TemporaryDirectory() as folder:
            item.save_assets(folder)
            for file in sorted(Path(folder).rglob("*")):
                if file.is_file():
                    archive.write(file, f"assets/{path}/{file.relative_to(folder).as_posix()}")


def _load_assets(model: Any, assets: dict[str, bytes]) -> None:
    """Gives layers the files that were saved for them, such as Keras' vocabularies."""
    for path, item in _walk(model):
        prefix = f"assets/{path}/" if path else "assets/"
        own = {name.removeprefix(prefix): data for name, data in assets.items()
               if name.startswith(prefix)}  # fmt: skip
        if not own or not hasattr(item, "load_assets"):
            continue
        with TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            for name, data in own.items():
                file = (root / name).resolve()
                if not file.is_relative_to(root):
                    raise ValueError(f"the file has an entry outside its folder: {name!r}.")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            item.load_assets(folder)


# --- files ---------------------------------------------------------------------------------------


@contextmanager
def _hdf5(source: Any, path: Path) -> Iterator[Any]:
    import h5py

    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise ValueError(f"{str(path)!r} is no complete HDF5 file ({error}).") from None
    with file:
        yield file


def _existing(filepath: Any, what: str) -> Path:
    path = Path(filepath)
    if not path.is_file():
        raise FileNotFoundError(f"{what}: there is no file {str(filepath)!r}.")
    return path


def _is_unbuilt(model: Any) -> bool:
    return not model.built and not model.weights


def _refuse_unbuilt(model: Any, what: str) -> None:
    if _is_unbuilt(model):
        raise ValueError(
            f"{what}: {model.name!r} has no weights yet; call it on data or give its input shape "
            "first."
        )


def _refuse_overwriting(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists; pass overwrite=True or choose another name.")


def __dir__() -> list[str]:
    return __all__
