"""streams/settings.py: what the environment says, and what is refused with which words."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from streams.settings import KafkaSettings, SettingsError, cache_home, home, load_settings

# An authority that signs nothing but itself: only reading it is tested here.
CERTIFICATE = Path(__file__).parents[1] / "broker" / "loopback.pem"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("KAFKA_", "MIDSTREAM_", "XDG_")):
            monkeypatch.delenv(name)


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_nothing_set_means_the_embedded_broker() -> None:
    settings = load_settings()

    assert settings.bootstrap is None
    with pytest.raises(SettingsError, match="set KAFKA_BOOTSTRAP=host:port, or start the embedded broker"):
        settings.client_options()


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, KAFKA_BOOTSTRAP="", KAFKA_SASL_USERNAME="", KAFKA_SECURITY_PROTOCOL="")

    assert load_settings() == KafkaSettings()


def test_plaintext_options(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, KAFKA_BOOTSTRAP="one:9092,two:9093")
    settings = load_settings()

    assert settings.client_options() == {
        "bootstrap_servers": "one:9092,two:9093",
        "security_protocol": "PLAINTEXT",
    }
    assert settings.librdkafka_options() == {
        "bootstrap.servers": "one:9092,two:9093",
        "security.protocol": "PLAINTEXT",
    }


def test_sasl_over_tls_options(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(
        monkeypatch,
        KAFKA_BOOTSTRAP="kafka:9093",
        KAFKA_SECURITY_PROTOCOL="sasl_ssl",
        KAFKA_SASL_MECHANISM="scram-sha-512",
        KAFKA_SASL_USERNAME="alice",
        KAFKA_SASL_PASSWORD="s3cret",
        KAFKA_SSL_CAFILE=str(CERTIFICATE),
    )
    settings = load_settings()
    options = settings.client_options()
    context = options.pop("ssl_context")

    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] == 1
    assert options == {
        "bootstrap_servers": "kafka:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "alice",
        "sasl_plain_password": "s3cret",
    }
    assert settings.librdkafka_options() == {
        "bootstrap.servers": "kafka:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "alice",
        "sasl.password": "s3cret",
        "ssl.ca.location": str(CERTIFICATE),
    }
    assert "s3cret" not in repr(settings)


SASL = {
    "KAFKA_BOOTSTRAP": "k:1",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": "alice",
    "KAFKA_SASL_PASSWORD": "s3cret",
}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"KAFKA_BOOTSTRAP": "kafka"}, r"KAFKA_BOOTSTRAP: expected host:port.*got 'kafka'"),
        ({"KAFKA_BOOTSTRAP": "a:1,b"}, r"got 'b' in 'a:1,b'"),
        ({"KAFKA_BOOTSTRAP": "a:70000"}, r"got 'a:70000'"),
        (
            {"KAFKA_BOOTSTRAP": "k:1", "KAFKA_SECURITY_PROTOCOL": "TLS"},
            r"KAFKA_SECURITY_PROTOCOL: .*'SASL_SSL'",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL"},
            r"KAFKA_BOOTSTRAP is not set: the embedded broker speaks PLAINTEXT",
        ),
        (SASL | {"KAFKA_SASL_USERNAME": ""}, r"SASL_SSL but KAFKA_SASL_USERNAME is not set"),
        (
            SASL | {"KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_MECHANISM": ""},
            r"KAFKA_SASL_MECHANISM and KAFKA_SASL_PASSWORD are not set",
        ),
        (SASL | {"KAFKA_SASL_MECHANISM": "GSSAPI"}, r"KAFKA_SASL_MECHANISM: .*'SCRAM-SHA-256'"),
        (SASL | {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, r"KAFKA_SASL_PASSWORD set but .* is PLAINTEXT"),
        (
            {"KAFKA_BOOTSTRAP": "k:1", "KAFKA_SSL_CAFILE": "ca.pem"},
            r"KAFKA_SSL_CAFILE set but .* is PLAINTEXT",
        ),
        (
            SASL | {"KAFKA_SSL_KEYFILE": "key.pem"},
            r"KAFKA_SSL_CERTFILE, the certificate it signs for, is not",
        ),
        (
            SASL | {"KAFKA_SSL_CAFILE": "/nowhere/ca.pem"},
            r"KAFKA_SSL_CAFILE: there is no file /nowhere/ca.pem",
        ),
    ],
)
def test_contradictions_are_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    set_environment(monkeypatch, **environment)

    with pytest.raises(SettingsError, match=message) as refused:
        load_settings()
    assert "\n" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_file_that_is_no_certificate_is_named_by_its_variables(tmp_path: Path) -> None:
    junk = tmp_path / "ca.pem"
    junk.write_text("not a certificate")
    settings = KafkaSettings(bootstrap="k:1", security_protocol="SSL", ssl_cafile=junk)

    with pytest.raises(SettingsError, match=r"KAFKA_SSL_CAFILE.*cannot be used.*PEM"):
        settings.client_options()


def test_ipv6_addresses_are_addresses() -> None:
    assert KafkaSettings(bootstrap="[::1]:9092").client_options()["bootstrap_servers"] == "[::1]:9092"


def test_the_embedded_brokers_settings_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, **SASL)

    assert KafkaSettings.plaintext("127.0.0.1:9092").client_options() == {
        "bootstrap_servers": "127.0.0.1:9092",
        "security_protocol": "PLAINTEXT",
    }


def test_folders_follow_our_variable_then_xdg_then_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert home() == Path("/home/someone/.local/share/midstream")
    assert cache_home() == Path("/home/someone/.cache/midstream")

    set_environment(monkeypatch, XDG_DATA_HOME="/xdg/data", XDG_CACHE_HOME="not/absolute")
    assert home() == Path("/xdg/data/midstream")
    assert cache_home() == Path("/home/someone/.cache/midstream")

    set_environment(monkeypatch, MIDSTREAM_HOME="/own", MIDSTREAM_CACHE="~/cache")
    assert home() == Path("/own")
    assert cache_home() == Path("/home/someone/cache")
