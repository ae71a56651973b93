"""Small files within folders of results: YAML and JSON, nothing in them trusted."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.importing.readers import records, text
from study.importing.table import CellValue
from trainer.errors import UserError

MAX_BYTES = 100_000_000


def load(path: Path) -> dict[str, Any]:
    """Parse a YAML or JSON file that holds an object.

    Raises:
        UserError: it holds none, or is malformed; names the file.
    """
    content = read_text(path)
    if path.suffix == ".json":
        try:
            value = records.load(content)
        except ValueError as error:
            raise UserError(f"{path.name} in {path.parent.name}: is no JSON") from error
    else:
        value = _yaml(path, content)
    if not isinstance(value, dict):
        raise UserError(f"{path.name} in {path.parent.name}: holds no object")
    return {str(name): entry for name, entry in value.items()}


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        UserError: it is very large, or no text.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path.name} in {path.parent.name}: is larger than {MAX_BYTES:,} bytes")
    return text.decode(path.read_bytes())[0]


def _yaml(path: Path, content: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Reads tags of Python objects as their text; makes no object."""

    def as_text(loader: Any, suffix: str, node: Any) -> Any:
        return str(node.value) if isinstance(node, yaml.ScalarNode) else f"<{suffix}>"

    Loader.add_multi_constructor("", as_text)
    try:
        return yaml.load(content, Loader=Loader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path.name} in {path.parent.name}: is no YAML") from error


def flat(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, CellValue]]:
    """Yield what nested objects hold under its path: `config.lr`."""
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            yield from flat(entry, f"{prefix}{name}.")
        elif isinstance(entry, bool | int | float) or entry is None:
            yield f"{prefix}{name}", entry
        elif not isinstance(entry, list) or len(entry) <= records.MANY:
            yield f"{prefix}{name}", str(entry).strip() or None
