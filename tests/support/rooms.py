"""The map of the house, docs/rooms.md: every module with the first line that it says of itself.

`python -m tests.support.rooms` writes it; tests/test_docs.py checks it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.house import PACKAGES, ROOT, modules, tree

PAGE = ROOT / "docs" / "rooms.md"


def page() -> str:
    """Return the whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Every room of the house"
    yield "Made of what each module says of itself (`python -m tests.support.rooms`); how they work"
    yield "together is in [architecture.md](architecture.md)."
    for package in PACKAGES:
        folder = ""
        for file in sorted(modules(package).values(), key=lambda own: (own.parent, own.name)):
            here = str(file.parent.relative_to(ROOT))
            if here != folder:
                folder = here
                yield f"\n## {here}/\n{_said(file.parent / '__init__.py')}\n"
                yield "| room | what happens there |\n|---|---|"
            if not file.name.startswith("__"):
                yield f"| `{file.name}` | {_said(file)} |"


def _said(file: Path) -> str:
    """Return the first paragraph of a module's docstring, in one line."""
    said = ast.get_docstring(tree(file)) or ""
    return " ".join(said.partition("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
