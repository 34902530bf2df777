"""What may have been meant, for names and keywords that do not exist; advice, as warnings of a category of our own."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class AdviceWarning(UserWarning):
    """What is allowed and can hardly be meant, or what nnpy did that should be known.

    ``warnings.simplefilter("ignore", nn.AdviceWarning)`` silences it, ``"error"`` makes errors of it.
    """


def optional(module: str, package: str, extra: str, who: str) -> Any:
    """A module of a package that is no dependency. ModuleNotFoundError that says how to get it, where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{who} needs {package}; pip install "nnpy-cpu[{extra}]"', name=error.name) from error


def advise(text: str) -> None:
    """Warn, at the line of the user's that is running."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "nnpy":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, AdviceWarning, stacklevel=level)

# Of other versions of Keras and of other libraries: what takes their place here.
_INSTEAD = {
    "input_shape": "begin the model with nn.Input(shape)",
    "input_dim": "begin the model with nn.Input((n,))",
    "batch_input_shape": "begin the model with nn.Input(shape), without the batch",
    "batch_shape": "nn.Input(shape), without the batch",
}
_RENAMED = {
    "lr": "learning_rate", "nb_epoch": "epochs", "p": "rate", "test_size": "fraction", "random_state": "seed",
}  # fmt: skip
# What Keras has and this version has not: names that are right, and near others that mean something else.
_ELSEWHERE = frozenset(
    """circle categorical_generalized_cross_entropy
    glu threshold sparsemax sparse_plus sparse_sigmoid
    lstm gru simple_rnn rnn lstm_cell gru_cell simple_rnn_cell conv_lstm1d conv_lstm2d bidirectional time_distributed
    masking embedding attention additive_attention multi_head_attention group_query_attention rms_normalization
    conv1d_transpose positional_embedding""".replace("_", "").split()
)


@functools.lru_cache(4096)
def plain(name: str) -> str:
    """A name without case and underscores: "he_normal" and "HeNormal" are the same."""
    return name.replace("_", "").lower()


def elsewhere(name: str) -> bool:
    """Whether it is a name that Keras has and this version has not."""
    return plain(name) in _ELSEWHERE


def meant(name: str, known: Iterable[str]) -> str:
    """"; did you mean 'epochs'?", or nothing."""
    import difflib

    close = difflib.get_close_matches(name, [each for each in known if each != name], 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def keyword(owner: str, name: str, known: Iterable[str]) -> TypeError:
    """The error for a keyword that does not exist."""
    known = list(known)
    if name in _INSTEAD:
        hint = f"; {_INSTEAD[name]}"
    elif _RENAMED.get(name) in known:
        hint = f"; did you mean {_RENAMED[name]!r}?"
    else:
        hint = meant(name, known)
    return TypeError(f"{owner}: unexpected argument {name!r}{hint}")


def keywords(function: F) -> F:
    """A function whose TypeError for an unknown keyword says which one may have been meant."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # of something inside
            import inspect

            parameters = inspect.signature(function).parameters
            for name in options:
                if name not in parameters:
                    raise keyword(function.__name__, name, set(parameters) - {"self"}) from None
            raise

    return call  # type: ignore[return-value]
