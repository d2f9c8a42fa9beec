"""Builds ringtree._core, and ringtree._torch where there is a PyTorch.

CMake compiles and installs them, setuptools packs what stands in pyproject.toml.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
# Kept, so that a second install compiles only what has changed. The .venv of `make` shares its folder.
BUILD = ROOT / "build" / ("release" if Path(sys.prefix) == ROOT / ".venv" else "pip")


class CMakeBuild(build_ext):
    """Lets CMake build the module and install it where setuptools expects the extension."""

    def build_extension(self, ext: Extension) -> None:
        """Configure, build and install; `CMAKE_ARGS` is added to the configuration."""
        if shutil.which("cmake") is None:
            sys.exit("ringtree needs CMake 3.24 or later to build: pip install cmake ninja")
        configure = ["cmake", "-S", str(ROOT), "-B", str(BUILD), f"-DPython_EXECUTABLE={sys.executable}"]
        if not self.is_configured():
            configure += ["--fresh", *(["-G", "Ninja"] if shutil.which("ninja") else [])]
        package_root = Path(self.get_ext_fullpath(ext.name)).parent.parent.resolve()
        jobs = str(self.parallel or os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or os.cpu_count() or 1)
        for command in (
            [*configure, *shlex.split(os.environ.get("CMAKE_ARGS", ""))],
            ["cmake", "--build", str(BUILD), "--target", "modules", "--parallel", jobs],
            ["cmake", "--install", str(BUILD), "--component", "module", "--prefix", str(package_root)],
        ):
            subprocess.run(command, check=True)

    @staticmethod
    def is_configured() -> bool:
        """Tell whether the build folder is there, and for this interpreter: CMake remembers its headers."""
        cache = BUILD / "CMakeCache.txt"
        return cache.exists() and f"={sys.executable}\n" in cache.read_text()


setup(
    ext_modules=[Extension("ringtree._core", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    setup_requires=[
        requirement
        for tool, requirement in {"cmake": "cmake>=3.24", "ninja": "ninja"}.items()
        if shutil.which(tool) is None
    ],
)
