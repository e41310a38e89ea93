"""`make ui` on a machine on which something answers at its address already."""

import pytest

from flows.ops import local_server
from flows.ops.local_server import LocalServer, asks_for, stop
from flows.ops.pools import DeploymentError
from flows.ops.processes import Process
from flows.ops.server_settings import GIVEN

LOGIN = "mnist:its-login"


@pytest.mark.parametrize(
    ("without", "with_it", "asks"),
    [
        (401, 200, True),
        (200, 200, False),  # it asks for no login, as before there was one
        (401, 401, False),  # it asks for another one
        (503, 200, True),  # too busy to say
        (401, 503, True),
    ],
)
def test_a_server_is_asked_whether_it_asks_for_the_login(serve, without, with_it, asks):
    """Both without the login and with it; one that cannot answer now is left alone."""
    url = serve(lambda login: with_it if login == LOGIN else without)

    assert asks_for(url, LOGIN) is asks


@pytest.mark.parametrize(("status", "kept"), [(401, True), (200, False)], ids=["asks", "asks for none"])
def test_a_running_server_that_asks_for_no_login_is_replaced(serve, monkeypatch, tmp_path, status, kept):
    """`make ui` after an update leaves no open server, and no worker that cannot log in to the new one."""
    url = serve(lambda login: 200 if login == LOGIN else status)
    server = LocalServer(tmp_path)
    done: list[str] = []
    server.url_file.write_text(url)
    monkeypatch.setenv(GIVEN, LOGIN)
    monkeypatch.setattr(local_server, "is_alive", lambda _home, _name: True)
    monkeypatch.setattr(
        local_server, "read_processes", lambda _home: {name: Process(0, name) for name in ("server", "cpu")}
    )
    monkeypatch.setattr(local_server, "end", lambda ended: done.extend(process.began for process in ended))
    monkeypatch.setattr(LocalServer, "start", lambda _server, name, *_: done.append(f"start {name}"))

    local_server._start_server(server, url, 4200)

    assert done[:2] == ([] if kept else ["cpu", "server"])
    assert done[-1:] == ([] if kept else ["start server"])


def test_a_server_of_somebody_else_is_not_ended(serve, tmp_path, monkeypatch):
    """Its port is named, with the way out."""
    url = serve(lambda _login: 200)
    monkeypatch.setenv(GIVEN, LOGIN)

    with pytest.raises(DeploymentError, match="UI_PORT"):
        local_server._start_server(LocalServer(tmp_path), url, 4200)

    assert list(tmp_path.iterdir()) == []


def test_stop_says_so_if_nothing_ran(monkeypatch, tmp_path, capsys):
    """`make ui-stop` answers in either case, so that nobody wonders whether it did something."""
    monkeypatch.setenv("MNIST_HOME", str(tmp_path))

    stop()

    assert capsys.readouterr().out == f"Nothing of {tmp_path} was running.\n"
