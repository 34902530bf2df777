"""Model: layers between inputs and outputs, and the methods that train, evaluate and use them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import config, forms, seeds
from nnpy.checks import flag
from nnpy.hints import keywords
from nnpy.locks import publishing
from nnpy.network import Network
from nnpy.structure import GRAPH, describe, rebuild
from nnpy.training.engine import Engine
from nnpy.training.settings import Settings
from nnpy.training.training import Training

if TYPE_CHECKING:
    from nnpy.callbacks.base import Callback
    from nnpy.callbacks.history import History
    from nnpy.insight.explain import Explanation
    from nnpy.insight.probe import Probe


class Model(Network):
    """``Model(inputs, outputs)``: any graph of layers between them; each a Tensor, or a list or dict of Tensors.

    The keys of dicts are the names of inputs and outputs: data may come in dicts with these keys, and ``predict`` gives
    one. A model is a layer: called on tensors it applies its layers to them, with the same weights. A subclass may
    define ``call(x)`` on layers kept as attributes instead; it is traced when the shape of its input is known.
    ``seed``: what is drawn for this model (weights of layers that are built with it, dropout, shuffling) comes from a
    seed of its own, not from ``set_seed``. Raises TypeError or ValueError for inputs that are not Inputs or outputs
    that they do not lead to.
    """

    _engine: Engine | None
    _settings: Settings | None
    _fast: dict[Any, Any]
    dtype: str
    _training: Training
    _numbers_hint = "for numbers call predict(x)"

    def _prepare(self) -> None:
        super()._prepare()
        self._engine = self._settings = None
        self._fast, self.dtype, self._training = {}, config.floatx(), Training()

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        name: str | None = None,
        *,
        trainable: bool = True,
        seed: int | None = None,
        **unknown: Any,
    ):
        super().__init__(name=name, **unknown)
        if seed is not None:
            self.seed = seeds.checked(str(self), seed)
            self._source = seeds.Source(self.seed)
        if (inputs is None) != (outputs is None):
            raise TypeError(f"{self}: expected both inputs and outputs")
        if inputs is not None:
            self._connect(inputs, outputs)
        if not flag(str(self), "trainable", trainable):
            self.trainable = False

    def _forget(self) -> None:
        """Programs no longer fit, and the optimizer begins anew: the structure has changed."""
        self._engine = None
        self._fast.clear()
        self._training.reset(self._training.seed)

    @keywords
    def summary(self, *, print_fn: Callable[[str], Any] = print, memory: bool = False, batch_size: int = 32) -> None:
        """Print a table of the layers, what they give, and their parameters. ``memory``: also what predicting and, for
        a compiled model, training take for batches of ``batch_size``, as planned; its input's sizes must be known."""
        from nnpy.summary import memory_of, summary

        print_fn(f"{summary(self)}\n{memory_of(self, batch_size)}" if memory else summary(self))

    @keywords
    def profile(self, x: Any, y: Any = None, batch_size: int | None = None, steps: int = 20) -> Explanation:
        """What each op of a step takes: print it, or look at its lines. With ``y`` a training step, else a prediction,
        of the first ``batch_size`` samples (None: of all), run ``steps`` times; weights, the optimizer's state and the
        place of training stay as they are. All threads meet after each op, so that the times are a little longer than
        in a run.

        Raises TypeError or ValueError for data that does not fit, RuntimeError for a model that is not compiled.
        """
        from nnpy.insight.explain import profile

        return profile(self, x, y, batch_size, steps)

    # training

    @keywords
    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        *,
        seed: int | None = None,
    ) -> None:
        """Say how to train. Where Keras' default optimizer is "rmsprop", ours is "adam".

        ``loss``, ``metrics``, ``weighted_metrics``: a name or an object; for several outputs a list in their order or a
        dict by their names. ``loss_weights``: the factors of the outputs' losses. ``weighted_metrics`` count samples by
        their weights. ``seed``: of dropout and shuffling; None: the model's own, or that of ``nnpy.set_seed``, taken
        now. ``layer.trainable`` may change at any time, without compiling again. Raises TypeError or ValueError for
        unknown names.
        """
        settings = Settings(optimizer, loss, loss_weights, metrics, weighted_metrics)
        own = self.seed if seed is None else seeds.checked(f"{self}: compile", seed)
        if own is not None:
            settings.seed = own
        self._set(settings)

    def _set(self, settings: Settings) -> None:
        while True:
            before, structure = self._engine, self._structure
            engine = Engine(self, settings, before) if structure is not None else None
            with publishing():
                if (self._engine, self._structure) != (before, structure):
                    continue  # another thread was first
                if engine is not None and engine.goes_on_from(before):
                    self._training.seed = settings.seed
                else:
                    self._training.reset(settings.seed)
                self._settings, self._engine = settings, engine
                settings.optimizer.follow(self._training)
                self._fast.clear()
                return

    def _advice(self, name: str) -> str:
        return "; call compile(), which says how to train" if name in ("optimizer", "loss") else ""

    @property
    def optimizer(self) -> Any:
        return self.settings.optimizer

    @property
    def loss(self) -> Any:
        """The loss, or those of the outputs, as objects."""
        return self.settings.loss

    @property
    def metrics_names(self) -> list[str]:
        """What ``evaluate`` gives, in its order: "loss", each output's loss where there are several, the metrics."""
        engine = self.engine
        return list(engine.logs("test", engine.totals["test"]))

    @property
    def compiled(self) -> bool:
        return self._settings is not None

    @property
    def settings(self) -> Settings:
        """What ``compile`` was given. Raises RuntimeError before."""
        if self._settings is None:
            raise RuntimeError(f"{self}: call compile(optimizer, loss) first")
        return self._settings

    @property
    def engine(self) -> Engine:
        """The programs of the model as it is now."""
        while (engine := self._engine) is None:
            settings, structure = self._settings, self._structure
            engine = Engine(self, settings)
            with publishing():
                if (self._engine, self._settings, self._structure) == (None, settings, structure):
                    self._engine = engine
        return engine

    @property
    def training(self) -> Training:
        """Where its training stands: counters, history, what callbacks keep; to be written down and gone on with."""
        return self._training

    @property
    def history(self) -> History | None:
        """Of the last ``fit``, also of one that was interrupted; None before."""
        return self._training.history

    @property
    def stop_training(self) -> bool:
        """Set it to True in a callback, and ``fit`` ends: after the batch, and the hooks of the epoch's end."""
        return self._training.stop

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self._training.stop = bool(value)

    @keywords
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Callback | Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Iterable[int] = 1,
        *,
        resume: str | bytes | os.PathLike | None = None,
    ) -> History:
        """Train for ``epochs - initial_epoch`` epochs; returns the History.

        ``x``, ``y``: arrays of samples (anything with ``__array__`` or ``__dlpack__``, frames, lists; several inputs or
        outputs: a list or dict), of any real dtype; read where they are, never changed; ``x`` may be a sparse matrix of
        scipy. Or ``x`` alone: an iterable of batches ``(x, y)`` or ``(x, y, sample_weight)``. ``batch_size``: 32 if
        None; a last, smaller one is a step too. ``validation_split``: this last part of the samples is held out.
        ``shuffle``: a new order every epoch, from the seed. ``class_weight``: a dict {class: weight}, or "balanced", n
        / (k * count) of n targets of k classes; of labels one for each, of several outputs a dict or list of these.
        ``steps_per_epoch``: an epoch ends after so many, and the next goes on through the data from there. ``resume``:
        a file of ``BackupAndRestore``, whose run goes on, bit for bit. All data is checked before work starts:
        TypeError or ValueError names what was expected and what came. Ctrl-C raises KeyboardInterrupt within about 0.1
        s (or one step); the model stays usable, ``model.history`` is what there was.
        """
        from nnpy.training.loop import fit

        if resume is not None:
            from nnpy.callbacks.backup import Resume
            from nnpy.callbacks.base import as_list

            callbacks = [Resume(resume), *as_list(callbacks)]
        return fit(
            self, x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks,
            validation_split=validation_split, validation_data=validation_data, shuffle=shuffle,
            class_weight=class_weight, sample_weight=sample_weight, initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch, validation_steps=validation_steps,
            validation_batch_size=validation_batch_size, validation_freq=validation_freq,
        )  # fmt: skip

    @keywords
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:
        """The loss and the metrics on data: a number if there is the loss only, a list, or a dict by name.

        While another thread trains, every batch is of the weights of a whole number of steps."""
        from nnpy.training.evaluation import evaluate

        logs = evaluate(self, x, y, batch_size, verbose, sample_weight, steps, callbacks)
        return _plain(logs, return_dict)

    @keywords
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = 0,
        steps: int | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
    ) -> Any:
        """The outputs for samples ``x``: a new array (samples, ...), a list of them for several outputs, or a dict of
        them where the outputs have keys.

        ``batch_size``: 32 if None. Silent unless ``verbose`` is 1 or 2. While another thread trains, every row is of
        the weights of a whole number of steps; of more than 50 ms, rows may be of different ones. Raises TypeError or
        ValueError for wrong data.
        """
        if batch_size is None and type(x) is np.ndarray and callbacks is None and not verbose and steps is None:
            program = self._fast.get((x.shape, x.strides, x.dtype))
            if program is not None and (result := program.predict(x)) is not None:
                return result
        from nnpy.training.evaluation import predict

        return predict(self, x, batch_size, verbose, steps, callbacks)

    @keywords
    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | dict[str, float]:
        """One step on one batch; the loss and the metrics of this batch before the update."""
        from nnpy.training.loop import train_on_batch

        return _plain(train_on_batch(self, x, y, sample_weight, class_weight), return_dict)

    @keywords
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | dict[str, float]:
        """The loss and the metrics of one batch."""
        from nnpy.training.evaluation import test_on_batch

        return _plain(test_on_batch(self, x, y, sample_weight), return_dict)

    @keywords
    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch."""
        from nnpy.training.evaluation import predict_on_batch

        return predict_on_batch(self, x)

    @keywords
    def probe(self, x: Any, y: Any = None, training: bool = False, upstream: Any = None) -> Probe:
        """Every layer's activation for ``x``, and with ``y`` the gradients of the loss by these and by the weights.

        ``upstream``: arrays of the outputs' shapes, in the place of ``y`` and of a loss: the gradients are those of the
        sum of outputs times these; the model need not be compiled.

        As in inference, or with ``training`` as the next step of ``fit`` would see this batch: dropout and the batch's
        own statistics; nothing is updated. See ``nnpy.insight.probe``. Copies: they stay as they are when training goes
        on.
        """
        from nnpy.insight.probe import probe

        return probe(self, x, y, training, upstream)

    # files

    def get_config(self) -> dict[str, Any]:
        """The structure as JSON values; of a subclass with a constructor of its own the arguments of that, which are
        attributes of the same names. TypeError if they are not."""
        if type(self).__init__ is not Model.__init__:
            return super().get_config()
        seed = {} if self.seed is None else {"seed": self.seed}
        graph = {} if self.is_code else {"graph": describe(self.outline)}
        return {"name": self.name, **graph, **seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Model:
        forms.check_arguments(cls.__name__, config)
        if cls.__init__ is not Model.__init__ or ("graph" not in config and cls is not Model):
            return super().from_config(config)
        forms.check(cls.__name__, config, {"name": str, "graph": GRAPH, "seed?": None})
        return cls(*rebuild(cls.__name__, config["graph"]), name=config["name"], seed=config.get("seed"))

    def __reduce__(self) -> Any:
        """Copies and pickles are what ``save`` would write: structure, weights, optimizer state. TypeError for code."""
        from nnpy.loading import from_bytes
        from nnpy.saving import to_bytes

        return from_bytes, (to_bytes(self),)

    @keywords
    def save(self, path: str | bytes | os.PathLike) -> Path:
        """Write weights, structure, optimizer state and seed to ``path``, a .safetensors file, whole or not at all; all
        of one step, while another thread trains too."""
        from nnpy.saving import save

        return save(self, path)

    @keywords
    def save_weights(self, path: str | bytes | os.PathLike) -> Path:
        """Write the weights alone to ``path``, a .safetensors file, whole or not at all."""
        from nnpy.saving import save_weights

        return save_weights(self, path)

    @keywords
    def load_weights(self, path: str | bytes | os.PathLike) -> None:
        """Read weights that ``save_weights`` or ``save`` wrote. Nothing changes if a name or a shape does not fit."""
        from nnpy.loading import load_weights

        load_weights(self, path)


def _plain(logs: dict[str, float], return_dict: bool) -> float | list[float] | dict[str, float]:
    if return_dict:
        return logs
    values = list(logs.values())
    return values[0] if len(values) == 1 else values
