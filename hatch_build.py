"""Build hook: compile ``spikebottlenet.codec._native`` where there is a C compiler.

Without one the package is built all the same and codes in NumPy: the same bytes in more time.
"""

import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.errors import BaseError

_MODULE = "spikebottlenet.codec._native"
_SOURCES = Path("shared")
_LIMITED_API = "cp311"  # what _native.c asks for: one file for 3.11 and all after it


class NativeBuildHook(BuildHookInterface[Any]):
    """Puts the module beside its source, and into wheels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before files are collected."""
        built = self._compile()
        if built is None:
            return
        inside = built.relative_to(Path(self.root, _SOURCES)).as_posix()
        build_data["force_include"][str(built)] = inside
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"{_LIMITED_API}-abi3-{platform}"

    def _compile(self) -> Path | None:
        sources = Path(self.root, _SOURCES)
        source = sources.joinpath(*_MODULE.split(".")).with_suffix(".c")
        extension = Extension(
            _MODULE, [str(source)], extra_compile_args=["-O3"], py_limited_api=True
        )
        command = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        command.build_lib = str(sources)
        command.build_temp = str(Path(self.root, "build", "native"))
        command.ensure_finalized()
        built = Path(command.get_ext_fullpath(_MODULE))
        built.unlink(missing_ok=True)  # one of another source would be taken for this one's
        try:
            command.run()
        except (BaseError, OSError) as error:
            self.app.display_warning(f"no {_MODULE}, which makes coding faster: {error}")
            return None
        return built
