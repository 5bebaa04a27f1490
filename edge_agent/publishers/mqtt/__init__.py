"""MQTT 5 over TCP or TLS: one fresh connection per `create`, every message on the socket before `send` returns.

paho encodes, decodes and counts; the socket, the waiting and the threads are ours. Nothing of a connection outlives it:
a paho client is used for one connection and thrown away, so that it never has a queue to send later.
"""

import hashlib
from collections.abc import Sequence

from edge_agent.broker import Config, Tls, read_password, tls_context, tls_files
from edge_agent.core.ports import Message, Publisher
from edge_agent.errors import ConfigError
from edge_agent.publishers.mqtt.connection import MqttPublisher
from edge_agent.publishers.mqtt.wire import dial

__all__ = ["Config", "Tls", "create", "fingerprint", "verify"]


def verify(config: Config) -> None:
    """Reads the password and the TLS files, without connecting.

    Raises:
        ConfigError: one is missing, open to others, or not what it should be.
    """
    problems = []
    for look in (read_password, tls_context):
        try:
            look(config)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def fingerprint(config: Config) -> str:
    """Changes with every secret and certificate that the table names. Raises `ConfigError`."""
    digest = hashlib.sha256((read_password(config) or "").encode())
    for path in tls_files(config):
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"mqtt.tls: cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def create(config: Config, client_id: str, will: Message | None = None, subscriptions: Sequence[str] = ()) -> Publisher:
    """A new connection, with the broker's consent. Secrets and certificates are read anew.

    The broker publishes `will` when the connection ends other than by a clean `close`. Of `subscriptions` the broker
    sends what is published from now on; those that it refuses stand in `refused`.

    Raises:
        ConfigError: the password or a TLS file cannot be used.
        PublisherLostError: the broker could not be reached, or refused; with its reason.
    """
    password, context = read_password(config), tls_context(config)
    publisher = MqttPublisher(dial(config, context), config, client_id)
    try:
        publisher.connect(password, will, subscriptions)
    except BaseException:
        publisher.close(abort=True)
        raise
    return publisher
