"""Layer: owns parameters and, when called on tensors, adds operations to the graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nnpy import graph, tree
from nnpy.checks import shown
from nnpy.forms import TooDeep
from nnpy.graph import Parameter, Tensor
from nnpy.hints import advise
from nnpy.layers import calling
from nnpy.layers.calling import Call, Calling
from nnpy.layers.module import Module
from nnpy.locks import Turn
from nnpy.ops.constants import scaled
from nnpy.ops.shape import open_result, view_of

# Stand-ins for sizes that may be any: with many divisors, and larger than any window.
_SIZES = (5040, 10080)


class _OfFirstCall:
    """``layer.input``, ``layer.output``. Not a property: a subclass may assign an attribute of that name."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        return self if layer is None else layer._of_first_call(self.name)


class Layer(Module):
    """Base of layers. A subclass gives ``call(x, ...)`` and, if it has weights, ``build(input_shape)`` with
    ``add_weight``.

    ``name``: automatic if None, as in Keras ("dense", "dense_1"). ``trainable``: False freezes its weights, and those
    of layers inside it. ``activity_regularizer``: a penalty on what the layer gives, the mean over the batch, is added
    to the loss. Layers and weights assigned to attributes (or in lists or dicts of attributes) are part of it.
    The attributes of a subclass that are named as its constructor's arguments are its configuration. ``input`` and
    ``output``: what its first call took (its first argument) and gave; AttributeError before.
    """

    group = "layer"
    supports_masking = False  # whether what it gives has a mask where its input has one (``compute_mask``)
    needs_sizes = True  # whether it computes with sizes: where they may be any it is tried on some (``_tried``)
    follows_program = False  # its operations ask the Program whether it trains, where no caller said ``training``
    _depth = 0  # how deep models are nested in it
    _first_call: Call | None
    _fed: tuple[Tensor, ...] = ()  # what it is called on while it is built
    _kernels_to_here: int | None = None  # layers with kernels on the way to what it gives, where it had to know
    input: Any = _OfFirstCall("input")
    output: Any = _OfFirstCall("output")

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "build" in cls.__dict__:
            cls.build = _builds(cls.build)  # type: ignore[method-assign]

    # what a subclass gives

    def check_input(self, input_shape: Any) -> None:
        """Refuse a shape (or list of shapes) that the layer cannot take: before ``build``, at every call."""

    def build(self, input_shape: Any) -> None:
        """Make the weights; called once. ``input_shape``: ``(None, ...)``, or a list or dict of shapes, as the first
        argument of ``call``. With several parameters, ``build(query_shape, value_shape)``: those of ``query``, ...
        """

    def _finish_build(self, *shapes: Any, **named: Any) -> None:
        """What comes after a subclass's ``build``."""

    def call(self, inputs: Any) -> Any:
        """Add the layer's operations to the graph: tensors (in lists, dicts) in, tensors (in lists, dicts) out.

        A parameter ``training`` is given True where the graph is for training, else False; ``mask`` the mask of the
        first argument, ``key_mask`` that of an argument ``key``; None where there is none.
        """
        raise NotImplementedError(f"{self}: a layer must define call(x)")

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The masks of what ``call`` gives, for a layer that ``supports_masking``: those of its inputs."""
        return previous_mask

    # calls

    @calling.runs_its_calling
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the layer; the first call builds it. Arguments: tensors and constants, in lists, tuples and dicts.

        ``training=``: for this call and those inside it, whatever the Program does; ``mask=``: in the place of the
        first argument's own. Raises TypeError or ValueError, naming the layer and the argument, for what does not fit.
        """
        try:
            return calling.run(self._calling(args, kwargs))
        except RecursionError as error:
            raise TooDeep(
                f"{self}: layers whose call() calls each other are nested too deep for Python's stack"
            ) from error

    _numbers_hint = "for numbers make a Model of it and call predict(x)"

    def _calling(self, args: tuple, kwargs: dict[str, Any]) -> Calling:
        """The call, as a generator of the calls inside it."""
        self._ensure_name()
        signature = calling.signature_of(type(self).call)
        bound = signature.bind(self, args, kwargs)
        arguments, training = bound.arguments, bound.training
        alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
        if not alone:
            self._check_arguments(arguments)
        first = next(iter(arguments.values()))
        shapes = _shapes(first)
        previous = bound.mask if bound.mask is not None else calling.masks_of(first)
        inputs: tuple[Tensor, ...] = args if alone else tuple(tree.tensors((args, kwargs)))
        fresh = not self.built
        unknown = self.needs_sizes and True in [tensor.is_open for tensor in inputs]
        self.check_input(_with_sizes(shapes, _SIZES[0]) if unknown else shapes)
        with graph.scope(self.name) as scope, calling.saying(training):
            if fresh:
                with Turn(self) as inside:
                    if not self.built:  # by another thread meanwhile
                        if inside:
                            raise _is_being_built(self)
                        self._fed = inputs
                        yield from self._built_by(shapes, arguments)
                        self._fed = ()
            if not signature.plain:
                if bound.wants("training"):
                    bound.give("training", calling.decide(self.follows_program))
                if bound.wants("mask"):
                    bound.give("mask", previous)
                for name in [mask.removesuffix("_mask") for mask in signature.named_masks]:
                    if name in arguments and bound.wants(f"{name}_mask", exactly=True):
                        bound.give(f"{name}_mask", calling.masks_of(arguments[name]))
            result = yield from (self._tried if unknown else self._applied)(*bound.given())
            if isinstance(result, Tensor):
                result = self._own_output(result, inputs)
                outputs: tuple[Tensor, ...] = (result,)
            else:
                result = tree.replace(result, lambda leaf: self._own_output(leaf, inputs), every=True)
                outputs = tuple(tree.leaves(result))
            self._set_masks(first, outputs, previous, signature)
            if self.activity_regularizer is not None and not unknown:
                scope.losses += [scaled(self.activity_regularizer(t), 1.0, t.sizes[:1]) for t in outputs]
        if fresh:
            self._keep()
        call = Call(
            self, args, kwargs, result, inputs, outputs, tuple(dict.fromkeys(scope.losses)),
            tuple(dict.fromkeys(scope.effects)), scope.asks,
        )  # fmt: skip
        for tensor in outputs:
            tensor.call = call
        if self._first_call is None:
            self._first_call = call
        return result

    def _check_arguments(self, arguments: Mapping[str, Any]) -> None:
        """TypeError for arguments that are neither tensors nor constants, or among which there is no tensor."""
        some = [bool(tree.tensors(value)) for value in arguments.values()]
        for position, (name, value) in enumerate(arguments.items()):
            if position == 0 and not some[0] and (not any(some) or isinstance(value, np.ndarray)):
                leaf = next(tree.leaves(value), value)
                raise TypeError(
                    f"{self}: expected a Tensor (from Input or a layer), got {shown(leaf)}; {self._numbers_hint}"
                )
            tree.check(value, f"{self}: argument {name!r}")
        if not any(some):
            raise TypeError(f"{self}: expected a Tensor (from Input or a layer), got no argument")

    def kernels_behind(self, most: int) -> int:
        """While it is built by a call: how many layers with kernels lie behind it on the longest way; ``most`` or more
        count as that. 0 where nothing is known: ``build(shape)``."""
        found, best = 0, dict[Tensor, int]()
        left = [(tensor, 0) for tensor in self._fed]
        while left and found < most:
            tensor, count = left.pop()
            if best.get(tensor, -1) >= count:
                continue
            best[tensor] = count
            call = tensor.call
            if call is not None and call.layer._kernels_to_here is not None:
                count += call.layer._kernels_to_here
            elif call is not None:
                count += sum(len(weight.shape) > 1 for weight in call.layer.weights)
                left += [(given, count) for given in call.inputs]
            elif tensor.node is not None:
                left += [(given, count) for given in tensor.node.inputs if not isinstance(given, Parameter)]
            found = max(found, count)
        self._kernels_to_here = min(found, most) + 1
        return min(found, most)

    def _built_by(self, shapes: Any, arguments: Mapping[str, Any]) -> Calling:
        """Builds the layer, as a generator of the calls that it needs."""
        for name, tie in self._tied.items():
            if isinstance(tie, list):  # from a file: the layer that has it, and its number there
                setattr(self, name, tie[0]._own_weight(tie[1], self))
        names = calling.signature_of(type(self).build).names
        if len(names) < 2:
            self.build(*([shapes] if names else []))
        else:
            known = {f"{name}_shape": value for name, value in arguments.items()}
            if missing := [name for name in names if name not in known]:
                raise TypeError(f"{self}: build: expected parameters named {', '.join(known)}, got {missing[0]}")
            self.build(**{name: _shapes(known[name]) for name in names})
        if not self.built:
            self.built = True
        return
        yield

    def _applied(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Calling:
        """What ``call`` gives, as a generator of the calls inside it; those of a user's code are not among them."""
        with calling.called_by(self):
            result = self.call(*args, **kwargs)
        if not self._ran:
            self._ran = True
        return result
        yield

    def _tried(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Calling:
        """What it gives where sizes may be any: it is called on tensors of some sizes, and of others; sizes of the
        results that differ may be any too. No Program computes these tensors: for one all sizes are known."""
        scope = graph.current_scope()
        assert scope is not None
        before = len(scope.losses), len(scope.effects)
        results = []
        for size in _SIZES:

            def sized(tensor: Tensor, size: int = size) -> Tensor:
                made = Tensor(_with_sizes(tensor.shape, size), None, tensor.name, tensor.kind)
                return tensor if isinstance(tensor, Parameter) else made

            results.append((yield from self._applied(tree.replace(args, sized), tree.replace(kwargs, sized))))
        del scope.losses[before[0] :], scope.effects[before[1] :]
        read = (t for node in graph.ordered(tree.tensors(results)) for t in node.inputs if isinstance(t, Parameter))
        given = dict.fromkeys([*tree.tensors((args, kwargs)), *read])
        others = iter(tree.tensors(results[1]))
        return tree.replace(results[0], lambda tensor: open_result(given, tensor, next(others).shape))

    def _keep(self) -> None:
        """A layer that is called for the first time inside of another one's call, and that this one does not hold, is
        part of it all the same; but a later call that makes another one makes other weights."""
        callers = calling.callers()
        if not callers or callers[-1] is None or any(layer and self in layer.sublayers() for layer in callers):
            return
        if callers[-1]._ran and self.weights:
            raise ValueError(
                f"{callers[-1]}: makes {self} anew in each call, with other weights; make it once and keep it in an "
                "attribute"
            )
        callers[-1]._found.append(self)

    def _set_masks(self, first: Any, outputs: Sequence[Tensor], previous: Any, signature: calling.Signature) -> None:
        if self.supports_masking:
            masks = self.compute_mask(first, previous)
            for tensor, mask in zip(outputs, () if masks is None else tree.leaves(masks), strict=False):
                if mask is not None and tensor.mask is None:
                    tensor.mask = mask
        elif previous is not None and not signature.takes_masks and all(t.mask is None for t in outputs):
            advise(f"{self}: does not support masking: the mask of its input ends here (supports_masking)")

    def _of_first_call(self, name: str) -> Any:
        call = self._first_call
        if call is None:
            raise AttributeError(f"{self}: has no {name} before it is called")
        return call.given if name == "input" else call.result

    def _own_output(self, tensor: Any, inputs: tuple[Tensor, ...]) -> Tensor:
        """A result that is this call's alone: a layer that returns its input, or a weight, gets a view of it."""
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{self}: expected call() to return a Tensor or a list of them, got {shown(tensor)}")
        if tensor.node is None or any(tensor is given for given in inputs):
            return same(tensor)
        return tensor

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of what the layer gives for ``(None, ...)``, or a list or dict of shapes. Builds the layer."""
        result = self(_placeholders(input_shape))
        return tree.replace(result, lambda tensor: tensor.shape)

    def add_loss(self, loss: Any) -> None:
        """Inside ``call``: add a tensor to the loss that is trained, a scalar or numbers of each sample, whose mean is
        taken. TypeError for what is no such tensor, RuntimeError outside of a call."""
        if not isinstance(loss, Tensor):
            raise TypeError(f"{self}: add_loss: expected a Tensor, got {shown(loss)}")
        if loss.shape and loss.shape[0] is not None:
            raise ValueError(f"{self}: add_loss: expected shape () or (None, ...), of each sample, got {loss.shape}")
        scope = graph.current_scope()
        if scope is None:
            raise RuntimeError(f"{self}: add_loss: expected to be called inside of a layer's call")
        scope.losses.append(loss)

    # checks for subclasses

    def one_input(self, input_shape: Any) -> None:
        """ValueError if it was called on a list of tensors."""
        if isinstance(input_shape, list):
            raise ValueError(f"{self}: expected one tensor, got a list of {len(input_shape)}")

    def several_inputs(self, input_shape: Any, least: int, most: int = 0) -> None:
        """ValueError unless it was called on a list of ``least`` ... ``most`` (0: any number of) tensors."""
        expected = "tensors" if least == 1 else f"{'' if least == most else 'at least '}{least} tensors"
        if not isinstance(input_shape, list):
            raise ValueError(f"{self}: expected a list of {expected}, as [a, b], got one tensor of shape {input_shape}")
        if len(input_shape) < least or (most and len(input_shape) > most):
            raise ValueError(f"{self}: expected a list of {expected}, got {len(input_shape)}")


def _builds(build: Callable[..., Any]) -> Callable[..., Any]:
    """``build`` as a subclass gives it: the layer is built when it is through; if it fails, nothing is left of it."""

    @functools.wraps(build)
    def wrapped(self: Layer, *args: Any, **kwargs: Any) -> Any:
        before = self.built
        with Turn(self):
            if self._before_build is not None:
                if type(self).build is wrapped:  # which no super().build(input_shape) is
                    raise _is_being_built(self)
                return build(self, *args, **kwargs)
            self._before_build = list(self._own), self.built
            try:
                if before or not self.built:  # else by another thread meanwhile, or a signal handler
                    self._ensure_name()
                    build(self, *args, **kwargs)
                    self._finish_build(*args, **kwargs)
                    self.built = True
                self._before_build = None
            except BaseException:
                self._unbuild()
                raise

    return wrapped


def _is_being_built(layer: Layer) -> RuntimeError:
    return RuntimeError(
        f"{layer}: is being built by this thread: neither its build and call, nor a signal handler that comes "
        "meanwhile, can use what it is going to be"
    )


def same(tensor: Tensor) -> Tensor:
    """Another tensor that is the same memory."""
    return view_of(tensor, tensor.sizes)


def _shapes(value: Any) -> Any:
    """The shapes in an argument: of a tensor, or a list or dict of them; None for a constant."""
    if isinstance(value, Tensor | np.ndarray):
        return tuple(value.shape)
    if isinstance(value, Mapping):
        return {key: _shapes(item) for key, item in value.items()}
    return [_shapes(item) for item in value] if isinstance(value, list | tuple) else None


def _with_sizes(shapes: Any, size: int) -> Any:
    """Shapes with a size for those that may be any; the batch stays."""
    if isinstance(shapes, Mapping):
        return {key: _with_sizes(item, size) for key, item in shapes.items()}
    if isinstance(shapes, list):
        return [_with_sizes(item, size) for item in shapes]
    return None if shapes is None else (*shapes[:1], *(size if n is None else n for n in shapes[1:]))


def _placeholders(shapes: Any) -> Any:
    """Tensors of these shapes."""
    if isinstance(shapes, Mapping):
        return {key: _placeholders(shape) for key, shape in shapes.items()}
    if shapes and isinstance(shapes[0], list | tuple | Mapping):
        return [_placeholders(shape) for shape in shapes]
    return Tensor(shapes)
