"""How to reach a broker: the table `[mqtt]` of every program of the project, with the secrets and certificates that it names."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edge_agent import secret_files
from edge_agent.errors import ConfigError
from edge_agent.wire.topics import Prefix

if TYPE_CHECKING:
    from paho.mqtt.client import Client


class Tls(BaseModel):
    """The table `[mqtt.tls]`. Its presence means TLS with verification; there is no way back to plain text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca: Path | None = Field(
        None, description="PEM file that the broker's certificate is checked against; else the system's."
    )
    cert: Path | None = Field(None, description="PEM file with our own certificate, for mutual TLS.")
    key: Path | None = Field(None, description="PEM file with its key, mode 0600; a bare name is a systemd credential.")

    @model_validator(mode="after")
    def _key_needs_cert(self) -> "Tls":
        if self.key and not self.cert:
            raise ValueError("key is set without cert: name the certificate that belongs to the key")
        return self


class Config(BaseModel):
    """The table `[mqtt]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(min_length=1, description="Name or address of the broker.")
    port: int = Field(1883, ge=1, le=65535, description="Port of the broker; 8883 unless set when there is [mqtt.tls].")
    username: str | None = Field(None, description="Who we are to the broker.")
    password_file: Path | None = Field(
        None, description="File of mode 0600 with the password; a bare name is looked up among the systemd credentials."
    )
    prefix: Prefix = Field("factory", description="First level or levels of every topic.")
    keepalive_s: int = Field(
        5, ge=1, le=3600, description="Without a word from us for one and a half times so long, the broker gives us up."
    )
    tls: Tls | None = Field(None, description="TLS with verification, when present.")

    @model_validator(mode="before")
    @classmethod
    def _port_of_tls(cls, table: Any) -> Any:
        if isinstance(table, dict) and table.get("tls") is not None and "port" not in table:
            return {**table, "port": 8883}
        return table

    @field_validator("host")
    @classmethod
    def _is_no_url(cls, host: str) -> str:
        if "/" in host or host.count(":") == 1 or "]:" in host or any(c.isspace() for c in host):
            raise ValueError("must be a name or an address, without scheme, port or spaces: broker.example.com")
        return host

    @model_validator(mode="after")
    def _password_needs_username(self) -> "Config":
        if self.password_file and self.username is None:
            raise ValueError("password_file is set without username: MQTT sends no password without a user name")
        return self


def read_password(config: Config) -> str | None:
    """The password, read anew; None where none is configured. Raises `ConfigError`."""
    if config.password_file is None:
        return None
    return secret_files.read_password(config.password_file, "mqtt.password_file")


def tls_files(config: Config) -> list[Path]:
    """The certificates and the key, where they lie. Raises `ConfigError`."""
    if config.tls is None:
        return []
    key = config.tls.key
    return [path for path in (config.tls.ca, config.tls.cert, key and secret_files.find(key, "mqtt.tls.key")) if path]


def tls_context(config: Config) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, with verification and host names; None without `[mqtt.tls]`. Raises `ConfigError`."""
    if config.tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # requires a certificate and checks the host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    ca, cert, key = config.tls.ca, config.tls.cert, config.tls.key
    try:
        if ca:
            context.load_verify_locations(ca)
        else:
            context.load_default_certs()
    except OSError as err:
        raise ConfigError(f"mqtt.tls.ca: cannot use {ca}: {in_words(err)}") from err
    if cert:
        secret = secret_files.find(key or cert, "mqtt.tls.key" if key else "mqtt.tls.cert")
        try:
            context.load_cert_chain(cert, secret, password="")  # else OpenSSL asks at the terminal
        except OSError as err:
            raise ConfigError(f"mqtt.tls.cert: cannot use {cert} with the key in {secret}: {in_words(err)}") from err
    return context


def new_client(config: Config, client_id: str) -> "Client":
    """A subscriber's client of paho's: MQTT 5, with password and certificates read anew. Raises `ConfigError`."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(config.username, read_password(config))
    if (context := tls_context(config)) is not None:
        client.tls_set_context(context)
    return client


TLS_REASONS = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side wants a certificate: set cert and key in [mqtt.tls]",
}
"""OpenSSL's words for what an operator can mend."""


def in_words(err: OSError | UnicodeError) -> str:
    """What went wrong with a socket or a file, for people."""
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"its certificate was refused: {err.verify_message}"
    if isinstance(err, ssl.SSLError):
        return f"TLS failed: {TLS_REASONS.get(err.reason or '') or err.reason or err}"
    return getattr(err, "strerror", None) or str(err)
