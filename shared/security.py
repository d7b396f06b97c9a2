"""Secure connections to the engines: TLS contexts and logins, and explanations of errors when a client connects."""

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
"""Time-out of one probe of a broker. The broker may hang, and the explanation of the error must not wait for it."""


def kafka_security(settings: Settings) -> dict[str, Any]:
    """Security arguments of an aiokafka client. Raises ConfigurationError if a file has no certificate or key."""
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
    """TLS context for the brokers; None if the protocol does not use TLS. Raises ConfigurationError."""
    if settings.kafka_security_protocol not in ("SSL", "SASL_SSL"):
        return None
    context = _trusting("KAFKA_CA_FILE", settings.kafka_ca_file)
    certificate, key = settings.kafka_client_cert_file, settings.kafka_client_key_file
    if certificate is not None:
        try:
            # With password=None OpenSSL would ask for a password on the terminal if the key is encrypted.
            context.load_cert_chain(certificate, key, password="")
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(
                f"KAFKA_CLIENT_CERT_FILE={certificate} and KAFKA_CLIENT_KEY_FILE={key} are not a PEM certificate and "
                f"its unencrypted key: {error}"
            ) from error
    return context


def cassandra_ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS context for the nodes; None if CASSANDRA_TLS is off. Raises ConfigurationError."""
    if not settings.cassandra_tls:
        return None
    context = _trusting("CASSANDRA_CA_FILE", settings.cassandra_ca_file)
    context.check_hostname = settings.cassandra_check_hostname
    return context


def s3_verify(settings: Settings) -> str | None:
    """The argument `verify` of a boto3 client: the file with a private authority, or None for the public ones."""
    return str(settings.s3_ca_file) if settings.s3_ca_file is not None else None


def _trusting(setting: str, authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"{setting}={authorities} holds no PEM certificate: {error}") from error


async def explain_kafka(settings: Settings) -> str:
    """Why a client cannot connect to Kafka, and what to do. The reason comes from a probe of the first broker.

    The clients report "unable to bootstrap" for a wrong address, an untrusted certificate and a wrong password alike.
    """
    host, _, port = settings.kafka_bootstrap_servers.split(",")[0].strip().rpartition(":")
    address, protocol = f"{host}:{port}", settings.kafka_security_protocol
    try:
        await _reach(host, int(port), None)
    except (OSError, ValueError, TimeoutError) as error:
        return f"no broker answers at {address} ({error!r}): check KAFKA_BOOTSTRAP_SERVERS, and that the broker runs"
    context = kafka_ssl_context(settings)
    if context is None:
        if await _speaks_tls(host, int(port)):
            return f"{address} uses TLS, but KAFKA_SECURITY_PROTOCOL is {protocol}: set it to SSL or SASL_SSL"
    elif problem := await _tls_problem(host, int(port), context):
        return f"{address}: {problem}"
    if protocol.startswith("SASL"):
        return (
            f"{address} answers. If it refuses the login of {settings.kafka_sasl_username!r} with "
            f"{settings.kafka_sasl_mechanism}: check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and that the user "
            "has credentials for this mechanism"
        )
    return (
        f"{address} accepts connections, but does not answer with KAFKA_SECURITY_PROTOCOL={protocol}. It may require a "
        "login (SASL) or a client certificate, or it is still starting"
    )


async def _reach(host: str, port: int, context: ssl.SSLContext | None) -> None:
    async with asyncio.timeout(PROBE_SECONDS):
        _, writer = await asyncio.open_connection(host, port, ssl=context)
        writer.close()
        # The connection was made. An error while closing it does not matter.
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _speaks_tls(host: str, port: int) -> bool:
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    try:
        await _reach(host, port, unverified)
    except (OSError, TimeoutError):
        return False
    return True


async def _tls_problem(host: str, port: int, context: ssl.SSLContext) -> str | None:
    try:
        await _reach(host, port, context)
    except ssl.SSLCertVerificationError as error:
        return (
            f"its certificate is not trusted ({error.verify_message}): set KAFKA_CA_FILE to the PEM file of the "
            "authority that signed it, and use a host name of the broker that the certificate contains"
        )
    except (OSError, TimeoutError) as error:
        return f"the TLS handshake failed ({error!r}): check KAFKA_SECURITY_PROTOCOL and the listener's port"
    return None


def explain_cassandra(error: Exception, settings: Settings) -> str:
    """The driver's error, with advice if the cause is known."""
    if isinstance(error, UnresolvableContactPoints):
        hosts = ", ".join(settings.cassandra_contact_points)
        return f"the host names cannot be resolved: {hosts}. Check CASSANDRA_CONTACT_POINTS"
    # `errors` maps hosts to errors. It is a list of hosts if the driver failed before it tried them.
    tried = error.errors if isinstance(error, NoHostAvailable) else None
    causes = list(tried.values()) if isinstance(tried, dict) else [error]
    text = "; ".join(str(cause) for cause in causes) or str(error)
    if any(isinstance(cause, AuthenticationFailed) for cause in causes) or "Bad credentials" in text:
        return f"{text}: check CASSANDRA_USERNAME and CASSANDRA_PASSWORD"
    if "certificate verify failed" in text.lower():
        return (
            f"{text}: set CASSANDRA_CA_FILE to the PEM file of the authority that signed the nodes' certificates. "
            "If the certificates do not contain the nodes' IP addresses, set CASSANDRA_CHECK_HOSTNAME=false"
        )
    if "refused" in text.lower():
        return f"{text}: check CASSANDRA_CONTACT_POINTS and CASSANDRA_PORT, and that the node runs"
    if not settings.cassandra_tls:
        return f"{text} (CASSANDRA_TLS is off: a node that requires TLS closes the connection)"
    return f"{text} (CASSANDRA_TLS is on: a node without TLS does not answer)"


def explain_s3(error: Exception) -> str:
    """The client's error, with advice if the cause is known."""
    text = f"{type(error).__name__}: {error}"
    untrusted = "CERTIFICATE_VERIFY_FAILED" in text or "InvalidCertificate" in text
    # obstore prints its chain of causes after the sentence.
    text = " ".join(text.partition("\n\nDebug source")[0].split())
    if untrusted:
        return f"{text}: set S3_CA_FILE to the PEM file of the authority that signed the server's certificate"
    return text
