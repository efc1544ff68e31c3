"""Names, configurations and objects: one registry for everything that can be given as a string.

A class of the facade is registered under the module in which users of Keras know it:

    @serializable("keras.losses", "mse")
    class MeanSquaredError(Loss): ...

Then `get("keras.losses", "mse")`, `"mean_squared_error"`, `"MeanSquaredError"`, an instance, a
class or a configuration all give the loss. Configurations have Keras 3's form, so that its files
can be read and ours be read by it. Making an object from a configuration never runs code from a
file: only registered names are found.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor

_by_module: dict[str, dict[str, Any]] = {}
_homes: dict[Any, tuple[str, str]] = {}  # object -> (module, name)
_custom: dict[str, Any] = {}  # registered_name -> object
_families: dict[str, Callable[[dict], Any]] = {}  # beginning of a module's name -> maker
# Whether what users have not registered stands in configurations as itself, as for a copy.
_as_itself: ContextVar[bool] = ContextVar("as_itself", default=False)


def serializable(module: str, *aliases: str) -> Callable:
    """Registers a class or function as `module.<its name>`, and under `aliases` and snake_case."""

    def register(item: Any) -> Any:
        name = item.__name__
        names = _by_module.setdefault(module, {})
        for key in (name, snake_case(name), *aliases):
            names[key] = item
        _homes[item] = (module, name)
        return item

    return register


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """Registers a user's class or function, so that saved models that use it can be loaded.

    A registered class needs `get_config`.
    """

    def register(item: Any) -> Any:
        full_name = f"{package}>{name or item.__name__}"
        if isinstance(item, type) and not hasattr(item, "get_config"):
            raise ValueError(
                f"register_keras_serializable: {item.__name__} has no get_config(); define it so "
                "that it returns the arguments of __init__ as a dictionary."
            )
        _custom[full_name] = item
        _homes[item] = ("custom", full_name)
        return item

    return register


def get_custom_objects() -> dict[str, Any]:
    """The users' classes and functions that saved models may name; can be changed."""
    return _custom


def get_registered_name(obj: Any) -> str:
    """The name under which a user's class or function is registered; its own name if it is not."""
    module, name = _homes.get(obj, ("", obj.__name__))
    return name if module == "custom" else obj.__name__


def get_registered_object(name: str, custom_objects: Any = None, module_objects: Any = None) -> Any:
    """The class or function of that registered name, or None."""
    for objects in (_custom, custom_objects or {}, module_objects or {}):
        if name in objects:
            return objects[name]
    return None


def register_family(module_prefix: str, make: Callable[[dict], Any]) -> None:
    """Lets `make(record)` build every object whose module begins with `module_prefix`."""
    _families[module_prefix] = make


@contextmanager
def custom_object_scope(custom_objects: dict[str, Any]):
    """Inside, the names in `custom_objects` are found as if they had been registered."""
    saved = dict(_custom)
    _custom.update(custom_objects)
    try:
        yield
    finally:
        _custom.clear()
        _custom.update(saved)


@contextmanager
def users_things_as_themselves():
    """Inside, functions and classes that are not registered stand in configurations as themselves.

    Such a configuration can be copied from, but not written to a file.
    """
    token = _as_itself.set(True)
    try:
        yield
    finally:
        _as_itself.reset(token)


def snake_case(name: str) -> str:
    """'MeanSquaredError' -> 'mean_squared_error'; 'Conv2DTranspose' -> 'conv2d_transpose'."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def get(module: str, identifier: Any, what: str) -> Any:
    """The object that `identifier` names in `module`.

    Args:
        module: such as "keras.optimizers".
        identifier: None, a name, a class, an instance, a function or a configuration.
        what: how an error message calls it, such as "optimizer".
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        if "class_name" not in identifier:
            raise ValueError(
                f"{what}: got {identifier!r}, expected a configuration with a 'class_name', as "
                "serialize gives it."
            )
        known = identifier if identifier.get("module") else {**identifier, "module": module}
        return deserialize_keras_object(known)
    if isinstance(identifier, str):
        item = _custom.get(identifier, _by_module.get(module, {}).get(identifier))
        if item is None:
            raise ValueError(_unknown(module, identifier, what))
        return item() if isinstance(item, type) else item
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier) or hasattr(identifier, "get_config"):
        return identifier
    raise TypeError(
        f"{what}: got {identifier!r}, expected a name (as a string), an object or a function."
    )


def deserialize(module: str, config: Any, what: str, custom_objects: dict | None = None) -> Any:
    """As `get`, where names may also be those of `custom_objects`."""
    with custom_object_scope(custom_objects or {}):
        return get(module, config, what)


def _unknown(module: str, name: str, what: str) -> str:
    known = sorted(_by_module.get(module, {}))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"unknown {what} {name!r}; did you mean {' or '.join(map(repr, near))}?"
    return f"unknown {what} {name!r}; known: {', '.join(known)}."


# --- configurations ----------------------------------------------------------------------------


def serialize_keras_object(obj: Any) -> Any:
    """`obj` as plain data, in Keras 3's form."""
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, np.dtype):
        return obj.name
    if isinstance(obj, (list, set)):
        return [serialize_keras_object(x) for x in obj]
    if isinstance(obj, tuple):
        return {
            "class_name": "__tuple__",
            "items": [serialize_keras_object(x) for x in obj],
        }
    if isinstance(obj, dict):
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if isinstance(obj, np.ndarray):
        return {
            "class_name": "__numpy__",
            "config": {"value": obj.tolist(), "dtype": obj.dtype.name},
        }
    if isinstance(obj, Tensor):
        value = obj.numpy()
        return {
            "class_name": "__tensor__",
            "config": {"value": value.tolist(), "dtype": value.dtype.name},
        }
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, slice):
        return {
            "class_name": "__slice__",
            "config": {"start": obj.start, "stop": obj.stop, "step": obj.step},
        }
    if hasattr(obj, "__keras_tensor__"):  # an input or result of a layer in a functional model
        return obj.__keras_tensor__()
    if hasattr(obj, "get_config") and not isinstance(obj, type):
        return _serialize_object(obj)
    if callable(obj):
        return _serialize_function(obj)
    raise TypeError(f"cannot write a {type(obj).__name__} into a configuration: {obj!r}.")


def _serialize_object(item: Any) -> dict:
    kind = type(item)
    class_name, registered = kind.__name__, None
    home, name = _homes.get(kind, ("", class_name))
    module: str | None = home
    if hasattr(item, "serialized_as"):
        module, class_name = item.serialized_as
    elif home in ("", "custom"):  # a user's class, as Keras writes it
        registered = name
        module = None if kind.__module__ == "__main__" else kind.__module__
    record: dict[str, Any] = {
        "module": module,
        "class_name": class_name,
        "config": serialize_config(item.get_config()),
        "registered_name": registered,
    }
    if registered and not home and _as_itself.get():
        record["class_name"] = type(item)
    if getattr(item, "built", False) and hasattr(item, "get_build_config"):
        build_config = item.get_build_config()
        if build_config is not None:
            record["build_config"] = serialize_config(build_config)
    if hasattr(item, "get_compile_config"):
        compile_config = item.get_compile_config()
        if compile_config is not None:
            record["compile_config"] = serialize_config(compile_config)
    return record


def serialize_config(config: dict) -> dict:
    """The values of a configuration as plain data; tuples in it become lists, as in Keras."""

    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [plain(x) for x in value]
        return serialize_keras_object(value)

    return {key: plain(value) for key, value in config.items()}


def plain_arguments(value: Any) -> Any:
    """An argument as `get_config` has it: objects and functions described, the rest as it is.

    What cannot be described stays, too: an overriding `get_config` may put something in its place.
    """
    if isinstance(value, dict):
        return {key: plain_arguments(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain_arguments, value))
    is_data = isinstance(value, (np.ndarray, np.generic))
    describable = is_data or callable(value) or hasattr(value, "get_config")
    return serialize_keras_object(value) if describable else value


def _serialize_function(item: Callable) -> Any:
    if item in _homes:
        module, name = _homes[item]
        if module != "custom":
            return name
    elif _as_itself.get():
        return item
    return {
        "module": "builtins",
        "class_name": "function",
        "config": get_registered_name(item),
        "registered_name": "function",
    }


def deserialize_keras_object(
    config: Any, custom_objects: dict | None = None, safe_mode: bool = True
) -> Any:
    """The object that `serialize_keras_object` described.

    Only registered classes and functions are made; nothing in the configuration is executed,
    whatever `safe_mode` says.
    """
    if custom_objects:
        with custom_object_scope(custom_objects):
            return deserialize_keras_object(config)
    if isinstance(config, list):
        return [deserialize_keras_object(x) for x in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config:
        return {key: deserialize_keras_object(value) for key, value in config.items()}
    name, inner = config["class_name"], config.get("config")
    if name == "__tuple__":
        return tuple(deserialize_keras_object(x) for x in config["items"])
    if name == "__numpy__":
        return np.array(inner["value"], dtype=inner["dtype"])  # type: ignore[index]
    if name == "__tensor__":
        return Tensor.constant(np.array(inner["value"], dtype=inner["dtype"]))  # type: ignore[index]
    if name == "__ellipsis__":
        return Ellipsis
    if name == "__slice__":
        return slice(inner["start"], inner["stop"], inner["step"])  # type: ignore[index]
    if name == "__keras_tensor__":
        raise ValueError("a __keras_tensor__ belongs inside the inbound_nodes of a model.")
    if name == "function":
        return _find(config, inner)
    for prefix, make in _families.items():
        if (config.get("module") or "").startswith(prefix):
            return make(config)
    return _rebuild(_find(config, name), config)


def _rebuild(cls: Any, record: dict) -> Any:
    config = record.get("config") or {}
    item = cls.from_config(config) if hasattr(cls, "from_config") else cls(**config)
    build_config = record.get("build_config")
    if build_config and hasattr(item, "build_from_config") and not getattr(item, "built", False):
        item.build_from_config(build_config)
    if record.get("compile_config") and hasattr(item, "compile_from_config"):
        item.compile_from_config(record["compile_config"])
    return item


def _find(record: dict, name: Any) -> Any:
    """The registered class or function behind a configuration, wherever Keras keeps it."""
    if isinstance(name, type):  # of `users_things_as_themselves`
        return name
    registered, module = record.get("registered_name"), record.get("module")
    for key in (registered, name):
        if key in _custom:
            return _custom[key]
    homes = _by_module.get(module or "", {})
    if name in homes:
        return homes[name]
    # Keras names internal modules such as "keras.src.models.functional"; the class name decides.
    # A function may have the name that a class has in snake_case.
    is_class = record["class_name"] != "function"
    named = [items[name] for items in _by_module.values() if name in items]
    found = {item for item in named if isinstance(item, type) == is_class}
    if len(found) == 1:
        return found.pop()
    if name == "<lambda>":
        raise ValueError(
            "a lambda is not in a file, which holds no code: pass custom_objects={'<lambda>': the "
            "function}, and give the next model a named one."
        )
    known = {*_custom, *(key for items in _by_module.values() for key in items)}
    near = difflib.get_close_matches(str(name), sorted(known), n=2, cutoff=0.7)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(
        f"cannot make {name!r} (module {module!r}): it is not known here; pass "
        f"custom_objects={{{name!r}: ...}} or decorate it with register_keras_serializable().{hint}"
    )


class Configurable:
    """Something that can be described by a dictionary of its arguments and made from it again."""

    def get_config(self) -> dict:
        """The arguments of `__init__` that make an equal object."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Any:
        """An object from the dictionary that `get_config` gave."""
        return cls(**{key: deserialize_keras_object(value) for key, value in config.items()})
