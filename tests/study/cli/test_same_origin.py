"""The dashboard's server answers its own pages and nobody else's."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from study.cli import main
from study.cli.same_origin import SameOrigin


def answer(host: str | None, origin: str | None = None, listens: str = "localhost") -> str:
    """Ask the server; return the status of its answer."""
    said: list[str] = []

    def application(_: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        start("200 OK", [])
        return []

    given = {"HTTP_HOST": host, "HTTP_ORIGIN": origin}
    environ = {name: value for name, value in given.items() if value is not None}
    SameOrigin(application, listens)(environ, lambda status, _: said.append(status))
    return said[0]


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", None),
        ("LOCALHOST:8080", None),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("localhost:8080", "http://localhost:8080"),
    ],
)
def test_its_own_pages_are_answered(host: str, origin: str | None) -> None:
    assert answer(host, origin) == "200 OK"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (None, None),
        ("", None),
        ("evil.example", None),  # resolves to this machine
        ("evil.example:8080", "http://evil.example:8080"),
        ("localhost.evil.example:8080", None),
        ("localhost:8080", "http://evil.example"),
        ("localhost:8080", "http://localhost:9999"),
        ("localhost:8080", "https://localhost:8080"),
        ("localhost:8080", "null"),
        ("[::1", None),
        ("127.0.0.1.evil.example", None),
    ],
)
def test_pages_of_others_are_refused(host: str | None, origin: str | None) -> None:
    assert answer(host, origin) == "403 Forbidden"


def test_a_server_that_listens_by_a_name_is_asked_by_it() -> None:
    assert answer("box.example:80", listens="box.example") == "200 OK"


@pytest.mark.parametrize("url", ["postgresql://u:secret@localhost/db", "mysql://localhost/db"])
def test_a_database_server_is_never_served_live(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dashboard", "--storage", url])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert "secret" not in said.err
