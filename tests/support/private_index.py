"""A private package index: HTTPS with a certificate of its own, and a password."""

from __future__ import annotations

import base64
import datetime
import hashlib
import importlib.metadata
import io
import secrets
import ssl
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path


def wheel(
    name: str,
    version: str,
    files: dict[str, bytes],
    *,
    tags: tuple[str, ...] = ("py3-none-any",),
    requires: tuple[str, ...] = (),
) -> bytes:
    """Return a wheel with these files and requirements."""
    info = f"{name}-{version}.dist-info"
    lines = "".join(f"Tag: {tag}\n" for tag in tags)
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n{lines}".encode(),
    }
    record = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in {**content, f"{info}/RECORD": record.encode()}.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if path.partition(".data/scripts/")[2] else 0o100644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def installed_uv() -> tuple[str, str, bytes]:
    """Return version, file name and content of a wheel made of this environment's own uv."""
    found = importlib.metadata.distribution("uv")
    wheel_file = found.read_text("WHEEL") or ""
    tags = tuple(line.split()[1] for line in wheel_file.splitlines() if line.startswith("Tag:"))
    files = {}
    for path in found.files or []:
        if path.name == "uv" and path.parent.name == "bin":
            files[f"uv-{found.version}.data/scripts/uv"] = path.read_binary()
        elif path.parts[0] == "uv" and path.suffix == ".py":
            files[path.as_posix()] = path.read_binary()
    name = f"uv-{found.version}-py3-none-{'.'.join(tag.rpartition('-')[2] for tag in tags)}.whl"
    return found.version, name, wheel("uv", found.version, files, tags=tags)


def installed_modules(distribution: str) -> dict[str, bytes]:
    """Return path and content of the Python modules of a package of this environment."""
    files = importlib.metadata.distribution(distribution).files or []
    return {path.as_posix(): path.read_binary() for path in files if path.suffix == ".py"}


class PrivateIndex:
    """Serves wheels at localhost, below ``/simple``, to those who know the password.

    Args:
        directory: Where the certificates are written.
        wheels: File name and content.
    """

    def __init__(self, directory: Path, wheels: dict[str, bytes]) -> None:
        self.password = f"secret-{secrets.token_hex(16)}"
        self.wheels = wheels
        self.granted: list[str] = []
        self.authority = directory / "ca.pem"
        self._make_certificates(directory)
        credentials = base64.b64encode(f"builder:{self.password}".encode()).decode()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Authorization") != f"Basic {credentials}":
                    self.answer(401, b"who are you?")
                    return
                index.granted.append(self.path)
                project, _, file = self.path.removeprefix("/simple/").partition("/")
                if file in index.wheels:
                    self.answer(200, index.wheels[file])
                    return
                names = [name for name in index.wheels if name.startswith(f"{project.replace('-', '_')}-")]
                links = "".join(f'<a href="/simple/{project}/{name}">{name}</a>' for name in names)
                self.answer(
                    200 if names else 404, f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
                )

            def do_HEAD(self) -> None:
                self.do_GET()

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://builder:{self.password}@localhost:{self._server.server_address[1]}/simple"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _make_certificates(self, directory: Path) -> None:
        """Write an authority's certificate, and one that it has signed: uv refuses one that is both."""
        authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = certificate(
            "private authority", authority_key, "private authority", authority_key, ca=True
        )
        leaf = certificate("localhost", key, "private authority", authority_key, ca=False)
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        (directory / "server.pem").write_bytes(
            leaf.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    """Return a certificate for a day, whose subject is also its DNS name."""
    now = datetime.datetime.now(datetime.UTC)
    names = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)}
    return (
        x509.CertificateBuilder()
        .subject_name(names[subject])
        .issuer_name(names[issuer])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject.replace(" ", "-"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def requirement(name: str, version: str, content: bytes) -> str:
    """Return a line of requirements.txt that pins a wheel by its hash."""
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
