"""SwapEMAWeights."""

from __future__ import annotations

from typing import Any

from nnpy.callbacks.base import Callback, Logs
from nnpy.checks import flag


class SwapEMAWeights(Callback):
    """Evaluate and predict with the averages of the weights that an optimizer with ``use_ema`` keeps, and train on with
    the weights.

    ``swap_on_epoch``: the averages are in the model from the end of an epoch to the beginning of the next, so that
    callbacks that come after this one (a ``ModelCheckpoint``) find them. Raises TypeError unless it is True or False,
    ValueError for an optimizer without ``use_ema``.

    >>> x = np.linspace(0, 1, 64, dtype="float32").reshape(32, 2)
    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
    >>> history = model.fit(x, x[:, :1], validation_data=(x, x[:, :1]), callbacks=nn.SwapEMAWeights(), verbose=0)
    """

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch = flag("SwapEMAWeights", "swap_on_epoch", swap_on_epoch)

    def set_model(self, model: Any) -> None:
        if not model.optimizer.use_ema:
            raise ValueError(f"SwapEMAWeights: expected an optimizer with use_ema=True, got {model.optimizer}")
        super().set_model(model)

    def _show(self, averages: bool) -> None:
        """Let the model have the averages, or its weights."""
        engine = self.model.engine
        with engine.guard.turn():
            self.model.optimizer.show_averages(engine.claim(), averages)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._show(False)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._show(self.swap_on_epoch)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._show(True)

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._show(False)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._show(True)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._show(False)

    def get_state(self) -> dict[str, Any]:
        engine = self.model.engine
        return {"averages": True} if self.model.optimizer.shows_averages(engine.claim()) else {}

    def set_state(self, state: dict[str, Any]) -> None:
        self.model.optimizer.shows_averages(self.model.engine.claim(), bool(state["averages"]))
