"""What the site does with pages that are read in the repository too."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files beside docs/, which the site does not hold, instead of linking to them."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)", r"\1 (`\2` in the repository)", markdown)
