"""Settings from the environment -> where files live, and the options every Kafka client is made with.

In: `KAFKA_*`, `MIDSTREAM_HOME`, `MIDSTREAM_CACHE`. Out: `KafkaSettings`, and two folders.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_ENV_PREFIX = "KAFKA_"
_ADDRESS = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[^:,\s\[\]]+):(\d{1,5})$")


class SettingsError(ValueError):
    """The environment contradicts itself or lacks something; the message names the variable and the way out."""


def home() -> Path:
    """The folder of this user's data: `MIDSTREAM_HOME`, else `midstream` in the XDG data folder."""
    return _folder("MIDSTREAM_HOME", "XDG_DATA_HOME", Path(".local", "share"))


def cache_home() -> Path:
    """The folder of what can be fetched again: `MIDSTREAM_CACHE`, else `midstream` in the XDG cache folder."""
    return _folder("MIDSTREAM_CACHE", "XDG_CACHE_HOME", Path(".cache"))


def _folder(own: str, xdg: str, default: Path) -> Path:
    if named := os.environ.get(own):
        return Path(named).expanduser().absolute()
    base = Path(os.environ.get(xdg, ""))
    # The XDG specification: a relative path in these variables is invalid and to be ignored.
    return (base if base.is_absolute() else Path.home() / default) / "midstream"


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class KafkaSettings(BaseSettings):
    """Which broker to talk to, and how. `bootstrap` None means the embedded broker (`streams.broker`).

    Each field is read from `KAFKA_<FIELD>`; an empty variable counts as unset. Made wrongly it raises pydantic's
    `ValidationError`; `load_settings()` gives the same in one line.
    """

    model_config = SettingsConfigDict(
        env_prefix=_ENV_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    bootstrap: str | None = None
    security_protocol: Annotated[SecurityProtocol, BeforeValidator(_upper)] = "PLAINTEXT"
    sasl_mechanism: Annotated[SaslMechanism, BeforeValidator(_upper)] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None

    @classmethod
    def plaintext(cls, bootstrap: str) -> Self:
        """Settings of a broker without TLS or SASL, whatever the environment says: the embedded one."""
        return cls(
            bootstrap=bootstrap,
            security_protocol="PLAINTEXT",
            sasl_mechanism=None,
            sasl_username=None,
            sasl_password=None,
            ssl_cafile=None,
            ssl_certfile=None,
            ssl_keyfile=None,
        )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.bootstrap is not None:
            _check_addresses(self.bootstrap)
        elif self.security_protocol != "PLAINTEXT":
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL is {self.security_protocol} but KAFKA_BOOTSTRAP is not set: the embedded"
                " broker speaks PLAINTEXT on loopback; set KAFKA_BOOTSTRAP, or unset KAFKA_SECURITY_PROTOCOL"
            )
        self._check_sasl()
        self._check_tls()
        return self

    def _check_sasl(self) -> None:
        given = {
            "KAFKA_SASL_MECHANISM": self.sasl_mechanism,
            "KAFKA_SASL_USERNAME": self.sasl_username,
            "KAFKA_SASL_PASSWORD": self.sasl_password,
        }
        if self.security_protocol.startswith("SASL_"):
            if missing := [name for name, value in given.items() if not value]:
                raise ValueError(
                    f"KAFKA_SECURITY_PROTOCOL is {self.security_protocol} but {' and '.join(missing)}"
                    f" {'is' if len(missing) == 1 else 'are'} not set"
                )
        elif unused := [name for name, value in given.items() if value]:
            # Silently ignored credentials are how a client ends up talking without them.
            raise ValueError(
                f"{' and '.join(unused)} set but KAFKA_SECURITY_PROTOCOL is {self.security_protocol}:"
                " set it to SASL_SSL (or SASL_PLAINTEXT), or unset the former"
            )

    def _check_tls(self) -> None:
        given = {
            "KAFKA_SSL_CAFILE": self.ssl_cafile,
            "KAFKA_SSL_CERTFILE": self.ssl_certfile,
            "KAFKA_SSL_KEYFILE": self.ssl_keyfile,
        }
        files = {name: path for name, path in given.items() if path is not None}
        if files and not self.uses_tls:
            raise ValueError(
                f"{' and '.join(files)} set but KAFKA_SECURITY_PROTOCOL is {self.security_protocol}:"
                " set it to SSL (or SASL_SSL), or unset the former"
            )
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError(
                "KAFKA_SSL_KEYFILE is set but KAFKA_SSL_CERTFILE, the certificate it signs for, is not"
            )
        for name, path in files.items():
            if not path.is_file():
                raise ValueError(f"{name}: there is no file {path}")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    def client_options(self) -> dict[str, object]:
        """Keyword arguments for every aiokafka client (producer, consumer, admin).

        Raises `SettingsError` without a bootstrap address, or when a certificate cannot be read.
        """
        options: dict[str, object] = {
            "bootstrap_servers": self._address(),
            "security_protocol": self.security_protocol,
        }
        if self.uses_tls:
            options["ssl_context"] = self._ssl_context()
        if self.sasl_password is not None:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password.get_secret_value()
        return options

    def librdkafka_options(self) -> dict[str, str]:
        """The same as configuration of librdkafka: confluent-kafka, and kcat's `-X name=value`."""
        options = {"bootstrap.servers": self._address(), "security.protocol": self.security_protocol}
        for name, path in (
            ("ssl.ca.location", self.ssl_cafile),
            ("ssl.certificate.location", self.ssl_certfile),
            ("ssl.key.location", self.ssl_keyfile),
        ):
            if path is not None:
                options[name] = str(path)
        if self.sasl_password is not None:
            options["sasl.mechanism"] = str(self.sasl_mechanism)
            options["sasl.username"] = str(self.sasl_username)
            options["sasl.password"] = self.sasl_password.get_secret_value()
        return options

    def _address(self) -> str:
        if self.bootstrap is None:
            raise SettingsError(
                "no broker address: set KAFKA_BOOTSTRAP=host:port, or start the embedded broker with"
                " `midstream broker start`"
            )
        return self.bootstrap

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile is not None:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        except (ssl.SSLError, OSError) as error:
            names = "KAFKA_SSL_CAFILE, KAFKA_SSL_CERTFILE or KAFKA_SSL_KEYFILE"
            raise SettingsError(f"{names} cannot be used: {error} (PEM files are expected)") from error
        return context


def _check_addresses(bootstrap: str) -> None:
    for address in bootstrap.split(","):
        match = _ADDRESS.match(address.strip())
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError(
                f"KAFKA_BOOTSTRAP: expected host:port[,host:port…], got {address.strip()!r} in {bootstrap!r}"
            )


def load_settings() -> KafkaSettings:
    """`KafkaSettings` from the environment; what is wrong with it in one line of `SettingsError`."""
    try:
        return KafkaSettings()
    except ValidationError as error:
        raise SettingsError("; ".join(_lines(error))) from error


def _lines(error: ValidationError) -> list[str]:
    """One clause per mistake. Ours name their variable; pydantic's get it from the field's name."""
    lines = []
    for problem in error.errors():
        # A union adds the member's name to the location: only the first element is the field.
        names = [f"{_ENV_PREFIX}{str(field).upper()}: " for field in problem["loc"][:1]]
        lines.append("".join(names) + problem["msg"].removeprefix("Value error, "))
    return lines
