# ruff: noqa: N818 -- the names say what happened ("the peer is silent"), which "Error" behind each would blur
"""What can go wrong between us and Asterisk, each with what to do about it.

Every text names the setting to change. No text ever holds the secret: none of these classes is given it.
"""

from __future__ import annotations

from typing import ClassVar

_SHOWN = 200
"""Characters of a peer's own words that an error quotes at most."""


def quoted(words: str) -> str:
    """Give a peer's words so that they can stand in one line of a log: printable, at most 200 characters."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words[:_SHOWN])
    return f'"{shown}{"…" if len(words) > _SHOWN else ""}"'


class AsteriskError(Exception):
    """Base of all errors of this room.

    `problem` says what happened, `remedy` what to do; both are plain sentences. `code` is stable, for logs and metrics.
    """

    code: ClassVar[str] = "asterisk"

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy


class ConnectionRefused(AsteriskError):
    """Nobody listens on the port."""

    code = "connection_refused"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Nobody listens on {host}:{port}",
            "Is Asterisk running, with enabled = yes and a matching bindaddr and port in manager.conf? "
            "Otherwise correct asterisk.host or asterisk.port.",
        )


class HostUnknown(AsteriskError):
    """The name has no address."""

    code = "host_unknown"

    def __init__(self, host: str) -> None:
        super().__init__(f"The name {quoted(host)} has no address", "Correct asterisk.host or the name resolution.")


class ConnectTimeout(AsteriskError):
    """No connection, or no TLS handshake, in time."""

    code = "connect_timeout"

    def __init__(self, host: str, port: int, seconds: float) -> None:
        super().__init__(
            f"No connection to {host}:{port} within {seconds:g} s",
            "A firewall between the two often is the reason; otherwise correct asterisk.host or asterisk.port.",
        )


class HostUnreachable(AsteriskError):
    """The network has no way to the host, or the connection broke while it was being made."""

    code = "host_unreachable"

    def __init__(self, host: str, port: int, detail: str) -> None:
        super().__init__(
            f"No connection to {host}:{port} ({detail})",
            "Check the network, asterisk.host and asterisk.port.",
        )


class NotAmi(AsteriskError):
    """Something else than Asterisk's manager interface listens there."""

    code = "not_ami"

    def __init__(self, host: str, port: int, what: str) -> None:
        super().__init__(
            f"{host}:{port} is no Asterisk manager interface: {what}",
            "Set asterisk.port to the port of manager.conf (5038 by default, tlsbindaddr's with TLS).",
        )


class ClosedBeforeGreeting(AsteriskError):
    """The peer closed the connection without a word."""

    code = "closed_before_greeting"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} closed the connection before AMI's greeting",
            "Is asterisk.port the manager's port? If it is the TLS one, set asterisk.tls = true. "
            "Asterisk also does so above authlimit (manager.conf).",
        )


class PeerSpeaksTls(AsteriskError):
    """We spoke plainly, the peer wants TLS."""

    code = "peer_speaks_tls"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} expects TLS", "Set asterisk.tls = true, or asterisk.port to the plain port.")


class PeerSpeaksPlainly(AsteriskError):
    """We spoke TLS, the peer does not."""

    code = "peer_speaks_plainly"

    def __init__(self, host: str, port: int, detail: str) -> None:
        super().__init__(
            f"{host}:{port} does not speak TLS ({detail})",
            "Set asterisk.port to tlsbindaddr's port of manager.conf (5039 by default), or asterisk.tls = false.",
        )


class CertificateNotTrusted(AsteriskError):
    """The peer's certificate does not hold."""

    code = "certificate_not_trusted"

    def __init__(self, host: str, port: int, detail: str) -> None:
        super().__init__(
            f"The certificate of {host}:{port} is not trusted ({detail})",
            "Set asterisk.ca_file to the certificate that signed it, and asterisk.host to a name that it is "
            "made out to.",
        )


class CaFileUnusable(AsteriskError):
    """The file with the trusted certificates cannot be read."""

    code = "ca_file_unusable"

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(
            f"No certificates can be read from {path} ({detail})",
            "Set asterisk.ca_file to a readable file with PEM certificates.",
        )


class LoginRefused(AsteriskError):
    """Asterisk did not accept the account. It says no more than that, on purpose."""

    code = "login_refused"

    def __init__(self, username: str, message: str) -> None:
        super().__init__(
            f"Asterisk refused the login of {quoted(username)}: {quoted(message)}",
            "Check asterisk.username and asterisk.secret against manager.conf; a permit/deny list there that does not "
            "let this host in looks just the same.",
        )


class Md5NotOffered(AsteriskError):
    """Asterisk does not give a challenge."""

    code = "md5_not_offered"

    def __init__(self, message: str) -> None:
        super().__init__(
            f"Asterisk offers no MD5 login: {quoted(message)}",
            'Set asterisk.auth = "plain" (with asterisk.tls = true if the network is not trusted).',
        )


class ConnectionLost(AsteriskError):
    """The connection ended by itself."""

    code = "connection_lost"

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"The connection to Asterisk was lost ({detail})",
            "Nothing to do if Asterisk was restarted; otherwise look at its log and at the network.",
        )


class AsteriskStopped(AsteriskError):
    """Asterisk announced its end (`Event: Shutdown`)."""

    code = "asterisk_stopped"

    def __init__(self) -> None:
        super().__init__("Asterisk shuts down or restarts", "Nothing to do if that was intended.")


class PeerSilent(AsteriskError):
    """A ping went unanswered."""

    code = "peer_silent"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"Asterisk did not answer a ping within {seconds:g} s",
            "Look at Asterisk's load and at the network, or raise asterisk.ping_timeout.",
        )


class MessageTooLarge(AsteriskError):
    """The peer sent a message without an end."""

    code = "message_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"Asterisk sent a message of more than {limit} bytes",
            "No Asterisk does so: is something else between us and asterisk.host?",
        )


class SessionClosed(AsteriskError):
    """We closed the session ourselves."""

    code = "session_closed"

    def __init__(self) -> None:
        super().__init__("The session with Asterisk was closed from this side", "Nothing to do.")


class HeaderInjection(AsteriskError):
    """A header of an action held a control character, by which it could have ended and begun another."""

    code = "header_injection"

    def __init__(self, header: str) -> None:
        super().__init__(
            f"The header {quoted(header)} of an action holds a control character or half a character",
            "Nothing was sent. Correct the setting or the reply from which it comes.",
        )


class ActionTimeout(AsteriskError):
    """Asterisk did not answer an action."""

    code = "action_timeout"

    def __init__(self, action: str, seconds: float) -> None:
        super().__init__(
            f"Asterisk did not answer the action {action} within {seconds:g} s",
            "Look at Asterisk's load and at the network.",
        )


class ActionRefused(AsteriskError):
    """Asterisk answered an action with an error."""

    code = "action_refused"

    def __init__(self, action: str, message: str) -> None:
        super().__init__(
            f"Asterisk refused the action {action}: {quoted(message)}",
            "If it says 'Permission denied', give the account of asterisk.username "
            "write = call,originate in manager.conf.",
        )
        self.message = message


class GarbledAnswer(AsteriskError):
    """An answer that makes no sense, or that has no end."""

    code = "garbled_answer"

    def __init__(self, action: str) -> None:
        super().__init__(
            f"Asterisk's answer to the action {action} makes no sense",
            "Is something else between us and asterisk.host?",
        )


class TooManyActions(AsteriskError):
    """More actions wait for an answer than may."""

    code = "too_many_actions"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} actions wait for Asterisk's answer", "Look at Asterisk's load.")


class NotARecording(AsteriskError):
    """A file that holds no AMI stream."""

    code = "not_a_recording"

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path} is no recording of an AMI stream ({detail})", "Make one with `ami2zammad record`.")
