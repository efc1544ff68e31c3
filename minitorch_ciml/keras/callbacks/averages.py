"""`SwapEMAWeights`: look at the averaged weights during the training."""

from __future__ import annotations

from minitorch_ciml.keras.callbacks.base import Callback, Logs


class SwapEMAWeights(Callback):
    """Puts the moving averages of the weights into the model for evaluation and prediction.

    The optimizer keeps them where it was made with `use_ema=True`. Afterwards the training goes on
    with the weights themselves.

    Args:
        swap_on_epoch: also at the end of every epoch, so that `ModelCheckpoint` (after this
            callback) saves the averages.

    Raises:
        ValueError: the optimizer keeps no averages.
    """

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._averages_are_in = False

    def _swap(self, wanted: bool) -> None:
        if self._averages_are_in == wanted:
            return
        optimizer = self.model.optimizer
        if not (optimizer.use_ema and optimizer.built):
            raise ValueError(
                "SwapEMAWeights: the optimizer keeps no averages (yet); make it with use_ema=True "
                "and train first."
            )
        optimizer.swap_average()
        self._averages_are_in = wanted

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Goes on with the weights themselves."""
        if self.swap_on_epoch:
            self._swap(False)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Puts the averages in; after the last epoch they stay."""
        if self.swap_on_epoch:
            self._swap(True)
            if epoch == self.params["epochs"] - 1:
                self.model.optimizer.keep_average()  # the end of fit takes them from there

    def on_test_begin(self, logs: Logs = None) -> None:
        """Puts the averages in."""
        self._swap(True)

    def on_test_end(self, logs: Logs = None) -> None:
        """Takes them out."""
        self._swap(False)

    on_predict_begin, on_predict_end = on_test_begin, on_test_end
