"""Optimizer: what changes the parameters. It gives the ops that end a compiled step; the kernels are nncore's."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias, TypedDict
from weakref import WeakKeyDictionary, WeakSet, ref

import numpy as np

import nncore
from nncore import Step
from nncore.rules import RULES
from nnpy import ops
from nnpy.checks import flag, integer, optional, real, shown
from nnpy.forms import within
from nnpy.graph import Node, Parameter, Tensor, Variable
from nnpy.locks import publishing
from nnpy.ops.updates import clip_scale, gradient, sweep, then, update
from nnpy.parameters import Store
from nnpy.registry import Configurable, snake
from nnpy.schedules import Schedule
from nnpy.schedules import get as get_schedule

Rate: TypeAlias = float | Schedule | Callable[[int], float]


class Options(TypedDict, total=False):
    """The arguments of ``Optimizer`` that all others pass on to it."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    gradient_accumulation_steps: int | None
    name: str | None


def _made(cls: type[Optimizer], arguments: dict[str, Any], undecayed: str | None = None) -> Optimizer:
    made = cls(**arguments)
    if undecayed is not None:
        made.leave_undecayed([], re.compile(undecayed))
    return made


class Optimizer(Configurable):
    """Base of optimizers.

    ``learning_rate``: a number, a schedule, or a function of the step; ``lr`` is the same. As an attribute it is the
    rate of the next update, a number; ``schedule`` is what gives it, if anything does. All arguments may be set as
    attributes at any time, also by callbacks: the next step goes by them; those that slots depend on are refused then.
    ``weight_decay``: each step also takes learning_rate * weight_decay * w from every weight w (decoupled; Loshchilov &
    Hutter, ICLR 2019). At most one kind of clipping: ``global_clipnorm`` scales all gradients so that the norm of them
    all is at most that (Pascanu et al., ICML 2013), ``clipnorm`` each parameter's on its own, ``clipvalue`` cuts each
    element to [-clipvalue, clipvalue].
    ``gradient_accumulation_steps``: k, at least 2; weights are updated in each k-th step, by the mean of the gradients
    of k batches. Schedules and bias corrections count updates, as ``iterations`` does.
    ``use_ema``: an average of each weight is kept, average = ema_momentum * average + (1 - ema_momentum) * w after each
    step, the first of them w itself (Polyak & Juditsky, 1992). When ``fit`` ends weights become their averages, and so
    they do after each ``ema_overwrite_frequency`` updates if that is given; ``callbacks.SwapEMAWeights`` evaluates with
    them. Constraints come after all of it.
    Raises TypeError or ValueError for arguments out of range.

    Of your own: a rule that is there and its columns.

    >>> class Signed(nn.optimizers.Optimizer):
    ...     rule = "sgd"
    ...
    ...     def numbers(self, rates, first_step):
    ...         return {"rate": rates / 2}
    >>> Signed(0.1).columns(0, 1)
    array([[0.05, 0.  ]])
    """

    group = "optimizer"
    _at_first: tuple[str, ...] = ()  # arguments that count before the first step alone
    _at_the_end = False  # updates come after all gradients, as a graph that finds these in their flat buffer

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        *,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ):
        kind = type(self).__name__
        self.learning_rate = learning_rate
        self.weight_decay = optional(real, kind, "weight_decay", weight_decay, least=0)
        self.clipnorm = optional(real, kind, "clipnorm", clipnorm, above=0)
        self.clipvalue = optional(real, kind, "clipvalue", clipvalue, above=0)
        self.global_clipnorm = optional(real, kind, "global_clipnorm", global_clipnorm, above=0)
        given = [n for n in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{kind}: expected at most one kind of clipping, got {' and '.join(given)}")
        self.use_ema = flag(kind, "use_ema", use_ema)
        self.ema_momentum = real(kind, "ema_momentum", ema_momentum, least=0, most=1)
        self.ema_overwrite_frequency = optional(
            integer, kind, "ema_overwrite_frequency", ema_overwrite_frequency, least=1
        )
        if ema_overwrite_frequency is not None and not use_ema:
            raise ValueError(f"{kind}: expected use_ema=True beside ema_overwrite_frequency, got False")
        self.gradient_accumulation_steps = optional(
            integer, kind, "gradient_accumulation_steps", gradient_accumulation_steps, least=2
        )
        self._prepare(name)

    def _prepare(self, name: str | None) -> None:
        self.name = name or snake(type(self).__name__)
        self._changes = 0
        self._slots: WeakKeyDictionary[Store, dict[str, np.ndarray]] = WeakKeyDictionary()
        self._swapped: WeakSet[Store] = WeakSet()  # where averages and weights have changed places
        self._undecayed: tuple[WeakSet[Parameter], re.Pattern[str] | None] = (WeakSet(), None)
        self._training: Any = None  # a weak reference to where the model stands that was compiled with it

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            _spell_out(cls.__init__)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if not name.startswith("_"):
            self._changes = self.__dict__.get("_changes", 0) + 1

    def __reduce__(self) -> Any:
        """Copies and pickles are made of the same arguments, and leave weights of the same names undecayed; what it
        knows of weights is in copies of their models."""
        pattern = self._undecayed[1]
        return _made, (type(self), self._arguments(), None if pattern is None else pattern.pattern)

    @property
    def changes(self) -> int:
        """How often attributes were set."""
        return self._changes

    def _argument(self, name: str, value: Any) -> Any:
        if name in (*self._at_first, "use_ema", "gradient_accumulation_steps") and self._slots:
            raise AttributeError(f"{type(self).__name__}: {name} cannot be set once training has begun")
        return value if name == "learning_rate" else self._anew(name, value)

    def _argument_value(self, name: str) -> Any:
        return self._learning_rate if name == "learning_rate" else super()._argument_value(name)

    @property
    def compiled(self) -> tuple[Any, ...]:
        """What steps are compiled of; all else is in the columns."""
        several = self.use_ema, self.ema_overwrite_frequency, self.gradient_accumulation_steps
        return self.rule, self.clipnorm, self.clipvalue, self.global_clipnorm, *several, self._decays_apart

    @property
    def lr(self) -> float:
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    @property
    def schedule(self) -> Schedule | Callable[[int], float] | None:
        """The schedule or function that ``learning_rate`` was set to; None for a number."""
        return self._learning_rate if callable(self._learning_rate) else None

    @property
    def learning_rate(self) -> Any:
        """The rate of the next update, a float, also of a schedule."""
        return float(self.rates(self.iterations, 1)[0]) if self.schedule else self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        kind = type(self).__name__
        if isinstance(value, dict):
            with within(f"{type(self).__name__}: learning_rate"):
                value = get_schedule(value)
        if isinstance(value, type | str):
            expected = "learning_rate to be a number, a schedule or a function"
            raise TypeError(f"{kind}: expected {expected}, got {shown(value)}")
        self._learning_rate = value if callable(value) else real(kind, "learning_rate", value, least=0)

    def last_rate(self, batches: int) -> float:
        """The rate of the last update in so many batches of a model; before any, of the first."""
        return float(self.rates(max(0, batches // (self.gradient_accumulation_steps or 1) - 1), 1)[0])

    def rates(self, first_step: int, count: int) -> np.ndarray:
        """The learning rates of ``count`` steps from ``first_step`` on, float64.

        Raises ValueError if one is not finite and >= 0."""
        rate = self._learning_rate
        if isinstance(rate, Schedule):
            rates = rate.rates(first_step, count)
        elif callable(rate):
            known, first, answers = self.__dict__.get("_answers", (None, 0, ()))
            place = first_step - first
            if known is rate and 0 <= place <= len(answers) - count:  # asked once: a user's function
                return answers[place : place + count]
            rates = np.array([rate(step) for step in range(first_step, first_step + count)], np.float64)
            self.__dict__["_answers"] = rate, first_step, rates
        else:
            return np.full(count, rate)
        bad = ~(np.isfinite(rates) & (rates >= 0))
        if bad.any():
            place = int(np.argmax(bad))
            raise ValueError(
                f"{type(self).__name__}: expected learning_rate to be finite and >= 0, got {rates[place]} "
                f"at step {first_step + place}"
            )
        return rates

    @property
    def rule(self) -> str:
        """The row of ``nncore.rules`` that its settings ask for."""
        raise NotImplementedError(f"{type(self).__name__}: an optimizer must define rule")

    @property
    def rule_columns(self) -> tuple[str, ...]:
        """The names of the numbers that its step reads."""
        return RULES[self.rule].columns

    @property
    def rule_slots(self) -> tuple[str, ...]:
        """The names of the slots that its step reads and writes."""
        return RULES[self.rule].slots

    def numbers(self, rates: np.ndarray, first_step: int) -> dict[str, Any]:
        """Columns of the rule beside rate and decay, by name: a number, or one for each step from ``first_step`` on, of
        which ``rates`` are the learning rates."""
        return {}

    @property
    def blocks(self) -> dict[str, tuple[str, ...]]:
        """The names of the columns, by what reads them: the rule ("update"), and the options that are on."""
        blocks = {"update": self.rule_columns}
        if self._decays_apart:
            blocks["undecayed"] = blocks["update"]
        options = {
            "accumulate": self.gradient_accumulation_steps, "average": self.use_ema,
            "overwrite": self.ema_overwrite_frequency,
        }  # fmt: skip
        return blocks | {name: ("keep", "fresh") for name, is_on in options.items() if is_on}

    def _values(self, block: str, found: dict[str, Any], steps: np.ndarray) -> dict[str, Any]:
        """The columns of a block in the updates ``steps``; ``found``: those of the rule."""
        if block == "accumulate":
            return {"keep": 1.0, "fresh": 1.0 / (self.gradient_accumulation_steps or 1)}
        if block == "average":
            keep = np.where(steps == 0, 0.0, self.ema_momentum)
            return {"keep": keep, "fresh": 1.0 - keep}
        if block == "overwrite":
            fresh = np.asarray((steps + 1) % (self.ema_overwrite_frequency or 1) == 0, np.float64)
            return {"keep": 1.0 - fresh, "fresh": fresh}
        return {**found, "decay": 0.0} if block == "undecayed" else found

    def columns(self, first_step: int, count: int, rate: float | None = None) -> np.ndarray:
        """The columns of all blocks, float64 [count, columns], for ``count`` steps from ``first_step`` on: what the
        state's cell RATES points to. With ``gradient_accumulation_steps`` several steps are of one update. ``rate``: in
        the place of its own. Raises ValueError as ``rates``."""
        each = self.gradient_accumulation_steps or 1
        of = np.arange(first_step, first_step + count) // each  # the update that a step belongs to
        first, last = first_step // each, int(of[-1]) if count else first_step // each
        steps = np.arange(first, last + 1)
        rates = self.rates(first, len(steps)) if rate is None else np.full(len(steps), rate)
        found = {"rate": rates, "decay": rates * (self.weight_decay or 0.0), **self.numbers(rates, first)}
        table = np.empty((len(steps), sum(map(len, self.blocks.values()))))
        places = iter(range(table.shape[1]))
        for block, names in self.blocks.items():
            values = self._values(block, found, steps)
            for name in names:
                table[:, next(places)] = values[name]
        return table if each == 1 and count else table[of - first]

    def place(self, block: str, column: str | None = None) -> dict[str, int]:
        """Where a block, or one column of it, begins in the table, as arguments of the kernel update."""
        names = [(one, name) for one, columns in self.blocks.items() for name in columns]
        return {"columns": len(names), "column": names.index((block, column or self.blocks[block][0]))}

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of what it keeps for each weight: the slots of the rule, then others."""
        options = {"gradient_accumulator": self.gradient_accumulation_steps, "moving_average": self.use_ema}
        return (*self.rule_slots, *(name for name, is_on in options.items() if is_on))

    def slots(self, store: Store) -> dict[str, np.ndarray]:
        """The optimizer's state for a store, by name: flat arrays of the store's layout."""
        known = self._slots.setdefault(store, {})
        for name in self.kept:
            if name not in known:  # of the first step, or the first under another rule
                slot = nncore.aligned(store.size, store.dtype)
                self._begin(name, slot, store)
                known.setdefault(name, slot)
        return {name: known[name] for name in self.kept}

    def _begin(self, name: str, slot: np.ndarray, store: Store) -> None:
        if name == "moving_average":
            slot[:] = store.values
        else:
            self.begin(name, slot, store)

    def join(self, store: Store, parameters: Iterable[Parameter]) -> None:
        """A step will train the parameters. Averages of those that were frozen begin with what they are now."""
        average = self.slots(store).get("moving_average")
        with publishing():
            for parameter in set(parameters) - store.trained:
                if average is not None:
                    store.view(average, parameter)[...] = store.views[parameter]
                store.trained.add(parameter)

    def restart(self, store: Store) -> None:
        """Let the slots of a store be what they are before the first step."""
        for name, slot in self.slots(store).items():
            slot[:] = 0
            self._begin(name, slot, store)

    def has_slots(self, store: Store) -> bool:
        """Whether it knows something of a store's weights."""
        return store in self._slots

    def forget(self, store: Store) -> None:
        """Know nothing of a store's weights any more; steps that were compiled for them do not fit then."""
        self._slots.pop(store, None)

    def begin(self, name: str, slot: np.ndarray, store: Store) -> None:
        """Write what ``slot``, all 0, holds before the first step."""

    def before_run(self, store: Store, parameters: Iterable[Parameter]) -> None:
        """Before steps run that train these: the weights become those that gradients are taken at."""
        if store in self._swapped:  # an evaluation with averages was interrupted
            self.show_averages(store, False)

    def after_run(self, store: Store) -> None:
        """After steps: the weights become those that predict, evaluate and save shall see."""

    def _rule_slots(self, store: Store) -> list[np.ndarray]:
        slots = self.slots(store)
        return [slots[name] for name in self.rule_slots]

    def slot_shape(self, slot: str, parameter: Parameter) -> tuple[int, ...] | None:
        """Of a slot's part for a parameter, of no more elements than that has; None where it has none."""
        return parameter.value.shape

    def slot_views(self, store: Store, parameters: Collection[Parameter]) -> dict[tuple[str, Parameter], np.ndarray]:
        """The parts of the slots, by name and parameter: what files hold."""
        return {
            (name, parameter): store.view(flat, parameter, shape)
            for name, flat in self.slots(store).items()
            for parameter in store.parameters
            if parameter in parameters and (shape := self.slot_shape(name, parameter)) is not None
        }

    # a step

    def effects(self, gradients: dict[Parameter, Tensor], store: Store) -> list[Node]:
        """The nodes that end a training step: gradients clipped, and every parameter of ``gradients`` updated."""
        parameters, slots, every = list(gradients), self.slots(store), self.gradient_accumulation_steps or 1
        if not gradients and every == 1:
            return []
        if every == 1 and not self._at_the_end:
            made = self.updates(gradients, store, store.gradients)
        else:
            flat, total = store.gradients, slots.get("gradient_accumulator", store.gradients)
            made = [gradient(p, g, store, flat) for p, g in gradients.items()]
            if every > 1:
                made.append(sweep(parameters, self, store, total, flat, "accumulate"))
            made.append(then(lambda: self._updates_of(parameters, store, total), every, every - 1))
        if self.use_ema:
            made.append(sweep(parameters, self, store, slots["moving_average"], store.values, "average"))
        if self.ema_overwrite_frequency:
            made.append(sweep(parameters, self, store, store.values, slots["moving_average"], "overwrite"))
        return made

    def _updates_of(self, parameters: list[Parameter], store: Store, flat: np.ndarray) -> list[Node]:
        """The updates by gradients that are in ``flat``, which is cleared if it is a slot: for all weights, as one that
        is frozen by now may have been trained in this period."""
        given: dict[Parameter, Tensor] = {
            p: Variable(store.view(flat, p), f"{p.name}/gradient", "gradient") for p in parameters
        }
        made = self.updates(given, store, flat) if given else []
        weights = [p for p in store.parameters if p.role == "weight"]
        return made if flat is store.gradients else [*made, sweep(weights, self, store, flat)]

    def updates(self, gradients: dict[Parameter, Tensor], store: Store, flat: np.ndarray) -> list[Node]:
        """The nodes that update each parameter by its gradient, which is, or is to be, in the array ``flat``."""
        gradients, scales = self.clipped(gradients, store, flat)
        apart = self._decays_apart
        return [
            update(p, g, self, store, flat, scales.get(p), "undecayed" if apart and not self.decays(p) else "update")
            for p, g in gradients.items()
        ]

    def clipped(
        self, gradients: dict[Parameter, Tensor], store: Store, flat: np.ndarray
    ) -> tuple[dict[Parameter, Tensor], dict[Parameter, Tensor]]:
        """The gradients, and what each has to be multiplied by, if anything."""
        scales: dict[Parameter, Tensor] = {}
        if self.clipvalue is not None:
            gradients = {p: ops.clip(g, -self.clipvalue, self.clipvalue) for p, g in gradients.items()}
        elif self.clipnorm is not None:
            scales = {p: clip_scale({p: g}, self.clipnorm, store, flat) for p, g in gradients.items()}
        elif self.global_clipnorm is not None and gradients:
            scales = dict.fromkeys(gradients, clip_scale(gradients, self.global_clipnorm, store, flat))
        return gradients, scales

    def update(
        self, store: Store, flat: np.ndarray, first: int, last: int, state: np.ndarray, block: str
    ) -> dict[str, Any]:
        """The arguments of the kernel update for a stretch of the flat buffers."""
        slots = {f"slot_{i}": flat[first:last] for i, flat in enumerate(self._rule_slots(store))}
        arrays = dict(w=store.values[first:last], g=flat[first:last], count=last - first)
        return dict(rule=self.rule, state=state, **arrays, **slots, **self.place(block))

    def step(self, store: Store, parameter: Parameter, state: np.ndarray, block: str) -> Step:
        """The same for one parameter, as the last step of its gradient's kernel."""
        shape = (math.prod(parameter.value.shape[:-1]), *parameter.value.shape[-1:])
        slots = tuple(store.view(flat, parameter, shape) for flat in self._rule_slots(store))
        place = self.place(block)
        return Step(
            "update", rule=self.rule, p=store.view(store.values, parameter, shape), slots=slots, state=state,
            width=place["columns"], index=place["column"],
        )  # fmt: skip

    @property
    def clips(self) -> bool:
        return any(limit is not None for limit in (self.clipnorm, self.clipvalue, self.global_clipnorm))

    # where it stands

    @property
    def iterations(self) -> int:
        """How many updates it has done for the model that was compiled with it last. It is read-only."""
        training = self._training() if self._training is not None else None
        return 0 if training is None else training.update // (self.gradient_accumulation_steps or 1)

    def follow(self, training: Any) -> None:
        """Let ``iterations`` be those of a model's training."""
        self._training = ref(training)

    # weight decay

    def exclude_from_weight_decay(
        self, var_list: Sequence[Parameter] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Before training: let weight decay leave weights alone, those of ``var_list``, and those whose name one of
        ``var_names`` (regular expressions) is found in.

        Files of models keep what it says. Raises TypeError for what is no weight or string, ValueError for a wrong
        expression, RuntimeError once training has begun.

        >>> optimizer = nn.AdamW(weight_decay=0.1)
        >>> optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"])
        """
        kind = type(self).__name__
        if self._slots:
            raise RuntimeError(f"{kind}: exclude_from_weight_decay has to come before training")
        variables, names = _listed(kind, "var_list", var_list, Parameter), _listed(kind, "var_names", var_names, str)
        try:
            pattern = re.compile("|".join(names)) if names else None
        except re.error as error:
            raise ValueError(f"{kind}: expected var_names to be regular expressions, got {names}: {error}") from error
        self.leave_undecayed(variables, pattern)

    def leave_undecayed(self, variables: Sequence[Parameter], pattern: re.Pattern[str] | None = None) -> None:
        """What ``exclude_from_weight_decay`` says."""
        self._undecayed = (WeakSet(variables), pattern)
        self._changes += 1

    def decays(self, parameter: Parameter) -> bool:
        """Whether weight decay, if there is any, takes of a parameter."""
        variables, pattern = self._undecayed
        return parameter not in variables and not (pattern is not None and pattern.search(parameter.name))

    @property
    def _decays_apart(self) -> bool:
        """Whether some parameters decay and others may not."""
        variables, pattern = self._undecayed
        return self.weight_decay is not None and (pattern is not None or len(variables) > 0)

    # averages

    def finalize_variable_values(self, var_list: Sequence[Parameter]) -> None:
        """With ``use_ema``, let weights of models become their averages, as ``fit`` does when it ends; those that are
        not trained stay."""
        wanted = set(var_list)
        for store in [store for store in self._slots if not wanted.isdisjoint(store.trained)] if self.use_ema else ():
            average = self.slots(store)["moving_average"]
            swapped = store in self._swapped
            for parameter in store.trained:
                if parameter in wanted:
                    place = store.view(average, parameter)
                    source, target = (parameter.value, place) if swapped else (place, parameter.value)
                    target[...] = source
            self._swapped.discard(store)

    def shows_averages(self, store: Store, are: bool | None = None) -> bool:
        """Whether the weights of a store and their averages have changed places; ``are``: from now on that is so."""
        if are is not None:
            (self._swapped.add if are else self._swapped.discard)(store)
        return store in self._swapped

    def show_averages(self, store: Store, averages: bool) -> None:
        """Let the weights of a store and their averages change places, or back."""
        if self.shows_averages(store) == averages:
            return
        kept = self.slots(store)["moving_average"]
        for first, last in store.stretches(store.trained):
            values = store.values[first:last].copy()
            store.values[first:last], kept[first:last] = kept[first:last], values
        self.shows_averages(store, averages)


def _listed(kind: str, name: str, value: Any, expected: type) -> list[Any]:
    """A list of weights or names, or nothing. TypeError for anything else."""
    found = [] if value is None else list(value) if isinstance(value, list | tuple | set) else [value]
    for item in found:
        if not isinstance(item, expected) or (item is value):
            what = "weights" if expected is Parameter else "strings"
            raise TypeError(f"{kind}: expected {name} to be a list of {what}, got {shown(value)}")
    return found


def _spell_out(init: Any) -> None:
    """In a constructor's signature: the arguments of ``Optimizer`` in the place of ``**options``."""
    signature = inspect.signature(init)
    own = {name: p for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    if len(own) < len(signature.parameters):
        rest = list(inspect.signature(Optimizer.__init__).parameters.values())
        more = [p.replace(kind=p.KEYWORD_ONLY) for p in rest if p.name not in own]
        init.__signature__ = signature.replace(parameters=[*own.values(), *more])
