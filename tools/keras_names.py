"""Write what Keras calls public, with its arguments, to tests/nnpy/keras_names.txt: a line for each name.

    KERAS_BACKEND=jax python tools/keras_names.py

``tests/nnpy/test_from_keras.py`` holds docs/from-keras.md to it. Keras is needed to make the file anew, not to test.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras

GROUPS = (
    "layers", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers", "regularizers", "constraints",
    "callbacks", "activations", "models", "ops",
)  # fmt: skip
METHODS = (
    "compile", "evaluate", "fit", "get_layer", "load_weights", "predict", "predict_on_batch", "save", "save_weights",
    "summary", "test_on_batch", "train_on_batch",
)  # fmt: skip
INHERITED = {"keras.models.Model": "(inputs, outputs, name=None)"}  # its own are *args


def written(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    if parameter.default is parameter.empty:
        return stars + parameter.name
    simple = isinstance(parameter.default, int | float | str | tuple | list | None)
    return f"{parameter.name}={parameter.default!r}" if simple else f"{parameter.name}=..."


def signature(thing: Any) -> str:
    function = thing.__init__ if inspect.isclass(thing) else thing
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name == "self":
        del parameters[0]
    stars = [p.kind is p.KEYWORD_ONLY for p in parameters]
    texts = [written(parameter) for parameter in parameters]
    if True in stars and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        texts.insert(stars.index(True), "*")
    return f"({', '.join(texts)})"


def lines() -> list[str]:
    found = []
    for group in GROUPS:
        place: Any = keras
        for part in group.split("."):
            place = getattr(place, part)
        for name in dir(place):
            thing = getattr(place, name)
            if name[0] != "_" and callable(thing):
                found.append(f"{group}.{name}{INHERITED.get(f'keras.{group}.{name}') or signature(thing)}")
    return found + [f"Model.{name}{signature(getattr(keras.Model, name))}" for name in METHODS]


def main() -> None:
    path = Path(__file__).resolve().parents[1] / "tests" / "nnpy" / "keras_names.txt"
    path.write_text("\n".join([f"# Keras {keras.__version__}", *lines()]) + "\n")


if __name__ == "__main__":
    main()
