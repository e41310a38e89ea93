"""A server whose certificate is not trusted, as behind a company's proxy: each client says so at once."""

import datetime
import ipaddress
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from flows.environment import CERTIFICATES, prepare_environment
from flows.kaggle.client import Client
from flows.kaggle.credentials import Credentials
from flows.kaggle.errors import CompetitionError
from flows.kaggle.session import Session
from flows.store.base import StoreError
from flows.store.open import open_store


@pytest.fixture
def authority(tmp_path):
    """A file with the certificate, and the key, of a server on 127.0.0.1 that signed its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a company")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "company.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server(authority, monkeypatch):
    """An HTTPS server that knows one answer; `server.connections` counts who came, trusting it or not."""
    for name in CERTIFICATES:
        monkeypatch.delenv(name, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = b'{"numAllowedNow": 3}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args):
            pass

    class Server(ThreadingHTTPServer):
        connections = 0

        def get_request(self):
            connection, address = super().get_request()
            self.connections += 1
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return connection, address

        def handle_error(self, *_args):
            pass

    found = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def quota(server):
    """Ask the server for the quota, as a run does."""
    url = f"https://127.0.0.1:{server.server_port}"
    return Client(Session(url, "here", "c", Credentials("a test", "alice", SecretStr("key")), 5)).quota()


def test_the_competitions_certificate_that_is_not_trusted_is_named_at_once(server):
    """One connection, an error that is not tried again, and the variable that helps."""
    with pytest.raises(CompetitionError, match=r"its certificate is not trusted \(self.signed") as caught:
        quota(server)

    assert "SSL_CERT_FILE" in caught.value.remedy
    assert not caught.value.retryable
    assert server.connections == 1


def test_the_stores_certificate_that_is_not_trusted_is_named_at_once(server, monkeypatch):
    """boto3 would repeat the request five times."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{server.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-west-1")
    store = open_store("s3://bucket/p")

    with pytest.raises(StoreError, match="certificate of S3 is not trusted") as caught:
        store.get("a")

    assert "SSL_CERT_FILE" in caught.value.remedy
    assert not caught.value.retryable
    assert server.connections == 1


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_that_one_variable_names_is_trusted(server, authority, monkeypatch, name):
    """On this machine too, where no proxy is used, and whichever client the variable is of."""
    for other in CERTIFICATES:
        monkeypatch.setenv(other, str(authority) if other == name else "")
    prepare_environment()

    assert quota(server) == 3
