"""Models as estimators of scikit-learn: for its pipelines, its scores, its grid search.

Needs scikit-learn 1.6 or newer: `pip install 'minitorch_ciml[sklearn]'`. It is imported with this
module, which nothing else of the package imports.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from minitorch_ciml.keras.models import Model, clone_model

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.utils.multiclass import type_of_target
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise ImportError(
        "keras.wrappers needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'."
    ) from None

__all__ = ["SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"]


class _Wrapper(BaseEstimator):
    """A model with scikit-learn's methods.

    Args:
        model: a compiled model, which every `fit` clones, with new weights; or a function
            `model(X, y, ...)` that makes one.
        warm_start: a second `fit` goes on with the weights of the first.
        model_kwargs: what the function is called with besides X and y.
        fit_kwargs: what `model.fit` is called with; arguments of `fit` come first.

    Attributes:
        model_: the trained model.
        history_: the `History` of its training.
    """

    def __init__(
        self,
        model: Any,
        warm_start: bool = False,
        model_kwargs: dict | None = None,
        fit_kwargs: dict | None = None,
    ):
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags

    def __sklearn_clone__(self) -> Any:
        """What `sklearn.base.clone` gives: the same arguments, not trained."""
        kwargs = copy.deepcopy((self.model_kwargs, self.fit_kwargs))
        return type(self)(self.model, self.warm_start, *kwargs)

    def fit(self, X: Any, y: Any, **kwargs: Any) -> Any:
        """Trains the model on X (N, ...) and y (N,) or (N, outputs); returns the estimator."""
        X, y = validate_data(self, X, y, multi_output=True)
        y = self._targets(y)
        model = self._model(X, y)
        if not model.compiled or model.loss is None or model.optimizer is None:
            raise RuntimeError(
                f"{type(self).__name__}: the model must be compiled with a loss and an optimizer."
            )
        self.history_ = model.fit(X, y, **{**(self.fit_kwargs or {}), **kwargs})
        self.model_ = model
        return self

    def _model(self, X: np.ndarray, y: np.ndarray) -> Any:
        if self.warm_start and hasattr(self, "model_"):
            return self.model_
        if isinstance(self.model, Model):
            return clone_model(self.model)
        return self.model(X=X, y=y, **(self.model_kwargs or {}))

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """y as the model takes it, (N, outputs); remembers how it was."""
        self._flat = y.ndim == 1
        return y.reshape(len(y), -1)

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.model_.predict(validate_data(self, X, reset=False))

    @property
    def epoch_(self) -> int:
        """How many epochs the last `fit` has trained."""
        return len(self.history_.epoch) if hasattr(self, "history_") else 0


class SKLearnClassifier(ClassifierMixin, _Wrapper):
    """A classifier: the model has an output for every class, and learns one-hot codes.

    Args:
        model, warm_start, model_kwargs, fit_kwargs: see `_Wrapper`.

    Attributes:
        classes_: the labels, in the order of the model's outputs.
    """

    def _targets(self, y: np.ndarray) -> np.ndarray:
        kind = type_of_target(y, raise_unknown=True)
        if kind not in ("binary", "multiclass"):
            raise ValueError(
                f"SKLearnClassifier: the labels are {kind}; only binary and multiclass ones can "
                "be learned."
            )
        self.classes_ = np.unique(y)
        if len(self.classes_) == 1:
            raise ValueError("SKLearnClassifier: there is only one class in the labels.")
        self._encoder = OneHotEncoder(sparse_output=False)
        return self._encoder.fit_transform(super()._targets(y))

    def predict(self, X: Any) -> np.ndarray:
        """The labels (N,) whose outputs are largest."""
        labels = self._encoder.inverse_transform(self.decision_function(X))
        return labels[:, 0] if self._flat else labels

    def decision_function(self, X: Any) -> np.ndarray:
        """The model's outputs (N, classes)."""
        return self._outputs(X)


class SKLearnRegressor(RegressorMixin, _Wrapper):
    """A regressor: the model's outputs are the predictions.

    Args:
        model, warm_start, model_kwargs, fit_kwargs: see `_Wrapper`.
    """

    def predict(self, X: Any) -> np.ndarray:
        """The predictions (N,) or (N, outputs), as the targets were."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat and outputs.ndim == 2 else outputs


class SKLearnTransformer(TransformerMixin, _Wrapper):
    """A transformer: the model's outputs are the new features.

    Args:
        model, warm_start, model_kwargs, fit_kwargs: see `_Wrapper`.
    """

    def transform(self, X: Any) -> np.ndarray:
        """The model's outputs for X."""
        return self._outputs(X)
