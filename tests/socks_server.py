"""A SOCKS 5 proxy for tests: it knows hosts by a table of its own, which nobody reaches without it."""

import contextlib
import selectors
import socket
import socketserver
import struct
import threading


class SocksServer:
    """A proxy on loopback that asks for no log-in.

    Args:
        hosts: where the hosts are that nobody else knows: name to (address, port).

    Attributes:
        url: for ALL_PROXY; the proxy resolves the names.
        asked: the hosts that clients have asked for, in order.
    """

    def __init__(self, hosts: dict[str, tuple[str, int]]) -> None:
        asked = self.asked = list[str]()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                host = _read_request(self.request)
                asked.append(host)
                if host not in hosts:
                    self.request.sendall(b"\x05\x04\x00\x01" + bytes(6))  # host unreachable
                    return
                with socket.create_connection(hosts[host], timeout=30) as server:
                    self.request.sendall(b"\x05\x00\x00\x01" + bytes(6))
                    with contextlib.suppress(OSError):
                        _pass_on(self.request, server)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"socks5h://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the client has closed")
        data += more
    return data


def _read_request(connection: socket.socket) -> str:
    """Return the host that a client wants to be connected to (RFC 1928)."""
    _, methods = _read(connection, 2)
    _read(connection, methods)
    connection.sendall(b"\x05\x00")
    _, _, _, kind = _read(connection, 4)
    if kind == 3:
        host = _read(connection, _read(connection, 1)[0]).decode()
    else:
        host = socket.inet_ntoa(_read(connection, 4))
    struct.unpack("!H", _read(connection, 2))
    return host


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    """Pass bytes on in both directions until one side closes."""
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
