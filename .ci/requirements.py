"""Print requirements of pyproject.toml for pip, a line each.

    python .ci/requirements.py lowest         the lowest versions that are allowed, as constraints
    python .ci/requirements.py without-torch  what is needed where no torch can be had

Which torch there is depends on the machine, so both leave it and torchvision out.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print what is asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        if requirement.startswith("torch"):
            continue
        if sys.argv[1] == "lowest":
            name, lowest = re.fullmatch(r"([\w.-]+)>=([\w.]+)(?:,<.*)?", requirement).groups()
            print(f"{name}=={lowest}")
        else:
            print(requirement)


if __name__ == "__main__":
    main()
