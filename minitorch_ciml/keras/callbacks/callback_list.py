"""`CallbackList`: several callbacks as one; what the training loop calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minitorch_ciml.keras.callbacks.base import HOOKS, Callback, Logs
from minitorch_ciml.keras.callbacks.checkpoint import BackupAndRestore
from minitorch_ciml.keras.callbacks.progress import ProgbarLogger
from minitorch_ciml.keras.callbacks.records import History


class CallbackList(Callback):
    """Several callbacks as one: every hook is passed on, in order.

    Which callbacks override which hook is found out once, so a hook that nobody overrides costs an
    empty function call.

    Args:
        callbacks: one callback, or a list of them, possibly nested.
        add_history: append a `History` unless there is one.
        add_progbar: append a `ProgbarLogger` unless there is one.
        model: the model that runs.
        params: given to every callback: `epochs`, `steps` and `verbose`.

    Attributes:
        history: the `History`, or None.
        wants_batch_logs: whether anybody reads the logs of training batches.

    Raises:
        TypeError: something in the list is no callback.
    """

    def __init__(
        self,
        callbacks: Callback | Sequence | None = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        super().__init__()
        self.callbacks = _flatten(callbacks)
        for wanted, kind in ((add_history, History), (add_progbar, ProgbarLogger)):
            if wanted and not any(isinstance(c, kind) for c in self.callbacks):
                self.callbacks.append(kind())
        # It saves what the others have decided.
        self.callbacks.sort(key=lambda c: isinstance(c, BackupAndRestore))
        self.history = next((c for c in self.callbacks if isinstance(c, History)), None)
        self.params = params
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def append(self, callback: Callback) -> None:
        """Adds a callback at the end."""
        self.callbacks += _flatten(callback)
        self._listen()

    def set_model(self, model: Any) -> None:
        """Gives every callback the model, and the model its `history`."""
        self.model = model
        if self.history is not None:
            model.history = self.history
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Gives every callback the parameters of the run."""
        self.params = params
        if params:
            for callback in self.callbacks:
                callback.set_params(params)
        self._listen()

    def _listen(self) -> None:
        """Replaces each hook by a function that calls just those callbacks that override it."""
        for hook in HOOKS:
            listeners = [getattr(c, hook) for c in self.callbacks if c.listens_to(hook)]
            takes_index = "batch" in hook or "epoch" in hook
            setattr(self, hook, _caller(listeners, takes_index))
        self._readers = [c for c in self.callbacks if c.listens_to("on_train_batch_end")]
        self.wants_batch_logs = bool(self._readers)

    def reads_logs(self) -> bool:
        """Whether any of the callbacks looks at the logs of this batch."""
        return any([c.reads_logs() for c in self._readers])

    def listens_to(self, hook: str) -> bool:
        """Whether any of the callbacks does something at this hook."""
        return any(c.listens_to(hook) for c in self.callbacks)


def _caller(listeners: list[Callable], takes_index: bool) -> Callable:
    """A function that calls all `listeners`, with an empty dictionary for missing logs."""
    if not listeners:
        return _ignore

    def call_step(index: int, logs: Logs = None) -> None:
        logs = {} if logs is None else logs
        for listener in listeners:
            listener(index, logs)

    def call(logs: Logs = None) -> None:
        logs = {} if logs is None else logs
        for listener in listeners:
            listener(logs)

    return call_step if takes_index else call


def _ignore(*arguments: Any, **named: Any) -> None:
    """What nobody listens to."""


def _flatten(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    if isinstance(callbacks, (list, tuple)):
        return [c for item in callbacks for c in _flatten(item)]
    if not isinstance(callbacks, Callback):
        shown = callbacks.__name__ if isinstance(callbacks, type) else repr(callbacks)
        hint = f"; write {shown}() with parentheses" if isinstance(callbacks, type) else ""
        raise TypeError(
            f"callbacks: got {shown}, expected Callback objects or a list of them{hint}."
        )
    return [callbacks]
