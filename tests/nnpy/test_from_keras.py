"""docs/from-keras.md lists all that differs from Keras on purpose: names that are not here, arguments that are missing,
added, of another default or in another place. ``keras_names.txt`` has Keras's (made by tools/keras_names.py)."""

import ast
import inspect
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

import nnpy as nn

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parents[1] / "docs" / "from-keras.md").read_text()
LINE = re.compile(r"([\w.]+)\.(\w+)\((.*)\)")
NAMED = ("name", "trainable", "activity_regularizer")  # keywords that Keras's layers take as **kwargs
FLAG = object()


@cache
def keras() -> dict[str, dict[str, str]]:
    """Arguments as text, by group and name."""
    found: dict[str, dict[str, str]] = {}
    for line in (HERE / "keras_names.txt").read_text().splitlines()[1:]:
        group, name, arguments = LINE.fullmatch(line).groups()
        found.setdefault(group, {})[name] = arguments
    return found


def place(group: str):
    if group == "Model":
        return nn.Model
    found = nn
    for part in group.split("."):
        found = getattr(found, part)
    return found


def parsed(text: str) -> inspect.Signature:
    """A signature; defaults that are no literals are ``...``."""
    arguments = ast.parse(f"def f({text}): pass").body[0].args
    kinds = inspect.Parameter
    made, positional = [], [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    pairs = [(a, d, kinds.POSITIONAL_OR_KEYWORD) for a, d in zip(positional, defaults, strict=True)]
    if arguments.vararg:
        pairs.append((arguments.vararg, None, kinds.VAR_POSITIONAL))
    pairs += [(a, d, kinds.KEYWORD_ONLY) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        pairs.append((arguments.kwarg, None, kinds.VAR_KEYWORD))
    for argument, default, kind in pairs:
        value = inspect.Parameter.empty if default is None else ast.literal_eval(default)
        made.append(inspect.Parameter(argument.arg, kind, default=value))
    return inspect.Signature(made)


def signature(thing) -> inspect.Signature:
    if isinstance(thing, nn.activations.Activation):
        first = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return inspect.Signature(
            [first, *(first.replace(name=key, default=value) for key, value in thing.parameters.items())]
        )
    function = thing.__init__ if inspect.isclass(thing) else thing
    if function is object.__init__:
        return inspect.Signature()
    found = inspect.signature(function)
    parameters = list(found.parameters.values())
    return found.replace(parameters=parameters[1:] if parameters and parameters[0].name == "self" else parameters)


def plain(default):
    """(1, 1) and 1 are the same size; so are ((0, 0), (0, 0)) and 0."""
    while isinstance(default, tuple | list) and default and all(item == default[0] for item in default):
        default = default[0]
    return default.lower() if isinstance(default, str) else default


def differences(group: str, name: str) -> dict[str, str]:
    """What differs, by argument."""
    theirs, ours = parsed(keras()[group][name]), signature(getattr(place(group), name))
    open_ = any(p.kind is p.VAR_KEYWORD for p in theirs.parameters.values())
    takes = any(p.kind is p.VAR_KEYWORD for p in ours.parameters.values())
    found = {}
    named = {
        key: p for key, p in theirs.parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }  # fmt: skip
    mine = {key: p for key, p in ours.parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    for key, parameter in named.items():
        if key not in mine:
            if not takes:
                found[key] = "not taken"
        elif parameter.default is not Ellipsis and plain(parameter.default) != plain(mine[key].default):
            found[key] = f"{mine[key].default!r} for {parameter.default!r}"
    for key in mine:
        if key not in named and not (open_ and key in NAMED):
            found[key] = "added"
    places = [key for key, p in named.items() if p.kind is not p.KEYWORD_ONLY]
    for number, key in enumerate(key for key, p in mine.items() if p.kind is p.POSITIONAL_OR_KEYWORD):
        if key in named and places.index(key) != number if key in places else key in named:
            found[key] = f"place {number}"
        elif key not in named and number < len(places):
            found[key] = f"in the place of {places[number]}"
    return found


def has(group: str, name: str) -> bool:
    return callable(getattr(place(group), name, None))


def all_differences() -> dict[tuple[str, str], str]:
    return {
        (f"{group}.{name}", argument): what
        for group, names in keras().items()
        for name in names
        if has(group, name)
        for argument, what in differences(group, name).items()
    }


def rows() -> list[tuple[list[str], list[str]]]:
    """(names, perhaps with stars; arguments) of each row of the table of arguments."""
    table = PAGE.partition("## Arguments")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")][2:]
    return [(re.findall(r"`([^`]+)`", row[0]), re.findall(r"`([^`]+)`", row[1])) for row in cells]


def test_every_difference_is_in_the_table():
    known = rows()
    missing = {
        f"{name}({argument}): {what}"
        for (name, argument), what in all_differences().items()
        if not any(
            argument in arguments and any(fnmatchcase(name, pattern) for pattern in names)
            for names, arguments in known
        )
    }
    assert missing == set()


def test_every_row_of_the_table_is_a_difference():
    found = all_differences()
    for names, arguments in rows():
        for pattern in names:
            assert any(fnmatchcase(name, pattern) for name, _ in found), pattern
        for argument in arguments:
            told = [name for name, key in found if key == argument]
            assert any(fnmatchcase(name, pattern) for name in told for pattern in names), (names, argument)


@pytest.mark.parametrize("group", sorted(keras()))
def test_names_that_are_not_here(group):
    section = PAGE.partition("## Names that are not here")[2].partition("\n## ")[0]
    entry = next((part for part in section.split("\n- ") if part.startswith(f"`{group}`:")), "")
    listed = set(re.findall(r"`([\w.]+)`", entry)) - {group}
    assert {name for name in keras()[group] if not has(group, name)} == listed


def test_the_file_is_of_keras_3():
    assert (HERE / "keras_names.txt").read_text().startswith("# Keras 3.")
    assert sum(map(len, keras().values())) > 700
