"""`compile`: how a model is to be trained, and what of that goes into its file."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import signature
from typing import Any

from minitorch_ciml.keras import metrics as metrics_module
from minitorch_ciml.keras import optimizers
from minitorch_ciml.keras.models.losses_and_metrics import (
    CompiledLoss,
    CompiledMetrics,
    Names,
    output_names,
)
from minitorch_ciml.keras.models.programs import Programs
from minitorch_ciml.keras.models.stepper import Stepper

# Arguments of Keras 2, Horovod and graph mode that change nothing here.
_OLD_COMPILE_ARGUMENTS = {"experimental_run_tf_function", "target_tensors", "sample_weight_mode"}


class Compiled:
    """Mixed into `Trainer`: the optimizer, the loss and the metrics."""

    optimizer: Any = None
    compiled: bool = False
    stop_training: bool = False
    _compile_loss: CompiledLoss | None = None
    _compile_metrics: CompiledMetrics | None = None
    _loss_tracker: Any = None
    _compile_arguments: dict | None = None
    _stepper: Stepper | None = None
    _programs: dict[str, Programs] | None = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
        **old_arguments: Any,
    ) -> None:
        """Settles how the model is trained.

        Args:
            optimizer: a name such as "adam", or an optimizer.
            loss: a name, a loss, a function `loss(y_true, y_pred)`, or one per output (list, or
                dictionary by output name).
            loss_weights: factors of the outputs' losses.
            metrics: names, metrics or functions to report; per output for several outputs.
            weighted_metrics: metrics that take sample weights into account.
            run_eagerly: True: every layer is called for itself, and no step is recorded.
            jit_compile: "auto": record a step where all of it is this package's own; True: also
                with the user's own Python code in it, which then runs no more; False: never.
            auto_scale_loss: train a model of the policy "mixed_float16" with a
                `LossScaleOptimizer` around the optimizer.
            steps_per_execution: accepted as in Keras; steps are always made one by one.
        """
        unknown = set(old_arguments) - _OLD_COMPILE_ARGUMENTS
        if unknown:
            known = list(signature(Compiled.compile).parameters)[1:-1]
            name = sorted(unknown)[0]
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
            raise TypeError(f"compile: unknown argument {name!r}; {hint}")
        self.optimizer = optimizers.get(optimizer)
        in_float16 = self.dtype_policy.name == "mixed_float16"  # type: ignore[attr-defined]
        scaled = isinstance(self.optimizer, optimizers.LossScaleOptimizer)
        if auto_scale_loss and in_float16 and self.optimizer is not None and not scaled:
            self.optimizer = optimizers.LossScaleOptimizer(
                self.optimizer, name="loss_scale_optimizer"
            )
        names = self._output_names(None)
        self._compile_loss = CompiledLoss(loss, loss_weights) if loss is not None else None
        if self._compile_loss is not None and names:
            self._compile_loss.build(len(names), names)
        self._compile_metrics = CompiledMetrics(metrics, weighted_metrics)
        self._loss_tracker = metrics_module.Mean(name="loss")
        self._compile_arguments = {
            "optimizer": self.optimizer,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "jit_compile": jit_compile,
        }
        self._stepper = self._programs = None
        self.compiled = True
        self.stop_training = False

    @property
    def run_eagerly(self) -> bool:
        """What `compile` was told."""
        return self._compile_arguments is not None and self._compile_arguments["run_eagerly"]

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self._compile_anew(run_eagerly=value)

    @property
    def jit_compile(self) -> bool:
        """Whether `compile` was told so; "auto" is no."""
        return (self._compile_arguments or {}).get("jit_compile") is True

    @jit_compile.setter
    def jit_compile(self, value: Any) -> None:
        self._compile_anew(jit_compile=value)

    def _compile_anew(self, **arguments: Any) -> None:
        """Changes how steps are made, and nothing else."""
        self._check_compiled(next(iter(arguments)))
        self._compile_arguments |= arguments  # type: ignore[operator]
        self._stepper = self._programs = None

    @property
    def loss(self) -> Any:
        """The loss as `compile` was given it, or None."""
        return (self._compile_arguments or {}).get("loss")

    def _check_compiled(self, what: str) -> None:
        if not self.compiled:
            raise ValueError(f"{what}: call compile(optimizer=..., loss=...) first.")

    def _output_names(self, y_pred: Any) -> Names:
        """The names of the outputs, None for those that have none."""
        graph = self.__dict__.get("_graph")
        if graph is not None:
            return graph.output_names
        return [] if y_pred is None else output_names(y_pred)

    def get_compile_config(self) -> dict | None:
        """The arguments of `compile` as plain data, or None."""
        from minitorch_ciml.keras.serialization import serialize_keras_object

        if not self.compiled:
            return None
        return serialize_keras_object(self._compile_arguments)

    def compile_from_config(self, config: dict) -> None:
        """Compiles with the arguments that `get_compile_config` gave."""
        from minitorch_ciml.keras.serialization import deserialize_keras_object

        self.compile(**deserialize_keras_object(config))
