"""Model: layers between inputs and outputs, and the methods that train, evaluate and use them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import config, graph, seeds, tree
from nnpy.graph import Parameter, Shape, Tensor
from nnpy.layers import calling
from nnpy.layers.base import Layer, same
from nnpy.layers.calling import Calling
from nnpy.layers.inputs import InputLayer
from nnpy.locks import making
from nnpy.structure import (
    Again,
    Structure,
    Traced,
    describe,
    fits,
    input_like,
    keys_of,
    names_of,
    pack,
    rebuild,
    tensors_of,
    trace,
)
from nnpy.training.engine import Engine
from nnpy.training.settings import Settings
from nnpy.training.training import Training

if TYPE_CHECKING:
    from nnpy.callbacks.base import Callback
    from nnpy.callbacks.history import History
    from nnpy.insight.explain import Explanation
    from nnpy.insight.probe import Probe


_OURS = (__name__, "nnpy.sequential")


class Model(Layer):
    """``Model(inputs, outputs)``: any graph of layers between them; each a Tensor, or a list or dict of Tensors.

    The keys of dicts are the names of inputs and outputs: data may come in dicts with these keys, and ``predict`` gives
    one. A model is a layer: called on tensors it applies its layers to them, with the same weights. A subclass may
    define ``call(x)`` on layers kept as attributes instead; it is traced when the shape of its input is known.
    ``seed``: what is drawn for this model (weights of layers that are built with it, dropout, shuffling) comes from a
    seed of its own, not from ``set_seed``. Raises TypeError or ValueError for inputs that are not Inputs or outputs
    that they do not lead to.
    """

    _structure: Structure | None
    _engine: Engine | None
    _settings: Settings | None
    _fast: dict[Any, Any]
    dtype: str
    _training: Training
    seed: int | None
    _source: seeds.Source | None
    supports_masking = True
    _numbers_hint = "for numbers call predict(x)"

    def _prepare(self) -> None:
        self._structure = self._engine = self._settings = self.seed = self._source = None
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
        if not trainable:
            self.trainable = False

    # structure

    def _connect(self, given: Any, result: Any, traced: Traced | None = None, again: Again | None = None) -> None:
        """``again``: runs the layers, where that is code and not the calls between the tensors; ``traced``: its run."""
        self._ensure_name()
        inputs, outputs = tensors_of(given, f"{self}: inputs"), tensors_of(result, f"{self}: outputs")
        input_keys, output_keys = keys_of(given, f"{self}: inputs"), keys_of(result, f"{self}: outputs")
        if not inputs or not outputs:
            raise ValueError(f"{self}: expected at least one input and one output")
        if len(set(inputs)) < len(inputs):
            raise ValueError(f"{self}: expected inputs that differ, got one of them twice")
        if any(tensor.node is None and tensor.call is None for tensor in inputs):
            raise TypeError(f"{self}: expected inputs made by Input(shape) or a layer")
        structure = trace(str(self), inputs, traced or Traced(outputs), again)
        if any(tensor.node is not None for tensor in inputs):  # from the middle of another graph: a graph of its own
            fresh = [t if t.node is None else input_like(t) for t in inputs]
            structure = trace(str(self), fresh, Traced(structure.replay(fresh)))
        structure.input_keys, structure.output_keys = input_keys, output_keys
        _ = structure.names  # refuses those that the user gave twice
        with seeds.using(self._source):
            _ = structure.for_training  # it may build layers that inference does not have
        self._structure = structure
        self._forget()
        self.built = True

    def _grow(self) -> None:
        """Make the structure, where it is known how and was not needed yet."""

    def _forget(self) -> None:
        """Programs no longer fit, and the optimizer begins anew: the structure has changed."""
        self._engine = None
        self._fast.clear()
        self._training.reset(self._training.seed)

    @property
    def structure(self) -> Structure:
        """Raises ValueError if the model is not built."""
        if self._structure is None:
            with making(self):
                if self._structure is None:  # nor made by another thread meanwhile
                    self._grow()
        if self._structure is None:
            raise ValueError(
                f"{self}: not built: its input's shape is not known yet; "
                "begin with Input(shape), or call build((None, ...)) or fit"
            )
        return self._structure

    @property
    def inputs(self) -> list[Tensor]:
        return list(self.structure.inputs)

    @property
    def outputs(self) -> list[Tensor]:
        return list(self.structure.outputs)

    @property
    def input_names(self) -> list[str]:
        return self.structure.input_names

    @property
    def output_names(self) -> list[str]:
        return self.structure.output_names

    def _of_first_call(self, name: str) -> Any:
        """``input`` and ``output`` are those that it was made of: a tensor, a list or a dict."""
        try:
            structure = self.structure
        except ValueError:
            raise AttributeError(f"{self}: has no {name} before it is built") from None
        return structure.packed(structure.outputs) if name == "output" else pack(structure.inputs, structure.input_keys)

    @property
    def input_shape(self) -> Shape | list[Shape]:
        shapes = [tensor.shape for tensor in self.structure.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Shape | list[Shape]:
        shapes = [tensor.shape for tensor in self.structure.outputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def layers(self) -> list[Layer]:
        """The layers, operands first; Inputs are among them."""
        return list(self._structure.layers) if self._structure is not None else super().sublayers()

    @property
    def is_code(self) -> bool:
        """Whether a subclass's ``call`` says what it computes, not the calls between inputs and outputs."""
        return type(self).call is not Model.call

    @property
    def follows_program(self) -> bool:  # type: ignore[override]
        return not self.is_code

    @property
    def needs_sizes(self) -> bool:  # type: ignore[override]
        return self.is_code

    def sublayers(self) -> list[Layer]:
        layers = dict.fromkeys(self.layers)
        if self.is_code:  # layers that it uses while training alone, or not at all
            layers.update(dict.fromkeys(super().sublayers()))
        return list(layers)

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, those of layers inside it too, and those of other layers that it computes with; each once."""
        found = dict.fromkeys(super().weights)
        if self._structure is not None:
            found.update(dict.fromkeys(self._structure.parameters))
        return list(found)

    def _names(self) -> dict[Layer, str]:
        return names_of(str(self), self.layers) if self._structure is None else self._structure.names

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or its position in ``layers``. Raises ValueError if there is none."""
        if (name is None) == (index is None):
            raise ValueError(f"{self}: get_layer: expected a name or an index")
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"{self}: expected an index below {len(layers)}, the number of layers, got {index}")
            return layers[index]
        names = self._names()
        for layer in layers:
            if names[layer] == name:
                return layer
        raise ValueError(f"{self}: no layer {name!r}; there are {', '.join(repr(names[layer]) for layer in layers)}")

    def build(self, input_shape: Any) -> None:
        """Build for samples of ``input_shape[1:]`` (before it the batch, None). Several inputs: a list of shapes, or a
        dict if ``call`` takes one. A subclass may make its layers here."""

    def _finish_build(self, input_shape: Any = None, *others: Any) -> None:
        if self._structure is None:
            with seeds.using(self._source):
                calling.run(self._tracing(input_shape))

    def _built_by(self, shapes: Any, arguments: Mapping[str, Any]) -> Calling:
        if type(self).build.__module__ in _OURS:  # no user's code: a generator of the calls
            yield from self._tracing(shapes)
            self.built = True
        else:
            yield from super()._built_by(shapes, arguments)

    def _tracing(self, input_shape: Any) -> Calling:
        """Runs ``call`` on new Inputs of a shape (a list or dict of shapes)."""
        self._ensure_name()
        if isinstance(input_shape, Mapping):
            given: Any = {key: InputLayer(shape[1:], name=key).make() for key, shape in input_shape.items()}
        else:
            several = bool(input_shape) and isinstance(input_shape[0], (list, tuple))
            shapes = list(input_shape) if several else [input_shape]
            stem = "input" if len(shapes) == 1 else "input_{}"
            inputs = [InputLayer.automatic(shape[1:], stem.format(i)).make() for i, shape in enumerate(shapes)]
            given = inputs if several else inputs[0]

        def again(inputs: Sequence[Tensor]) -> Traced:
            return self._run_code(_refilled(given, inputs))[1]

        with calling.tracing(False):
            result, traced = self._run_code(given)
        self._connect(given, result, traced, again)
        return
        yield

    def _run_code(self, given: Any) -> tuple[Any, Traced]:
        """What a subclass's ``call`` gives for Inputs."""
        with graph.scope(self.name) as scope, seeds.using(self._source), calling.called_by(self):
            bound = calling.signature_of(type(self).call).bind(self, (given,), {})
            if bound.wants("training"):
                bound.give("training", calling.decide(False))
            args, kwargs = bound.given()
            result = self.call(*args, **kwargs)
        self._ran = True
        outputs = tensors_of(result, f"{self}: outputs")
        return result, Traced(outputs, tuple(scope.losses), tuple(scope.effects), scope.asks)

    def _applied(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Calling:
        if self.is_code:
            return (yield from super()._applied(args, kwargs))
        return (yield from self._replayed(*_read(*args, **kwargs)))

    def _replayed(self, inputs: Any, mask: Any) -> Calling:
        """What its layers give for tensors, which have ``mask`` if it is given."""
        structure = self.structure
        tensors = self._taken(inputs, mask, structure.inputs, structure.input_names)
        with calling.called_by(None):
            results = yield from structure.replaying(tensors)
        return structure.packed(results)

    def _taken(self, inputs: Any, mask: Any, wanted: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
        """What it is called on, in the order of its inputs, with its masks. ValueError for others than it has."""
        if isinstance(inputs, Mapping) and set(inputs) != set(names):
            raise ValueError(f"{self}: expected inputs {list(names)}, got {sorted(map(str, inputs))}")
        tensors = tensors_of(inputs, f"{self}: input", names)
        if len(tensors) != len(wanted):
            raise ValueError(f"{self}: expected {len(wanted)} inputs, got {len(tensors)}")
        for tensor, expected in zip(tensors, wanted, strict=True):
            if not fits(tensor.shape, expected.shape):
                raise ValueError(
                    f"{self}: expected input {expected.name!r} of shape {expected.shape}, got {tensor.shape}"
                )
        if mask is None:
            return tensors
        masks = [mask[name] for name in names] if isinstance(mask, Mapping) else tree.leaves(mask)
        return [_masked(tensor, own) for tensor, own in zip(tensors, masks, strict=True)]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Its layers applied to tensors: one, a list, or a dict by the inputs' names."""
        return calling.run(self._replayed(inputs, mask))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """None: what its layers give has their masks."""
        return None

    def get_config(self) -> dict[str, Any]:
        """The structure as JSON values. Raises TypeError for a subclass, whose ``call`` is code."""
        if type(self) is not Model:
            raise TypeError(f"{self}: a subclass of Model is code; define get_config()")
        seed = {} if self.seed is None else {"seed": self.seed}
        return {"name": self.name, "graph": describe(self.structure), **seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Model:
        if "graph" not in config and cls is not Model:  # of a subclass, by its own get_config
            return super().from_config(config)
        return cls(*rebuild(config["graph"]), name=config["name"], seed=config.get("seed"))

    def entry(self) -> dict[str, Any]:
        value = super().entry()
        if self.is_code and self._structure is not None:
            structure = self._structure
            value["shapes"] = pack([list(tensor.shape) for tensor in structure.inputs], structure.input_keys)
        return value

    def summary(self, print_fn: Callable[[str], Any] = print, memory: bool = False, batch_size: int = 32) -> None:
        """Print a table of the layers, what they give, and their parameters. ``memory``: also what predicting and, for
        a compiled model, training take for batches of ``batch_size``, as planned; its input's sizes must be known."""
        from nnpy.summary import memory_of, summary

        print_fn(f"{summary(self)}\n{memory_of(self, batch_size)}" if memory else summary(self))

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
        their weights. ``seed``: of dropout and shuffling; None: the model's own, or that of ``nnpy.set_seed``. It and
        which layers are trainable are taken now: after a change of ``layer.trainable`` compile again. Raises TypeError
        or ValueError for unknown names.
        """
        settings = Settings(optimizer, loss, loss_weights, metrics, weighted_metrics)
        own = self.seed if seed is None else seeds.checked(f"{self}: compile", seed)
        if own is not None:
            settings.seed = own
        self._set(settings)

    def _set(self, settings: Settings) -> None:
        with making(self):
            before = self._engine
            engine = Engine(self, settings, before) if self._structure is not None else None
            known = before is not None and before.settings is not None and before.settings.optimizer
            if known is settings.optimizer:
                self._training.seed = settings.seed
            else:
                self._training.reset(settings.seed)
            self._settings, self._engine = settings, engine
            self._fast.clear()

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
        engine = self._engine
        if engine is None:
            with making(self):
                engine = self._engine = self._engine or Engine(self, self._settings)
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
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Iterable[int] = 1,
    ) -> History:
        """Train for ``epochs - initial_epoch`` epochs; returns the History.

        ``x``, ``y``: arrays of samples (anything with ``__array__`` or ``__dlpack__``, frames, lists; several inputs or
        outputs: a list or dict), of any real dtype; read where they are, never changed. Or ``x`` alone: an iterable of
        batches ``(x, y)`` or ``(x, y, sample_weight)``. ``batch_size``: 32 if None; a last, smaller one is a step too.
        ``validation_split``: this last part of the samples is held out. ``shuffle``: a new order every epoch, from the
        seed. ``steps_per_epoch``: an epoch ends after so many, and the next goes on through the data from there. All
        data is checked before work starts: TypeError or ValueError names what was expected and what came. Ctrl-C raises
        KeyboardInterrupt within about 0.1 s (or one step); the model stays usable, ``model.history`` is what there was.
        """
        from nnpy.training.loop import fit

        return fit(
            self, x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks,
            validation_split=validation_split, validation_data=validation_data, shuffle=shuffle,
            class_weight=class_weight, sample_weight=sample_weight, initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch, validation_steps=validation_steps,
            validation_batch_size=validation_batch_size, validation_freq=validation_freq,
        )  # fmt: skip

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

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | dict[str, float]:
        """One step on one batch; the loss and the metrics of this batch before the update."""
        from nnpy.training.loop import train_on_batch

        return _plain(train_on_batch(self, x, y, sample_weight, class_weight), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | dict[str, float]:
        """The loss and the metrics of one batch."""
        from nnpy.training.evaluation import test_on_batch

        return _plain(test_on_batch(self, x, y, sample_weight), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch."""
        from nnpy.training.evaluation import predict_on_batch

        return predict_on_batch(self, x)

    def probe(self, x: Any, y: Any = None, training: bool = False) -> Probe:
        """Every layer's activation for ``x``, and with ``y`` the gradients of the loss by these and by the weights.

        As in inference, or with ``training`` as the next step of ``fit`` would see this batch: dropout and the batch's
        own statistics; nothing is updated. See ``nnpy.insight.probe``. Copies: they stay as they are when training goes
        on.
        """
        from nnpy.insight.probe import probe

        return probe(self, x, y, training)

    # files

    def __reduce__(self) -> Any:
        """Copies and pickles are what ``save`` would write: structure, weights, optimizer state. TypeError for code."""
        from nnpy.loading import from_bytes
        from nnpy.saving import to_bytes

        return from_bytes, (to_bytes(self),)

    def save(self, path: str | os.PathLike) -> Path:
        """Write weights, structure, optimizer state and seed to ``path``, a .safetensors file, whole or not at all; all
        of one step, while another thread trains too."""
        from nnpy.saving import save

        return save(self, path)

    def save_weights(self, path: str | os.PathLike) -> Path:
        """Write the weights alone to ``path``, a .safetensors file, whole or not at all."""
        from nnpy.saving import save_weights

        return save_weights(self, path)

    def load_weights(self, path: str | os.PathLike) -> None:
        """Read weights that ``save_weights`` or ``save`` wrote. Nothing changes if a name or a shape does not fit."""
        from nnpy.loading import load_weights

        load_weights(self, path)


def _refilled(given: Any, tensors: Sequence[Tensor]) -> Any:
    """Other tensors in the places of those given."""
    left = iter(tensors)
    return tree.replace(given, lambda _: next(left))


def _read(inputs: Any, training: Any = None, mask: Any = None) -> tuple[Any, Any]:
    """Inputs and mask among the arguments of ``Model.call``; its layers take ``training`` from the call's mode."""
    return inputs, mask


def _masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """The tensor with another mask than its own."""
    if mask is None or tensor.mask is mask:
        return tensor
    view = same(tensor)
    view.mask = mask
    return view


def _plain(logs: dict[str, float], return_dict: bool) -> float | list[float] | dict[str, float]:
    if return_dict:
        return logs
    values = list(logs.values())
    return values[0] if len(values) == 1 else values
