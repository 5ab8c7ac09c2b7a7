"""A daemon's settings from its command line and a YAML file: every setting is also a flag.

A flag wins over the file, the file over the default.
"""

import argparse
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from spikebottlenet import __version__
from spikebottlenet.config import Settings, read_yaml

SettingsT = TypeVar("SettingsT", bound=Settings)


def parse_options(
    model: type[SettingsT], arguments: Sequence[str] | None, *, prog: str, about: str, example: str
) -> SettingsT:
    """Settings of ``model`` from the command line; prints help or usage errors and exits on those.

    Raises:
        ConfigError: names each bad key or value.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=about,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--config", metavar="FILE.yaml", help="settings by name; flags win over it")
    for name, field in model.model_fields.items():
        flag, words = (
            f"--{name.replace('_', '-')}",
            f"{field.description} (default: {field.default})",
        )
        if field.annotation is bool:  # --flag and --no-flag, without a value
            parser.add_argument(
                flag,
                dest=name,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=words,
            )
            continue
        parser.add_argument(
            flag,
            dest=name,
            metavar=_metavar(field.annotation),
            default=argparse.SUPPRESS,
            help=words,
        )
    flags = vars(parser.parse_args(arguments))
    path = flags.pop("config")
    values: Any = {} if path is None else read_yaml(Path(path))
    if isinstance(values, dict):
        values = values | flags
    return model.parse(values, source=prog if path is None else f"{prog} {path}")


def _metavar(annotation: object) -> str:
    choices = [str(choice) for choice in getattr(annotation, "__args__", ())]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        choices = [str(member.value) for member in annotation]
    if choices:
        return "{" + ",".join(choices) + "}"
    return "N" if annotation is int else "X" if annotation is float else "TEXT"
