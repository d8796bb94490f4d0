"""Mail through a server that speaks SMTP on a socket: TLS, names and passwords, refusals, silence, and what is tried again."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_django import Settings

from controlplane.alerting import senders
from controlplane.alerting.actions import configuring, delivering
from controlplane.alerting.models import Delivery
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import NOW
from tests.alerting.test_senders import BODY

pytestmark = pytest.mark.django_db


class MailServer:
    """A server for one test: takes mails, refuses what it is told to, and remembers what was said to it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.answers: dict[str, str] = {}  # by the beginning of a command, in place of the usual
        self.login = ""
        self.silent = False
        self.heard: list[str] = []
        self.mails: list[tuple[bool, list[str], str]] = []  # encrypted, to whom, what
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(plain,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            self._session(connection)
        except (OSError, ssl.SSLError):
            return

    def _session(self, connection: socket.socket) -> None:
        if self.silent:
            threading.Event().wait(5)
            return
        secure, to = False, list[str]()
        stream = connection.makefile("rwb", buffering=0)
        stream.write(b"220 here\r\n")
        while line := stream.readline().decode().strip():
            self.heard.append(line)
            said = next((text for begin, text in self.answers.items() if line.upper().startswith(begin)), "")
            verb = line.partition(" ")[0].upper()
            if said:
                stream.write(said.encode() + b"\r\n")
            elif verb == "EHLO":
                more = "" if self.tls is None or secure else "250-STARTTLS\r\n"
                stream.write(f"250-here\r\n{more}250 AUTH PLAIN\r\n".encode())
            elif verb == "STARTTLS" and self.tls is not None:
                stream.write(b"220 go on\r\n")
                connection = self.tls.wrap_socket(connection, server_side=True)
                stream, secure = connection.makefile("rwb", buffering=0), True
            elif verb == "AUTH":
                given = base64.b64decode(line.split()[-1]).decode().replace("\0", ":").strip(":")
                stream.write(b"235 welcome\r\n" if given == self.login else b"535 who are you\r\n")
            elif verb == "DATA":
                stream.write(b"354 go on\r\n")
                text = b""
                while not text.endswith(b"\r\n.\r\n"):
                    text += stream.readline()
                self.mails.append((secure, to, text.decode()))
                stream.write(b"250 taken\r\n")
            else:
                if verb == "RCPT":
                    to.append(line.partition("<")[2].partition(">")[0])
                stream.write(b"221 bye\r\n" if verb == "QUIT" else b"250 well\r\n")

    def close(self) -> None:
        """Listen no more: a socket that is only closed goes on accepting as long as a thread waits for it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """Return the TLS of a server at 127.0.0.1, and the file of who vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    trusted, private = tmp_path / "trusted.pem", tmp_path / "private.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted


Start = Callable[..., MailServer]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Start a server that the settings name."""
    made: list[MailServer] = []

    def starting(tls: ssl.SSLContext | None = None, **more: Any) -> MailServer:
        server = MailServer(tls)
        made.append(server)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        settings.EMAIL_USE_TLS, settings.EMAIL_TIMEOUT = tls is not None, more.pop("timeout", 3)
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = more.pop("user", ""), more.pop("password", "")
        return server

    yield starting
    for each in made:
        each.close()


def sent(target: str = "a@b.example, c@d.example", now: dt.datetime = NOW) -> Delivery:
    """Send one notification by mail and return what became of it."""
    channel = configuring.create_channel(by=SYSTEM, tenant=None, name=f"mail {now}", kind="email", target=target)
    one = Delivery.objects.create(channel=channel, body=BODY, next_at=now)
    delivering.deliver(now=now)
    one.refresh_from_db()
    return one


def test_mail__a_plain_server__gets_it_once_with_all_recipients(start: Start) -> None:
    server = start()

    one = sent()

    ((secure, to, text),) = server.mails
    assert (one.status, one.answer, one.attempts) == ("sent", "mailed to 2", 1)
    assert (secure, to) == (False, ["a@b.example", "c@d.example"])
    assert "Subject: [page] firing: Errors (chat)" in text
    assert f"Message-ID: <tidegate-{one.pk}@" in text


def test_mail__starttls_and_a_password__goes_encrypted(
    start: Start, certificate: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    server = start(context, user="gate", password="secret")
    server.login = "gate:secret"

    one = sent()

    assert (one.status, [secure for secure, _, _ in server.mails]) == ("sent", [True])
    assert server.heard.index("STARTTLS") < next(n for n, line in enumerate(server.heard) if line.startswith("AUTH"))


def test_mail__a_certificate_that_nobody_vouches_for__gets_neither_mail_nor_password(
    start: Start, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    server = start(certificate[0], user="gate", password="secret")

    one = sent()

    assert (one.status, one.attempts) == ("waiting", 1)
    assert "CERTIFICATE_VERIFY_FAILED" in one.answer
    assert not [line for line in server.heard if line.startswith(("AUTH", "MAIL"))]


def test_mail__a_server_without_starttls__gets_no_password(start: Start) -> None:
    server = start(user="gate", password="secret")
    from django.conf import settings

    settings.EMAIL_USE_TLS = True

    one = sent()

    assert one.status == "failed"
    assert "STARTTLS" in one.answer
    assert not [line for line in server.heard if line.startswith("AUTH")]


def test_mail__a_wrong_password__is_a_failure_that_says_so_and_is_not_tried_again(
    start: Start, certificate: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    start(certificate[0], user="gate", password="wrong")

    one = sent()

    assert (one.status, one.attempts) == ("failed", 1)
    assert "535" in one.answer
    assert "wrong" not in one.answer


@pytest.mark.parametrize(
    ("command", "answer", "status"),
    [
        ("RCPT", "550 no such box", "failed"),
        ("RCPT", "450 later", "waiting"),
        ("MAIL", "421 too busy", "waiting"),
        ("MAIL", "553 not from you", "failed"),
        ("DATA", "554 spam", "failed"),
        ("DATA", "451 disk is full", "waiting"),
    ],
)
def test_mail__refused__is_tried_again_only_when_that_may_help(
    command: str, answer: str, status: str, start: Start
) -> None:
    server = start()
    server.answers[command] = answer

    one = sent()

    assert (one.status, one.attempts) == (status, 1)
    assert answer[:3] in one.answer
    assert not server.mails


def test_mail__one_recipient_is_refused__the_other_gets_it_and_the_log_names_the_one(start: Start) -> None:
    server = start()
    server.answers["RCPT TO:<C@D"] = "550 no such box"

    one = sent()

    assert (one.status, [to for _, to, _ in server.mails]) == ("sent", [["a@b.example"]])
    assert one.answer == "mailed to 1; refused: c@d.example (550 no such box)"


def test_mail__a_server_that_says_nothing__is_given_up_after_its_time_and_tried_again(start: Start) -> None:
    server = start(timeout=0.1)
    server.silent = True

    one = sent()
    first = (one.status, one.attempts, one.next_at)
    server.silent = False
    delivering.deliver(now=one.next_at)

    one.refresh_from_db()
    assert first == ("waiting", 1, NOW + delivering._FIRST_PAUSE)
    assert (one.status, one.attempts, len(server.mails)) == ("sent", 2, 1)


def test_mail__nobody_listens__is_tried_again(settings: Settings, start: Start) -> None:
    server = start()
    server.close()

    one = sent()

    assert (one.status, one.answer.partition(":")[0]) == ("waiting", "ConnectionRefusedError")


def test_subject__with_line_breaks__is_one_line(start: Start) -> None:
    server = start()
    channel = configuring.create_channel(by=SYSTEM, tenant=None, name="m", kind="email", target="a@b.example")

    outcome = senders.send(Delivery(pk=1, channel=channel, body={**BODY, "label": "a\r\nBcc: evil@x.example"}))

    assert outcome.arrived
    assert server.mails[0][1] == ["a@b.example"]
