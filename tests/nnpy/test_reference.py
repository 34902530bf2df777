"""docs/reference.md names everything that is public, with arguments that exist."""

import inspect
import re
from pathlib import Path

import pytest

import nnpy as nn

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference.md").read_text()
SECTIONS = {title: text for title, _, text in (part.partition("\n") for part in PAGE.split("\n## ")[1:])}
# The sections that say what is in a group, and where a name of it is looked up.
GROUPS = {
    "Layers": nn.layers,
    "Activations": nn.activations,
    "Losses": nn.losses,
    "Metrics": nn.metrics,
    "Optimizers": nn.optimizers,
    "Schedules": nn.schedules,
    "Initializers": nn.initializers,
    "Regularizers": nn.regularizers,
    "Constraints": nn.constraints,
    "Callbacks": nn.callbacks,
    "Operations": nn.ops,
}
ENTRY = re.compile(r"^- `([\w.]+)\((.*?)\)`", re.MULTILINE | re.DOTALL)


def entries():
    """(section, name, arguments as written) of every line of the page."""
    for title, text in SECTIONS.items():
        for name, arguments in ENTRY.findall(text):
            yield title, name, [argument for argument in re.split(r",\s+(?![^(]*\))", arguments) if argument]


def written(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    if parameter.default is parameter.empty:
        return stars + parameter.name
    default = "print" if parameter.default is print else repr(parameter.default)
    return f"{parameter.name}={default}"


def found(title: str, name: str):
    """What an entry is about."""
    if name.startswith("nn."):
        place = nn
        for part in name.split(".")[1:]:
            place = getattr(place, part)
        return place
    return getattr(nn.Model if title == "Models" else GROUPS[title], name)


@pytest.mark.parametrize("title", GROUPS)
def test_every_name_of_a_group_is_there(title):
    names = set(re.findall(r"`(?:\w+\.)*(\w+)", SECTIONS[title])) | {"get"}
    assert set(GROUPS[title].__all__) - names == set()


def test_every_name_of_the_catalogue_is_there():
    names = set(re.findall(r"\w+", " ".join(re.findall(r"`(.*?)`", PAGE, re.DOTALL))))
    for module in (nn, nn.data, nn.config):
        assert set(module.__all__) - names == set()
    methods = {name for name, value in vars(nn.Model).items() if inspect.isfunction(value) and name[0] != "_"}
    assert methods - {"call", "sublayers", "get_config", "entry"} - names == set()
    assert {name for name, value in vars(nn.Model).items() if isinstance(value, property)} - names <= {
        "structure", "compiled", "settings", "engine", "is_code", "follows_program", "needs_sizes",
    }  # fmt: skip


@pytest.mark.parametrize("title, name, arguments", list(entries()), ids=lambda value: str(value)[:30])
def test_arguments_exist(title, name, arguments):
    thing = found(title, name)
    if isinstance(thing, nn.activations.Activation):
        expected = [f"{key}={value!r}" for key, value in thing.parameters.items()]
    else:
        function = thing.__init__ if inspect.isclass(thing) else thing
        signature = [] if function is object.__init__ else list(inspect.signature(function).parameters.values())
        expected = [written(parameter) for parameter in signature if parameter.name != "self"]
        if any(p.kind is p.KEYWORD_ONLY for p in signature) and "*" in arguments:
            arguments.remove("*")
    if "..." in arguments or title == "Models":
        assert [a for a in arguments if a != "..." and a not in expected] == []
    else:
        assert arguments == expected
