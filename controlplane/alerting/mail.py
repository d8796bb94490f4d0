"""Notifications as mail: one message to all addresses of a channel, and what the mail server said of each."""

from __future__ import annotations

import smtplib
from collections.abc import Mapping, Sequence

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.smtp import EmailBackend
from django.core.mail.message import sanitize_address

from controlplane.alerting.names import addresses_of
from controlplane.alerting.outcome import Outcome

NAME_S = 5.0  # to find the mail server
Refused = Mapping[str, tuple[int, bytes]]


def mail(to: Sequence[str], subject: str, text: str, number: int | None) -> Outcome:
    """Send a mail; ``number`` names it, so that one that is sent again after all is known to be the same.

    Answers of 5xx are final, of 4xx worth another try. Names and passwords only go over TLS that was verified.
    """
    if not settings.EMAIL_HOST and "smtp" in settings.EMAIL_BACKEND:
        return Outcome(False, False, "No mail server is set: TIDEGATE_SMTP_URL.")
    host = settings.MAIL_FROM.rpartition("@")[2].strip("> ") or "localhost"
    headers = {"Message-ID": f"<tidegate-{number}@{host}>", "Auto-Submitted": "auto-generated"}
    message = EmailMessage(" ".join(subject.split()), text, settings.MAIL_FROM, list(to), headers=headers)
    try:
        refused = _handed_over(message)
    except smtplib.SMTPRecipientsRefused as error:
        return Outcome(
            False, any(code < 500 for code, _ in error.recipients.values()), f"refused: {_said(error.recipients)}"
        )
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return Outcome(False, error.smtp_code < 500, f"{error.smtp_code} {said}")
    except smtplib.SMTPNotSupportedError as error:
        return Outcome(False, False, str(error))
    rest = f"; refused: {_said(refused)}" if refused else ""
    return Outcome(True, False, f"mailed to {len(to) - len(refused)}{rest}")


def _handed_over(message: EmailMessage) -> Refused:
    """Hand a message to the mail server; return whom it will not reach, when it reaches others."""
    backend = get_connection()
    if not isinstance(backend, EmailBackend):
        backend.send_messages([message])
        return {}
    addresses_of(backend.host, backend.port, NAME_S)  # the one below asks the system again, without a limit
    try:
        backend.open()
        server = backend.connection
        if server is None:
            raise smtplib.SMTPServerDisconnected("The mail server was not reached.")
        sender = sanitize_address(message.from_email, "utf-8")
        body = message.message().as_bytes().replace(b"\n", b"\r\n")
        refused: Refused = server.sendmail(sender, message.recipients(), body)
        return refused
    finally:
        backend.close()


def _said(refused: Refused) -> str:
    return ", ".join(f"{address} ({code} {text.decode(errors='replace')})" for address, (code, text) in refused.items())
