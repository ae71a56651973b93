"""What pyproject.toml cannot say: a wheel carries the published studies, compressed."""

import lzma
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithStudies(build_py):
    """Packs studies.db for `study/store/published.py`, which finds it as it is in a clone."""

    def run(self) -> None:
        """Build, then pack."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "study" / "store" / "published.db.xz"
            content = Path(__file__).with_name("studies.db").read_bytes()
            target.write_bytes(lzma.compress(content, preset=9))


setup(cmdclass={"build_py": BuildWithStudies})
