"""`Trainer`: fit, evaluate, predict. The part of a model that knows data and loss.

What `compile` settles is in `compilation.py`, what the loops go through in `epochs.py`, the device
in `placement.py`, and a GPU's recorded steps in `stepper.py`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from minitorch_ciml import config, kernels
from minitorch_ciml.autograd import Tensor, grad
from minitorch_ciml.keras import distribution
from minitorch_ciml.keras import metrics as metrics_module
from minitorch_ciml.keras.callbacks import CallbackList, History
from minitorch_ciml.keras.models.compilation import Compiled
from minitorch_ciml.keras.models.data import (
    Batches,
    RowBatches,
    Shard,
    Shards,
    batches,
    class_weights,
    pack_x_y_sample_weight,
    unpack_x_y_sample_weight,
)
from minitorch_ciml.keras.models.epochs import Stream, is_due, only_batch, training_data
from minitorch_ciml.keras.models.limits import limited
from minitorch_ciml.keras.models.logs import as_floats, by_name, flat, mean_of_parts, with_scores
from minitorch_ciml.keras.models.placement import (
    Placed,
    tensors_of,
    where_the_model_is,
)
from minitorch_ciml.keras.models.position import Position
from minitorch_ciml.keras.tree import flatten, map_structure
from minitorch_ciml.ops.random import draw_seed


class Trainer(Compiled, Placed):
    """Mixed into `Model`. `train_step`, `test_step` and `predict_step` may be overridden."""

    history: Any = None
    _position: Position | None = None
    _resumed: Any = None

    # --- one step: what users override -----------------------------------------------------------

    def train_step(self, data: Any) -> dict[str, Any]:
        """Trains on one batch; returns the logs.

        An override gets the batch as `x` (as `(x,)` where x is a list), `(x, y)` or
        `(x, y, sample_weight)`; `keras.utils.unpack_x_y_sample_weight` takes all of them.
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred, loss, gradients = self._run_step(self._differentiated, x, y, sample_weight)
        weights = self.trainable_weights  # type: ignore[attr-defined]
        if weights:
            self.optimizer.apply(gradients, weights)
        self._loss_tracker.update_state(loss.value, sample_weight=_samples(x))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch; returns the logs."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred, loss = self._run_step(self._scored, x, y, sample_weight)
        if loss is not None:
            self._loss_tracker.update_state(loss.value, sample_weight=_samples(x))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """The model's outputs for one batch."""
        return self._run_step(self._predicted, unpack_x_y_sample_weight(data)[0])

    def _differentiated(self, x: Any, y: Any, sample_weight: Any) -> tuple:
        """The model's outputs for a batch, their loss, and its gradients for all weights."""
        # As in Keras, a `call` without the argument `training` is never told.
        told = {"training": True} if self._takes_training else {}  # type: ignore[attr-defined]
        y_pred = self(x, **told)  # type: ignore[operator]
        loss = self._loss_of(x, y, y_pred, sample_weight, training=True)
        weights = self.trainable_weights  # type: ignore[attr-defined]
        gradients: list = [None] * len(weights)
        if loss.requires_grad and weights:
            gradients = grad(self.optimizer.scale_loss(loss), weights, allow_unused=True)
        elif weights and _has_rows():
            raise ValueError(
                "the loss does not depend on the model's weights, so there is nothing to "
                "train; compute it from y_pred with keras.ops, and not with NumPy."
            )
        return y_pred, loss, gradients

    def _scored(self, x: Any, y: Any, sample_weight: Any) -> tuple:
        """The model's outputs for a batch, and their loss, if there is one."""
        y_pred = self._predicted(x)
        own = type(self).compute_loss is not Trainer.compute_loss
        if self._compile_loss is None and not own and not self.losses:  # type: ignore[attr-defined]
            return y_pred, None
        return y_pred, self._loss_of(x, y, y_pred, sample_weight, training=False)

    def _predicted(self, x: Any) -> Any:
        """The model's outputs for a batch."""
        return self(x, training=False)  # type: ignore[operator]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The loss of a batch: the compiled one plus what layers and regularizers add."""
        added = self.losses  # type: ignore[attr-defined]
        rows = config.part.get()
        if rows is not None and added:
            added = [term * rows.factor for term in added] if rows.own else [Tensor(0.0)]
        if self._compile_loss is not None:
            loss = self._compile_loss(y, y_pred, sample_weight, self._output_names(y_pred))
        elif added:
            loss = added.pop(0)
        else:
            raise ValueError(
                "there is no loss to train with: pass loss= to compile, or use add_loss in a layer."
            )
        for term in added:
            loss = loss + term
        return loss

    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Tensor:
        """`compute_loss`, which a user may have written without the argument `training`."""
        if _takes_training(type(self).compute_loss):
            return self.compute_loss(x, y, y_pred, sample_weight, training=training)
        return self.compute_loss(x, y, y_pred, sample_weight)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Adds a batch to the compiled metrics and returns all results."""
        if self._compile_metrics is not None and y is not None:
            self._compile_metrics.update_state(y, y_pred, sample_weight, self._output_names(y_pred))
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """The metrics so far, by name: the loss first."""
        return flat({metric.name: metric.result() for metric in self.metrics})

    @property
    def metrics(self) -> list:
        """The loss' mean, the compiled ones (as one), outputs' losses, those that layers hold."""
        found: list = [] if self._loss_tracker is None else [self._loss_tracker]
        if self._compile_metrics is not None and self._compile_metrics.wanted:
            found.append(self._compile_metrics)
        if self._compile_loss is not None:
            found += self._compile_loss.trackers
        # A model in this one has been, or may be, trained by itself: its metrics are its own.
        held = self._inventory().held(metrics_module.Metric, Trainer)  # type: ignore[attr-defined]
        return found + [metric for metric in held if metric is not self._loss_tracker]

    @property
    def metrics_names(self) -> list[str]:
        return [metric.name for metric in self.metrics]

    def reset_metrics(self) -> None:
        """Starts all metrics again."""
        for metric in self.metrics:
            metric.reset_state()

    # --- loops -----------------------------------------------------------------------------------

    @where_the_model_is
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> History:
        """Trains the model.

        Args:
            x: the inputs: an array (or a list or dictionary of them), a generator or iterable of
                `(x, y)` or `(x, y, sample_weight)`, or a `PyDataset`.
            y: the targets, with arrays.
            batch_size: samples per step, 32 if left out.
            epochs: passes over the data; training ends at this number, counted from 0.
            verbose: 0 silent, 1 a progress bar, 2 a line per epoch; "auto" is 1.
            callbacks: a list of `keras.callbacks.Callback`.
            validation_split: the last part of the arrays to validate on, as a fraction.
            validation_data: `(x, y)`, `(x, y, sample_weight)`, or an iterable of batches.
            shuffle: put the samples in a new order every epoch.
            class_weight: a factor of the loss per class number; not with `sample_weight`.
            sample_weight: a factor of the loss per sample.
            initial_epoch: the number of the first epoch, to resume.
            steps_per_epoch: the steps of an epoch, for sources without an end.
            validation_steps, validation_batch_size: the same for validation.
            validation_freq: validate every so many epochs, or in the epochs of a list, from 1.

        Returns:
            A `History`: its `.history` has a list with one number per epoch for every log.
        """
        self._check_compiled("fit")
        if not isinstance(epochs, (int, np.integer)) or epochs < 0:
            raise ValueError(f"fit: epochs must be a whole number, got {epochs!r}.")
        epochs = limited("epochs", epochs)  # type: ignore[assignment]
        crew = distribution.crew(self.optimizer)
        verbose = crew.verbose(verbose)
        seed = crew.agree(draw_seed()) if shuffle else None
        source, validation = training_data(
            (x, y, sample_weight), batch_size, steps_per_epoch, seed,
            validation_data, validation_split, validation_steps, validation_batch_size,
        )  # fmt: skip
        steps_per_epoch = limited("steps_per_epoch", steps_per_epoch, source.steps)
        steps_per_epoch = crew.steps(source, steps_per_epoch)
        if validation is not None:
            validation_steps = limited("steps_per_epoch", validation_steps, validation.steps)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks, add_history=True, add_progbar=verbose != 0, model=self, verbose=verbose,
                epochs=epochs, steps=steps_per_epoch or source.steps,
            )  # fmt: skip
        self.stop_training = False
        self._resumed = None  # set by BackupAndRestore when it resumes
        self._position = position = Position(self, crew, source, callbacks.callbacks, initial_epoch)
        self._warn_of_idle_layers()
        callbacks.on_train_begin()
        if crew.shares:
            self._build_on(source)
        crew.begin(
            self, source, validation, callbacks=callbacks.callbacks, epochs=epochs,
            steps=steps_per_epoch,
        )  # fmt: skip
        position.restore(crew.agree(self._resumed))
        source = crew.share(source, training=True)
        validation = None if validation is None else crew.share(validation)

        def with_validation(epoch: int, logs: dict) -> dict:
            if validation is None or not is_due(epoch, validation_freq):
                return logs
            return with_scores(logs, self._evaluate(validation, validation_steps, callbacks, crew))

        stream = Stream(source, steps_per_epoch)
        logs = self._train_epochs(stream, epochs, callbacks, class_weight, with_validation, crew)
        self.optimizer.finalize_variable_values(self.trainable_weights)  # type: ignore[attr-defined]
        callbacks.on_train_end(logs)
        self._position = None
        return self.history

    def _train_epochs(
        self,
        stream: Stream,
        epochs: int,
        callbacks: CallbackList,
        class_weight: Any,
        with_validation: Callable[[int, dict], dict],
        crew: Any,
    ) -> dict:
        """Trains until the last epoch, the end of the data or a callback's word."""
        logs: dict = {}
        position: Any = self._position
        while position.epoch < epochs and not self.stop_training:
            epoch = position.epoch
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            batches = stream.epoch(epoch, position.step)
            logs = self._train_epoch(batches, callbacks, class_weight, crew, position)
            crew.settle(self)
            position.epoch, position.step = epoch + 1, 0
            if stream.exhausted and not logs:
                break
            logs = with_validation(epoch, logs)
            callbacks.on_epoch_end(epoch, logs)
            stream.source.end_epoch()
            self.stop_training = crew.stops(self.stop_training)
            if stream.exhausted:
                break
        return logs

    def _train_epoch(
        self,
        data: Iterator,
        callbacks: CallbackList,
        class_weight: Any,
        crew: Any,
        position: Position,
    ) -> dict:
        logs: dict = {}
        together = crew.listens(callbacks, "on_train_batch_end")
        for step, batch in enumerate(data, position.step):
            position.step = step
            callbacks.on_train_batch_begin(step)
            logs = self._train_batch(batch, class_weight)
            if position.add_metrics():
                logs = self._readable(self.get_metrics_result())
            if together and (crew.company or callbacks.reads_logs()):
                logs = crew.logs(self, as_floats(logs))
            callbacks.on_train_batch_end(step, logs)
            if together:
                # A rank that stopped by itself would leave the others waiting.
                self.stop_training = crew.stops(self.stop_training)
                if self.stop_training:
                    break
        if config.get_device() == "cuda":
            logs = as_floats(logs)
        return logs if together or not logs else dict(crew.logs(self, logs))

    def _build_on(self, source: Batches) -> None:
        """Makes the weights of a model that takes its shapes from the data."""
        if not self.built and isinstance(source, RowBatches):  # type: ignore[attr-defined]
            with config.no_grad():
                self(self._as_tensors(source.batch(slice(0, 1))[0])[0])  # type: ignore[operator]

    def _train_batch(self, batch: tuple, class_weight: Any) -> dict:
        if isinstance(batch, Shards):
            # The random numbers of a step are those of the whole batch, so all parts start alike.
            rewind = distribution.rewinding(self)
            all_logs = []
            for shard in batch:
                rewind()
                all_logs.append(self._train_batch(shard, class_weight))
            return {name: mean_of_parts([logs[name] for logs in all_logs]) for name in all_logs[0]}
        if isinstance(batch, Shard):
            with config.working_on(batch.part):
                return self._train_batch(tuple(batch), class_weight)
        x, y, sample_weight = batch
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(
                    "class_weight and sample_weight cannot be given together; multiply the weights "
                    "of the classes into sample_weight."
                )
            sample_weight = class_weights(y, class_weight)
        self._clear_losses()  # type: ignore[attr-defined]
        if config.get_device() == "cuda":
            return self._readable(self._on_gpu().train((x, y, sample_weight)))
        data = pack_x_y_sample_weight(*tensors_of(x, y, sample_weight))
        return self._readable(_results("train_step", self.train_step(data)))

    def _warn_of_idle_layers(self) -> None:
        """Says what Keras keeps to itself: which layers will not know that this is training."""
        own_step = type(self).train_step is not Trainer.train_step
        if self._takes_training or own_step:  # type: ignore[attr-defined]
            return
        layers = self._inventory().layers  # type: ignore[attr-defined]
        idle = [layer.name for layer in layers if layer.acts_in_training]
        if idle:
            warnings.warn(
                f"fit: {type(self).__name__}.call has no argument 'training', so {', '.join(idle)} "
                "do what they do in predict, as in Keras; write def call(self, inputs, "
                "training=None).",
                stacklevel=3,
            )

    def _readable(self, results: dict) -> dict[str, Any]:
        """Logs as floats; on a GPU as tensors there, which become floats when they are read."""
        return by_name(results) if config.get_device() == "cuda" else as_floats(results)

    @where_the_model_is
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **old_arguments: Any,
    ) -> Any:
        """The loss and metrics on data; the arguments are those of `fit`.

        Returns:
            A list with the loss first (or the loss alone without metrics), or a dictionary.
        """
        self._check_compiled("evaluate")
        source = batches(x, y, sample_weight, batch_size, steps)
        steps = limited("steps_per_epoch", steps, source.steps)
        crew = distribution.crew()
        verbose = crew.verbose(verbose)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks, add_progbar=verbose != 0, model=self, verbose=verbose, epochs=1,
                steps=steps or source.steps,
            )  # fmt: skip
        logs = self._evaluate(crew.share(source), steps, callbacks, crew)
        return self._in_order(logs, return_dict)

    def _evaluate(
        self, source: Batches, steps: int | None, callbacks: CallbackList, crew: Any
    ) -> dict:
        self.reset_metrics()
        callbacks.on_test_begin()
        logs: dict = {}
        together = crew.shares and crew.listens(callbacks, "on_test_batch_end")
        with config.no_grad():
            for step, batch in enumerate(islice(source.epoch(0), steps)):
                callbacks.on_test_batch_begin(step)
                self._clear_losses()  # type: ignore[attr-defined]
                with config.working_on(getattr(batch, "part", None)):
                    data = pack_x_y_sample_weight(*self._as_tensors(*batch))
                    logs = by_name(_results("test_step", self.test_step(data)))
                if together or config.get_device() == "cpu":
                    logs = as_floats(logs)
                if together:
                    logs = crew.logs(self, logs)
                callbacks.on_test_batch_end(step, logs)
        logs = as_floats(logs)
        if logs and not together:
            logs = crew.logs(self, logs)
        callbacks.on_test_end(logs)
        return dict(logs)

    @where_the_model_is
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for all samples, as NumPy arrays in the structure of the outputs."""
        source = batches(x, batch_size=batch_size, steps=steps)
        steps = limited("steps_per_epoch", steps, source.steps)
        crew = distribution.crew()
        verbose = crew.verbose(verbose)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks, add_progbar=verbose != 0, model=self, verbose=verbose, epochs=1,
                steps=steps or source.steps,
            )  # fmt: skip
        parts: list[list] = []
        counts: list[int] = []
        structure: Any = None
        callbacks.on_predict_begin()
        with config.no_grad():
            for step, (inputs, _, _) in enumerate(islice(crew.share(source).epoch(0), steps)):
                callbacks.on_predict_batch_begin(step)
                data = pack_x_y_sample_weight(*self._as_tensors(inputs))
                structure = self.predict_step(data)
                parts.append([kernels.to_host(_array(y)) for y in flatten(structure)])
                counts.append(len(parts[-1][0]))
                rows = iter(parts[-1])
                outputs = map_structure(lambda _: next(rows), structure)  # noqa: B023
                callbacks.on_predict_batch_end(step, flat({"outputs": outputs}))
        callbacks.on_predict_end()
        if not parts:
            raise ValueError("predict: the data gave no batch.")
        whole = iter(crew.whole([np.concatenate(pieces) for pieces in zip(*parts)], counts))
        return map_structure(lambda _: next(whole), structure)

    # --- single batches --------------------------------------------------------------------------

    @where_the_model_is
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Trains on one batch; returns its loss and metrics."""
        self._check_compiled("train_on_batch")
        batch = distribution.part_of_batch(only_batch(x, y, sample_weight))
        self.reset_metrics()
        logs = self._train_batch(batch, class_weight)
        logs = distribution.crew(self.optimizer).logs(self, logs)
        return self._in_order(logs, return_dict)

    @where_the_model_is
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Scores one batch; returns its loss and metrics."""
        self._check_compiled("test_on_batch")
        self.reset_metrics()
        with config.no_grad():
            self._clear_losses()  # type: ignore[attr-defined]
            batch = self._as_tensors(*only_batch(x, y, sample_weight))
            logs = as_floats(self.test_step(pack_x_y_sample_weight(*batch)))
        return self._in_order(logs, return_dict)

    @where_the_model_is
    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as NumPy arrays."""
        with config.no_grad():
            data = pack_x_y_sample_weight(*self._as_tensors(only_batch(x)[0]))
            outputs = self.predict_step(data)
        return map_structure(lambda y: kernels.to_host(_array(y)).copy(), outputs)

    def _in_order(self, logs: dict, return_dict: bool) -> Any:
        """The logs, or their values in the order of the metrics: the loss first."""
        if return_dict:
            return logs
        names: list[str] = []
        for metric in self.metrics:
            compiled = metric is self._compile_metrics
            names += [m.name for m in metric.metrics] if compiled else [metric.name]
        rest = sorted(logs.keys() - set(names))  # as in Keras, those of single outputs
        values = [logs[name] for name in (*names, *rest) if name in logs]
        return values[0] if len(values) == 1 else values


@lru_cache
def _takes_training(function: Callable) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)


def _results(step: str, results: Any) -> dict:
    if not isinstance(results, dict):
        raise TypeError(
            f"{step} returned {results!r}, expected a dictionary of results by name, such as "
            "{'loss': loss}."
        )
    return results


def _has_rows() -> bool:
    """Whether there is anything in this process' part of the batch."""
    rows = config.part.get()
    return rows is None or rows.own > 0


def _samples(x: Any) -> float:
    """The samples that this batch's loss stands for: of a shared batch, an even share."""
    rows = config.part.get()
    return len(flatten(x)[0]) if rows is None else rows.even


def _array(y: Any) -> Any:
    return y.value if isinstance(y, Tensor) else y
