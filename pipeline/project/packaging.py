"""Puts the repository's dvc.yaml into the wheel, so that the repository needs no copy.

pyproject.toml names :class:`BuildPy`; nothing imports it when the package is used.
"""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py

FILES = ("dvc.yaml",)


class BuildPy(build_py):
    """Copies packages, and :data:`FILES` of the repository's root into ``pipeline/config``."""

    def run(self) -> None:
        """Build the packages; an editable install reads the files where they lie."""
        super().run()
        if not self.editable_mode:
            for name in FILES:
                target = Path(self.build_lib) / "pipeline" / "config" / name
                self.copy_file(name, str(target), preserve_mode=False)

    def get_source_files(self) -> list[str]:
        """What a source distribution must hold."""
        return [*super().get_source_files(), *FILES]
