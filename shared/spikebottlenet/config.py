"""Settings as frozen models: an unknown key is an error that names the nearest known one."""

import difflib
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from spikebottlenet.errors import ConfigError


class Settings(BaseModel):
    """Base of every settings model: frozen, and no key it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
            problems = "; ".join(_explain(cls, detail) for detail in error.errors())
            raise ConfigError(f"{source}: {problems}") from error


def _explain(model: type[BaseModel], detail: Any) -> str:
    path = [part for part in detail["loc"] if isinstance(part, str)]
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        return f"{name}: {detail['msg']}, found {detail['input']!r}"
    known = sorted(_known_keys(model, path[:-1]))
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {name!r}: {hint}"


def _known_keys(model: type[BaseModel], path: list[str]) -> set[str]:
    for part in path:
        annotation = model.model_fields[part].annotation
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
                break
    return set(model.model_fields)


def read_yaml(path: Path) -> object:
    """Read one YAML document; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give an existing file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
