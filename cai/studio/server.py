"""Serve the studio on the loopback interface until Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn

from cai.errors import InputError, Problem
from cai.studio.app import build_app
from cai.studio.library import Library, Watcher

ADDRESS = "127.0.0.1"


class _Server(uvicorn.Server):
    """A server that ends at Ctrl-C as a command that is done, not as one that was interrupted."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the first signal end the server; none is raised again when it has ended."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(folders: Sequence[Path], port: int, announce: Callable[[str], None]) -> None:
    """Show runs in the browser until the user ends it.

    Args:
        folders: The folders of the runs.
        port: The port to listen at; 0: any that is free.
        announce: Gets the address to open once the server listens there.

    Raises:
        InputError: If a folder is not that of a run, or the port is in use.
    """
    library = Library(folders)
    with _listen(port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(32)
        config = uvicorn.Config(
            build_app(library, token, str(port)),
            access_log=False,  # it would have the token in it
            log_level="error",
            proxy_headers=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        watcher = Watcher(library)
        watcher.start()
        announce(f"http://{ADDRESS}:{port}/?token={token}")
        try:
            _Server(config).run(sockets=[listener])
        finally:
            watcher.stop()
            watcher.join(timeout=5)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
        listener.listen(128)  # the address is printed before the server takes its first request
    except OSError as error:
        listener.close()
        text = f"port {port} cannot be used ({error.strerror}); choose another"
        raise InputError([Problem("--port", text)]) from None
    return listener
