"""`ProgbarLogger`: what `fit(verbose=...)` shows.

On a terminal and in a notebook one line per epoch is redrawn, about ten times a second, and stays
when the epoch is over. Elsewhere (a batch system's log file) each epoch is one plain line.
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

from minitorch_ciml import distributed
from minitorch_ciml.autograd import Tensor
from minitorch_ciml.keras.callbacks.base import Callback, Logs

_REDRAW_SECONDS = 0.1
_BAR_CELLS = 20
_FEWEST_CELLS = 5  # on a narrow terminal


class ProgbarLogger(Callback):
    """Shows progress: title, bar, batches, time, time per step, and the metrics.

    Added by fit, evaluate and predict unless they are silent. `params["verbose"]`: 0 silent, 1 or
    "auto" a bar where the output can be redrawn, 2 one line per epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._line: _Line = _Line("plain")
        self._verbose = 1
        self._steps: int | None = None
        self._in_fit = False
        self._title = ""
        self._seen = 0
        self._start = self._redraw_at = 0.0
        self._step_seconds = 0.0

    def set_params(self, params: dict[str, Any]) -> None:
        """Takes "epochs", "steps" and "verbose", and looks where the output goes."""
        super().set_params(params)
        verbose = params.get("verbose", "auto")
        if verbose not in (0, 1, 2, "auto"):
            raise ValueError(f"verbose: got {verbose!r}, expected 0, 1, 2 or 'auto'.")
        self._verbose = 1 if verbose == "auto" else int(verbose)
        self._steps = params.get("steps")
        self._line = _Line(_output_kind() if self._verbose == 1 else "plain")

    def listens_to(self, hook: str) -> bool:
        """Batches matter only to a line that is redrawn, or where their number is unknown."""
        if not self._verbose:
            return False
        if hook.endswith("batch_end"):
            needed = self._line.kind != "plain" or self._steps is None
            return needed and super().listens_to(hook)
        return super().listens_to(hook)

    def reads_logs(self) -> bool:
        """Only when it redraws."""
        return self._line.kind != "plain" and perf_counter() >= self._redraw_at

    def on_train_begin(self, logs: Logs = None) -> None:
        """Inside fit, validation shows no bar of its own."""
        self._in_fit = True

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Starts the epoch's clock."""
        self._begin(f"Epoch {epoch + 1}/{self.params.get('epochs', 1)}")
        if epoch == 0:
            self._draw({})  # the first step may take a while

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Redraws the line if it is old enough."""
        self._step(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes the line that stays, with the validation's metrics."""
        self._finish(logs)

    def on_train_end(self, logs: Logs = None) -> None:
        """From here on, evaluate shows its own line again."""
        self._in_fit = False

    def on_test_begin(self, logs: Logs = None) -> None:
        """Starts the clock of evaluate; in fit, ends the time of the training steps."""
        if self._in_fit:
            self._measure()
        else:
            self._begin("Evaluate")

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """As for training."""
        if not self._in_fit:
            self._step(batch, logs)

    def on_test_end(self, logs: Logs = None) -> None:
        """As for training."""
        if not self._in_fit:
            self._finish(logs)

    def on_predict_begin(self, logs: Logs = None) -> None:
        """As for training."""
        self._begin("Predict")

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """As for training; the outputs in `logs` are not shown."""
        self._step(batch, None)

    def on_predict_end(self, logs: Logs = None) -> None:
        """As for training."""
        self._finish(None)

    def _begin(self, title: str) -> None:
        self._title = title
        self._seen = 0
        self._step_seconds = 0.0
        self._start = perf_counter()
        self._redraw_at = self._start + _REDRAW_SECONDS

    def _step(self, batch: int, logs: Logs) -> None:
        self._seen = batch + 1
        now = perf_counter()
        if now >= self._redraw_at:
            self._redraw_at = now + _REDRAW_SECONDS
            self._draw({k: v for k, v in (logs or {}).items() if not isinstance(v, Tensor)})

    def _measure(self) -> None:
        steps = self._seen or self._steps or 1
        self._step_seconds = (perf_counter() - self._start) / steps

    def _draw(self, logs: Any) -> None:
        if self._line.kind == "plain":
            return
        elapsed = perf_counter() - self._start
        times = [f"{self._seen}/{self._steps or '?'}"]
        if self._seen:
            per_step = elapsed / self._seen
            times.append(f"{_step_time(per_step)}/step")
            if self._steps:
                times.append(f"{_duration(per_step * (self._steps - self._seen))} left")
        self._line.draw(self._title, self._done(), times, _metrics(logs))

    def _finish(self, logs: Logs) -> None:
        if not self._step_seconds:
            self._measure()
        if self._steps is None:
            self._steps = self._seen  # known from now on
        times = [
            f"{self._seen or self._steps}/{self._steps}",
            _duration(perf_counter() - self._start),
            f"{_step_time(self._step_seconds)}/step",
        ]
        self._line.finish(self._title, times, _metrics(logs or {}))

    def _done(self) -> float | None:
        return self._seen / self._steps if self._steps else None


class _Line:
    """One line of output that can be redrawn until it is finished.

    Args:
        kind: "terminal", "notebook" or "plain".
    """

    _open: _Line | None = None  # the line on which the cursor stands, if any

    def __init__(self, kind: str):
        self.kind = kind
        self._console: Any = None
        self._length = 0

    def draw(self, title: str, done: float | None, times: list[str], metrics: list[str]) -> None:
        """Shows an unfinished line: a bar, filled as far as `done` (None: unknown)."""
        self.clear()
        if self.kind == "terminal":
            parts = self._styled(title, done or 0, times, metrics)
            self._rich().print(parts, end="", no_wrap=True, overflow="crop", soft_wrap=False)
        else:
            filled = round(_BAR_CELLS * (done or 0))
            text = _plain(title, times, metrics, "#" * filled + "." * (_BAR_CELLS - filled))
            print(text, end="", flush=True)
            self._length = len(text)
        _Line._open = self

    def finish(self, title: str, times: list[str], metrics: list[str]) -> None:
        """Shows the line that stays."""
        self.clear()
        if self.kind == "terminal":
            self._rich().print(self._styled(title, None, times, metrics), soft_wrap=True)
        else:
            print(_plain(title, times, metrics), flush=True)

    def clear(self) -> None:
        """Takes the unfinished line away."""
        if _Line._open is not self:
            return
        _Line._open = None
        if self.kind == "terminal":
            from rich.control import Control, ControlType

            erase = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
            self._rich().control(erase)
        else:
            print("\r" + " " * self._length + "\r", end="")

    def _rich(self) -> Any:
        if self._console is None:
            from rich.console import Console

            self._console = Console(highlight=False)
        return self._console

    def _styled(self, title: str, done: float | None, times: list[str], metrics: list[str]) -> Any:
        """The line in colours; without a bar if `done` is None."""
        from rich.text import Text

        text = Text(title, style="bold")
        rest = Text(" " + "  ".join(times), "not bold cyan")
        for metric in metrics:
            rest.append("  " + metric, "not bold default")
        if done is not None:
            # The bar gives way to the numbers; the last column stays free, as some terminals wrap
            # when it is written.
            room = self._rich().width - len(text) - len(rest) - 2
            cells = max(_FEWEST_CELLS, min(_BAR_CELLS, room))
            filled = round(cells * done)
            text.append(" " + "━" * filled, "not bold green")
            text.append("━" * (cells - filled), "not bold bright_black")
        return text.append_text(rest)


class Progbar:
    """A progress bar for loops of your own.

    Args:
        target: the steps in all, None if not known.
        width: of the bar, in characters; as in Keras, without effect.
        verbose: 0 silent, 1 a bar where the output can be redrawn, 2 one line at the end.
        interval: seconds between redraws.
        stateful_metrics: names of values that are shown as they are; others are averaged.
        stateless_metrics: in place of it, names of values that are averaged; others are shown.
        unit_name: what a step is called.
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Any = None,
        stateless_metrics: Any = None,
        unit_name: str = "step",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError("Progbar: give stateful_metrics or stateless_metrics, not both.")
        self.target, self.verbose, self.interval = target, verbose, interval
        self.stateful_metrics = set(stateful_metrics or ())
        self.stateless_metrics = None if stateless_metrics is None else set(stateless_metrics)
        self.unit_name = unit_name
        self._line = _Line(_output_kind() if verbose == 1 else "plain")
        self._sums: dict[str, tuple[float, float]] = {}
        self._start = perf_counter()
        self._redraw_at, self._seen = 0.0, 0

    def update(self, current: int, values: Any = None, finalize: bool | None = None) -> None:
        """Shows that `current` steps are done.

        Args:
            values: [(name, value of the last steps), ...]: averaged over the steps.
            finalize: whether this was the last one; by default where `target` is reached.
        """
        steps = max(current - self._seen, 1)
        for name, value in values or ():
            total, count = self._sums.get(name, (0.0, 0))
            averaged = self.stateless_metrics
            if name in self.stateful_metrics or (averaged is not None and name not in averaged):
                self._sums[name] = float(value), 1
            else:
                self._sums[name] = total + float(value) * steps, count + steps
        self._seen = current
        last = self.target is not None and current >= self.target if finalize is None else finalize
        now = perf_counter()
        if not self.verbose or not (last or self._line.kind != "plain" and now >= self._redraw_at):
            return
        self._redraw_at = now + self.interval
        seconds = now - self._start
        per_step = f"{_step_time(seconds / max(current, 1))}/{self.unit_name}"
        title, times = f"{current}/{self.target or '?'}", [_duration(seconds), per_step]
        shown = _metrics({name: total / count for name, (total, count) in self._sums.items()})
        if last:
            self._line.finish(title, times, shown)
        else:
            self._line.draw(title, current / self.target if self.target else None, times, shown)

    def add(self, n: int, values: Any = None) -> None:
        """Shows that `n` more steps are done."""
        self.update(self._seen + n, values)


def announce(message: str) -> None:
    """Prints a message of a callback, on a line of its own also while a bar is shown; on rank 0."""
    if not distributed.leads():
        return
    if _Line._open is not None:
        _Line._open.clear()
    print(message, flush=True)


_interactive = True


def enable_interactive_logging() -> None:
    """Bars where the output can be redrawn, as from the start."""
    global _interactive
    _interactive = True


def disable_interactive_logging() -> None:
    """Plain lines only, also on a terminal."""
    global _interactive
    _interactive = False


def is_interactive_logging_enabled() -> bool:
    """Whether bars may be shown."""
    return _interactive


def _output_kind() -> str:
    if not _interactive:
        return "plain"
    if sys.stdout.isatty():
        return "terminal"
    return "notebook" if "ipykernel" in sys.modules else "plain"


def _plain(title: str, times: list[str], metrics: list[str], bar: str = "") -> str:
    return " - ".join([title, *([f"[{bar}]"] if bar else []), *times, *metrics])


def _metrics(logs: Any) -> list[str]:
    return [f"{name}: {_number(value)}" for name, value in logs.items()]


def _number(value: Any) -> str:
    try:
        x = float(value)
    except (TypeError, ValueError):
        return str(value)
    return f"{x:.4f}" if abs(x) > 1e-3 or x == 0 else f"{x:.4e}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"


def _step_time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"
