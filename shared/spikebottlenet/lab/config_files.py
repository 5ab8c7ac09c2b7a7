"""Training configs by path, or those that ship with the package by name."""

from importlib import resources
from pathlib import Path

from spikebottlenet.config import read_yaml
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.config import DataSettings, TrainingConfig
from spikebottlenet.lab.data_rows import nearest
from spikebottlenet.lab.export import TRAINING_CONFIG


def shipped_configs() -> dict[str, Path]:
    """Every shipped config, by its name."""
    folder = Path(str(resources.files("spikebottlenet.lab"))) / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def config_file(name_or_path: str) -> Path:
    """The file that a user means.

    Raises:
        ConfigError: there is no such file, and no shipped config of that name.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if name_or_path not in shipped:
        raise ConfigError(
            f"no config {name_or_path!r}: give a YAML file, or the name of a shipped one; "
            f"{nearest(name_or_path, shipped)}"
        )
    return shipped[name_or_path]


def bundle_data_settings(folder: Path) -> DataSettings:
    """How the data of a bundle were read, by the config beside it; so its test part is the same."""
    path = folder / TRAINING_CONFIG
    if not path.exists():
        return DataSettings()
    return TrainingConfig.parse(read_yaml(path), source=str(path)).data
