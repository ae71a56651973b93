"""Requests of other pages are refused: a local server answers whatever page a browser has open.

A page elsewhere may send requests to a local port (then `Origin` names it), or have its own name
resolve to this machine, "DNS rebinding" (then `Host` names it).
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class SameOrigin:
    """A WSGI application that answers only requests made to it by its own pages.

    Args:
        application: what answers them.
        host: where it listens.
    """

    def __init__(self, application: Application, host: str) -> None:
        self.application = application
        self.names = {"localhost", host.lower(), socket.gethostname().lower()} - {""}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request, or refuse it with 403."""
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        if self._is_ours(host) and origin in (None, f"http://{host}"):
            return self.application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Only pages of this server may ask it.\n"]

    def _is_ours(self, host: str) -> bool:
        """Whether a `Host` names this server; an address does, for nobody's name leads to it."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name in self.names
