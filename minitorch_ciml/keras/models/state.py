"""All that a model knows by name: nested dictionaries along the paths of its variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from minitorch_ciml.config import no_grad

_KINDS = (
    "trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables",
)  # fmt: skip


class StateTree:
    """Mixed into `Model`."""

    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, dict]:
        """The values of the model's variables, its optimizer's and its metrics'.

        Args:
            value_format: "backend_tensor" for tensors, "numpy_array" for NumPy's arrays.

        Returns:
            {"trainable_variables": {"model": {"dense": {"kernel": ...}}}, ...}, with
            "non_trainable_variables", "optimizer_variables" and "metrics_variables".
        """
        if value_format not in ("backend_tensor", "numpy_array"):
            raise ValueError(
                f"get_state_tree: got value_format={value_format!r}, expected 'backend_tensor' or "
                "'numpy_array'."
            )
        with no_grad():
            return {
                kind: _nested(
                    (path, v.numpy() if value_format == "numpy_array" else v.detach())
                    for path, v in self._by_path(kind).items()
                )
                for kind in _KINDS
            }

    def set_state_tree(self, state_tree: dict[str, dict]) -> None:
        """Takes the values that `get_state_tree` gave, or some of them."""
        for kind, values in state_tree.items():
            if kind not in _KINDS:
                raise ValueError(f"set_state_tree: got {kind!r}, expected some of {_KINDS}.")
            variables = self._by_path(kind)
            for path, value in _flat(values):
                if path in variables:
                    variables[path].assign(value)

    def _by_path(self, kind: str) -> dict[str, Any]:
        optimizer = getattr(self, "optimizer", None)
        if kind == "optimizer_variables":
            variables = [] if optimizer is None else optimizer.variables
        else:
            variables = getattr(self, kind)
        found: dict[str, Any] = {}
        for variable in variables:
            if variable.path in found:
                raise ValueError(
                    f"two variables have the path {variable.path!r}; give layers different names."
                )
            found[variable.path] = variable
        return found


def _nested(values: Iterable[tuple[str, Any]]) -> dict:
    tree: dict = {}
    for path, value in values:
        *parents, name = path.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return tree


def _flat(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value
