"""Settings as frozen models: an unknown key is an error that names the nearest known one.

YAML may come from strangers (a bundle's manifest), so what is read has limits: bytes, values,
nesting, no alias.
"""

import difflib
import re
import reprlib
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from spikebottlenet.errors import ConfigError

# Four times a manifest of 1,000 classes with long names; the worst of this size takes under a
# second. Pure Python on purpose: libyaml's loader ends the process on deep nesting.
_MAX_YAML_BYTES = 128 * 1024
_MAX_YAML_VALUES = 10_000  # keys are values too
_MAX_YAML_DEPTH = 32
_MAX_NUMBER_CHARACTERS = 64
_MAX_PROBLEMS = 8  # named in one message


class Settings(BaseModel):
    """Base of every settings model: frozen, and no key it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: object, *, source: str) -> Self:
        """Check plain values from ``source`` (a file or the command line).

        Raises:
            ConfigError: names each bad key, what was found and the nearest known key.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: found {type(values).__name__}, wanted a mapping of keys")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            details = error.errors(include_url=False)
            problems = [_explain(cls, detail) for detail in details[:_MAX_PROBLEMS]]
            if len(details) > _MAX_PROBLEMS:
                problems.append(f"and {len(details) - _MAX_PROBLEMS} more")
            raise ConfigError(f"{source}: {'; '.join(problems)}") from error


def _explain(model: type[BaseModel], detail: Any) -> str:
    path = [part for part in detail["loc"] if isinstance(part, str)]
    name = _shorten(".".join(str(part) for part in detail["loc"]))
    if detail["type"] in ("enum", "literal_error"):
        return f"{name}: {_nearest_choice(detail)}"
    if detail["type"] == "value_error" and isinstance(detail["input"], BaseModel | dict):
        # Of a whole model: its message says what was found.
        return f"{name}: {detail['ctx']['error']}" if name else str(detail["ctx"]["error"])
    if detail["type"] != "extra_forbidden":
        return f"{name}: {detail['msg']}, found {reprlib.repr(detail['input'])}"
    known = sorted(_known_keys(model, path[:-1]))
    near = difflib.get_close_matches(_shorten(path[-1]), known, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {name!r}: {hint}"


def _nearest_choice(detail: Any) -> str:
    """What a value of a few should have been; pydantic's message names them all."""
    found = f"{detail['msg']}, found {reprlib.repr(detail['input'])}"
    choices = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
    near = difflib.get_close_matches(_shorten(str(detail["input"])), choices, n=1, cutoff=0.3)
    return f"{found}: did you mean {near[0]!r}?" if near else found


def _shorten(name: str) -> str:
    return name if len(name) <= 80 else name[:77] + "..."


def _known_keys(model: type[BaseModel], path: list[str]) -> set[str]:
    for part in path:
        annotation = model.model_fields[part].annotation
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
                break
    return set(model.model_fields)


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader without what makes much of a little: aliases, nesting, long numbers."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One value, counted."""
        self._depth += 1
        self._values += 1
        if self.check_event(yaml.AliasEvent):
            raise self._refusal("an alias: write the value out")
        if self._depth > _MAX_YAML_DEPTH:
            raise self._refusal(f"values nested deeper than {_MAX_YAML_DEPTH}: flatten it")
        if self._values > _MAX_YAML_VALUES:
            raise self._refusal(f"more than {_MAX_YAML_VALUES} values: shorten it")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refusal(self, found: str) -> yaml.MarkedYAMLError:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        return yaml.MarkedYAMLError(None, None, f"found {found}", mark)

    def bounded_number(self, node: yaml.ScalarNode) -> int | float:
        """An integer or a float of few characters; longer ones take time by their square."""
        if len(node.value) > _MAX_NUMBER_CHARACTERS:
            raise yaml.MarkedYAMLError(
                None,
                None,
                f"found a number of {len(node.value)} characters, "
                f"wanted at most {_MAX_NUMBER_CHARACTERS}",
                node.start_mark,
            )
        is_int = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)


for _tag in ("int", "float"):
    _BoundedLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _BoundedLoader.bounded_number)


def read_yaml(path: Path) -> object:
    """Read one YAML document; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML or is above a limit of this module.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_YAML_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give an existing file") from error
    if len(data) > _MAX_YAML_BYTES:
        raise ConfigError(f"{path} has more than {_MAX_YAML_BYTES} bytes: shorten it")
    try:
        loader = _BoundedLoader(data.decode())
        try:
            found = loader.get_single_data()
        finally:
            loader.dispose()
    except Exception as error:  # PyYAML raises almost anything on a value that its tag belies
        raise ConfigError(f"{path} is not YAML that can be used: {error}") from error
    return {} if found is None else found
