"""A connection that says nothing and ends with either side: agents end when their owner does.

The owner listens; each agent connects and shows the token that it was made with. Ray alone does not
do: a busy worker was seen to outlive its node's killed daemon by minutes. An owner that is stopped
or waits for room on a disk keeps the connection, so nothing but its end counts as one.
"""

import contextlib
import hmac
import os
import secrets
import select
import socket
import threading
from collections.abc import Callable

TOKEN_BYTES = 32
# Where the other machine vanishes without a word: seconds until asked, between, how often.
_PROBES = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 6))


class Lifelines:
    """The owner's side: who is connected, by token."""

    def __init__(self) -> None:
        self.server: socket.socket | None = None
        self.address = ("", 0)
        self.expected: dict[str, socket.socket | None] = {}  # None: not connected yet
        self.unproven: list[socket.socket] = []

    def listen(self, host: str) -> None:
        """Wait for agents at an address of this machine that they can reach."""
        self.server = socket.create_server((host, 0), family=_family(host), backlog=1024)
        self.server.setblocking(False)
        self.address = (host, int(self.server.getsockname()[1]))

    def token(self) -> str:
        """Return the token of another agent."""
        token = secrets.token_hex(TOKEN_BYTES // 2)
        self.expected[token] = None
        return token

    def ended(self) -> set[str]:
        """Take in who has connected; return the tokens of those whose connection has ended."""
        while connection := self._accepted():
            self.unproven.append(connection)
        for connection in _readable(self.unproven):
            self.unproven.remove(connection)
            self._admit(connection)
        alive = {line: token for token, line in self.expected.items() if line is not None}
        return {alive[line] for line in _readable(list(alive))}  # nobody says anything more

    def _accepted(self) -> socket.socket | None:
        if self.server is None:
            return None
        try:
            connection, _ = self.server.accept()
        except OSError:  # nobody waits, or is gone again
            return None
        connection.setblocking(True)
        _keep_alive(connection)
        return connection

    def _admit(self, connection: socket.socket) -> None:
        """Keep a connection that shows a token which is expected; close any other."""
        try:
            shown = connection.recv(TOKEN_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            shown = b""
        for token, line in self.expected.items():
            if line is None and hmac.compare_digest(shown, token.encode()):
                self.expected[token] = connection
                return
        connection.close()

    def cut(self, token: str) -> None:
        """End an agent, whatever it does and whoever else can reach it."""
        line = self.expected.pop(token, None)
        if line is not None:
            line.close()

    def close(self) -> None:
        """End all agents."""
        for token in list(self.expected):
            self.cut(token)
        for connection in self.unproven:
            connection.close()
        if self.server is not None:
            self.server.close()


def hold(address: tuple[str, int], token: str, at_end: Callable[[], None]) -> None:
    """End this process, and so its workers, as soon as the owner's side of the connection ends.

    Args:
        address: the owner's.
        token: what it expects.
        at_end: called in a thread right before.

    Raises:
        OSError: the owner cannot be reached.
    """
    line = socket.create_connection(address, timeout=30)
    line.settimeout(None)
    _keep_alive(line)
    line.sendall(token.encode())
    threading.Thread(target=_end_with, args=(line, at_end), daemon=True).start()


def _end_with(line: socket.socket, at_end: Callable[[], None]) -> None:
    try:
        with contextlib.suppress(OSError):
            line.recv(1)
        at_end()
    finally:
        os._exit(1)


def _keep_alive(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES:
        if hasattr(socket, name):  # Linux has them all
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _readable(lines: list[socket.socket]) -> list[socket.socket]:
    poll = select.poll()  # unlike `select`, for any number of them
    by_number = {line.fileno(): line for line in lines}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(0)]
