"""Secure connections to the engines: TLS contexts and logins from the settings, and reasons when one is refused."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

from cassandra import AuthenticationFailed, UnresolvableContactPoints
from cassandra.cluster import NoHostAvailable

from shared.errors import ConfigurationError
from shared.settings import Settings

PROBE_SECONDS = 3.0
"""How long one look at a broker that let nobody in may take: the explanation must not hang where the client gave up."""


def kafka_security(settings: Settings) -> dict[str, Any]:
    """Security arguments of any aiokafka client. Raises ConfigurationError for a file without certificate or key."""
    options: dict[str, Any] = {
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": kafka_ssl_context(settings),
    }
    password = settings.kafka_sasl_password
    if settings.kafka_security_protocol.startswith("SASL") and password is not None:
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.get_secret_value(),
        }
    return options


def kafka_ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS context for the brokers, None where the protocol has no TLS. Raises ConfigurationError."""
    if settings.kafka_security_protocol not in ("SSL", "SASL_SSL"):
        return None
    context = _trusting("KAFKA_CA_FILE", settings.kafka_ca_file)
    certificate, key = settings.kafka_client_cert_file, settings.kafka_client_key_file
    if certificate is not None:
        try:
            # An empty password: OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(
                f"KAFKA_CLIENT_CERT_FILE={certificate} and KAFKA_CLIENT_KEY_FILE={key} are not a PEM certificate and "
                f"its unencrypted key: {error}"
            ) from error
    return context


def cassandra_ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS context for the nodes, None without CASSANDRA_TLS. Raises ConfigurationError."""
    if not settings.cassandra_tls:
        return None
    context = _trusting("CASSANDRA_CA_FILE", settings.cassandra_ca_file)
    context.check_hostname = settings.cassandra_check_hostname
    return context


def s3_verify(settings: Settings) -> str | None:
    """What a boto3 client takes as `verify`: the file of an own authority, or None for the public ones."""
    return str(settings.s3_ca_file) if settings.s3_ca_file is not None else None


def _trusting(setting: str, authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"{setting}={authorities} holds no PEM certificate: {error}") from error


async def explain_kafka(settings: Settings) -> str:
    """Why no broker lets us in, and what to do, as far as a look at the first one can tell.

    Clients say "unable to bootstrap" for a wrong address, a missing authority and a wrong password alike.
    """
    host, _, port = settings.kafka_bootstrap_servers.split(",")[0].strip().rpartition(":")
    address, protocol = f"{host}:{port}", settings.kafka_security_protocol
    try:
        await _reach(host, int(port), None)
    except (OSError, ValueError, TimeoutError) as error:
        return f"nothing answers at {address} ({error!r}): check KAFKA_BOOTSTRAP_SERVERS, and that the broker runs"
    context = kafka_ssl_context(settings)
    if context is None:
        if await _speaks_tls(host, int(port)):
            return f"{address} speaks TLS: set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, it is {protocol}"
    elif problem := await _tls_problem(host, int(port), context):
        return f"{address}: {problem}"
    if protocol.startswith("SASL"):
        return (
            f"{address} answers; if it refuses the login of {settings.kafka_sasl_username!r} by "
            f"{settings.kafka_sasl_mechanism}, check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and that the user "
            "was made for this mechanism"
        )
    return (
        f"{address} answers, but not to KAFKA_SECURITY_PROTOCOL={protocol}: it may ask for a login (SASL) or a client "
        "certificate, or is still starting"
    )


async def _reach(host: str, port: int, context: ssl.SSLContext | None) -> None:
    async with asyncio.timeout(PROBE_SECONDS):
        _, writer = await asyncio.open_connection(host, port, ssl=context)
        writer.close()
        # How the other side takes the goodbye says nothing about whether it was reached.
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _speaks_tls(host: str, port: int) -> bool:
    anyone = ssl.create_default_context()
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    try:
        await _reach(host, port, anyone)
    except (OSError, TimeoutError):
        return False
    return True


async def _tls_problem(host: str, port: int, context: ssl.SSLContext) -> str | None:
    try:
        await _reach(host, port, context)
    except ssl.SSLCertVerificationError as error:
        return (
            f"its certificate is not trusted ({error.verify_message}): set KAFKA_CA_FILE to the PEM file of the "
            "authority that signed it, and reach the broker by a name that the certificate holds"
        )
    except (OSError, TimeoutError) as error:
        return f"no TLS there ({error!r}): check KAFKA_SECURITY_PROTOCOL and the listener's port"
    return None


def explain_cassandra(error: Exception, settings: Settings) -> str:
    """The driver's error, and what to do about it where that is known."""
    if isinstance(error, UnresolvableContactPoints):
        return f"no address for {', '.join(settings.cassandra_contact_points)}: check CASSANDRA_CONTACT_POINTS"
    # `errors` maps hosts to errors, but is a list of hosts where the driver never got so far as to try them.
    tried = error.errors if isinstance(error, NoHostAvailable) else None
    causes = list(tried.values()) if isinstance(tried, dict) else [error]
    text = "; ".join(str(cause) for cause in causes) or str(error)
    if any(isinstance(cause, AuthenticationFailed) for cause in causes) or "Bad credentials" in text:
        return f"{text}: check CASSANDRA_USERNAME and CASSANDRA_PASSWORD"
    if "certificate verify failed" in text.lower():
        return (
            f"{text}: set CASSANDRA_CA_FILE to the PEM file of the authority that signed the nodes' certificates; "
            "where these do not name the nodes' IP addresses, CASSANDRA_CHECK_HOSTNAME=false"
        )
    if "refused" in text.lower():
        return f"{text}: check CASSANDRA_CONTACT_POINTS and CASSANDRA_PORT, and that the node runs"
    if not settings.cassandra_tls:
        return f"{text} (CASSANDRA_TLS is off: a node that wants TLS closes such connections)"
    return f"{text} (CASSANDRA_TLS is on: a node without TLS does not answer to it)"


def explain_s3(error: Exception) -> str:
    """The client's error, and what to do about it where that is known."""
    text = f"{type(error).__name__}: {error}"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"{text}: set S3_CA_FILE to the PEM file of the authority that signed the server's certificate"
    return text
