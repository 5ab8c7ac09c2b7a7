"""Configs made of parts: ``extends: base.yaml``, and single settings from the command line.

A file's keys are laid over those of the file that it extends, mapping by mapping; lists are taken
whole. ``loss.lambda_bits=0.5`` lays one value over that; its value is read as YAML.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from spikebottlenet.config import read_yaml
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.config import TrainingConfig

_EXTENDS = "extends"

Values = dict[str, Any]


class ConfigSource(NamedTuple):
    """A training config, and the text that says it whole."""

    config: TrainingConfig
    text: str  # of one YAML file that extends nothing
    path: Path  # where it came from


def read_config(path: Path, sets: Sequence[str] = ()) -> ConfigSource:
    """Read a config with all that it extends, and lay ``sets`` over it.

    Raises:
        ConfigError: names the file or the setting, what was found and the nearest known key.
    """
    values = _resolved(path, ())
    alone = _EXTENDS not in _mapping(path) and not sets
    for text in sets:
        values = _with_set(values, text)
    source = f"{path} with {' '.join(f'--set {text}' for text in sets)}" if sets else str(path)
    config = TrainingConfig.parse(values, source=source)
    if alone:
        return ConfigSource(config, path.read_text(encoding="utf-8"), path)
    whole = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)
    return ConfigSource(config, f"# Made from {path.name}, whole.\n{whole}", path)


def _mapping(path: Path) -> Values:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: found {type(values).__name__}, wanted a mapping of keys")
    return values


def _resolved(path: Path, below: tuple[Path, ...]) -> Values:
    """A file's values over those of the file it extends."""
    here = path.resolve()
    if here in below:
        chain = " -> ".join(each.name for each in (*below[below.index(here) :], here))
        raise ConfigError(f"{path} extends itself ({chain}): take one of these lines out")
    values = _mapping(path)
    base = values.pop(_EXTENDS, None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: found extends {base!r}, wanted one file, relative to this one")
    return merged(_resolved(path.parent / base, (*below, here)), values)


def merged(base: Values, over: Values) -> Values:
    """``over`` laid over ``base``, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        beneath = result.get(key)
        if isinstance(value, dict) and isinstance(beneath, dict):
            value = merged(beneath, value)
        result[key] = value
    return result


def _with_set(values: Values, text: str) -> Values:
    name, equals, written = text.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"found --set {text}, wanted KEY=VALUE, as loss.lambda_bits=0.5")
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: {written!r} is not a YAML value") from error
    laid: Values = _laid_over(values, keys, value, text)
    return laid


def _laid_over(base: Any, keys: Sequence[str], value: Any, text: str) -> Any:
    """One value at a path of keys in plain values; a number picks an item of a list."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(base, list):
        if not key.isdecimal() or int(key) >= len(base):
            raise ConfigError(f"--set {text}: found {key!r}, wanted 0 to {len(base) - 1} there")
        place = int(key)
        new = _laid_over(base[place], rest, value, text)
        return [*base[:place], new, *base[place + 1 :]]
    beneath = base if isinstance(base, dict) else {}
    return beneath | {key: _laid_over(beneath.get(key), rest, value, text)}
