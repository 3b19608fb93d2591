"""Settings: safe on loopback without any, strict in production, clear about what is wrong."""

import os
from decimal import Decimal

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from apps.kit.settings import Settings

# Short, since an error would show only the ends of what is long.
RABBITMQ_URL = "amqps://app:s3cret@mq/"
MONGODB_URL = "mongodb://app:s3cret@db/"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "RABBITMQ_URL": RABBITMQ_URL,
    "MONGODB_URL": MONGODB_URL,
    "SECRET_KEY": "k" * 32,
    "PUBLIC_URL": "https://shop.example",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests counts."""
    for name in os.environ:
        if name.upper().startswith("ORDERFLOW_"):
            monkeypatch.delenv(name)


def test_development_needs_no_settings() -> None:
    """A newcomer starts without any, on loopback only."""
    settings = Settings()
    for url in (settings.rabbitmq_url, settings.mongodb_url):
        assert "127.0.0.1" in url.get_secret_value()


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "ORDERFLOW_RABBITMQ_URL"),
        ({"ORDERFLOW_RABBITMQ_URL": RABBITMQ_URL}, "ORDERFLOW_MONGODB_URL"),
        ({"ORDERFLOW_MONGODB_URL": MONGODB_URL}, "ORDERFLOW_RABBITMQ_URL"),
        (
            {"ORDERFLOW_RABBITMQ_URL": RABBITMQ_URL, "ORDERFLOW_MONGODB_URL": MONGODB_URL},
            "ORDERFLOW_SECRET_KEY",
        ),
    ],
)
def test_production_refuses_development_urls(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str
) -> None:
    """Production does not start on a default, names the variable, and shows no password of the other."""
    monkeypatch.setenv("ORDERFLOW_ENVIRONMENT", "production")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=f"{missing} must be set in production") as caught:
        Settings()
    assert "s3cret" not in str(caught.value)


def test_production_with_urls_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all of them set it starts, and shows no password when it is printed."""
    monkeypatch.setenv("ORDERFLOW_ENVIRONMENT", "production")
    monkeypatch.setenv("ORDERFLOW_RABBITMQ_URL", RABBITMQ_URL)
    monkeypatch.setenv("ORDERFLOW_MONGODB_URL", MONGODB_URL)
    monkeypatch.setenv("ORDERFLOW_SECRET_KEY", f"s3cret-{'k' * 32}")
    monkeypatch.setenv("ORDERFLOW_PUBLIC_URL", "https://shop.example")
    settings = Settings()
    assert settings.rabbitmq_url.get_secret_value() == RABBITMQ_URL
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"PUBLIC_URL": "http://shop.example"}, "ORDERFLOW_PUBLIC_URL must be https"),
        ({"TWILIO_URL": "http://sms.example"}, "ORDERFLOW_TWILIO_URL must be https"),
        ({"SMTP_PASSWORD": "s3cret"}, "ORDERFLOW_SMTP_PASSWORD needs ORDERFLOW_SMTP_SECURITY"),
    ],
)
def test_production_sends_no_secret_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], refusal: str
) -> None:
    """Links to invoices and passwords travel encrypted in production; development does without."""
    for name, value in {**PRODUCTION, **given}.items():
        monkeypatch.setenv(f"ORDERFLOW_{name}", value)
    with pytest.raises(ValidationError, match=refusal) as caught:
        Settings()
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("ORDERFLOW_ENVIRONMENT", "development")
    Settings()


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_production_logs_in_by_an_encrypted_connection(
    monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    """With either kind of encryption a password for the mail server is fine."""
    for name, value in {**PRODUCTION, "SMTP_PASSWORD": "s3cret", "SMTP_SECURITY": security}.items():
        monkeypatch.setenv(f"ORDERFLOW_{name}", value)
    assert Settings().smtp_security == security


def test_tax_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are exact decimals by country."""
    monkeypatch.setenv("ORDERFLOW_TAX_RATES", '{"GB": "0.20", "BR": "0.175"}')
    assert Settings().tax_rates == {"GB": Decimal("0.20"), "BR": Decimal("0.175")}


@pytest.mark.parametrize(
    ("table", "culprit"),
    [
        ('{"GB": "20"}', '"GB": "20"'),
        ('{"GB": "-0.1"}', '"GB": "-0.1"'),
        ('{"UK of GB": "0.2"}', '"UK of GB": "0.2"'),
        ('{"gb": "0.2"}', '"gb": "0.2"'),
        ('{"BR": "0.17", "GB": "0.1234567"}', '"GB": "0.1234567"'),
    ],
)
def test_bad_tax_rate_is_named(monkeypatch: pytest.MonkeyPatch, table: str, culprit: str) -> None:
    """A rate that no invoice could state stops the start, and the error shows which one it is."""
    monkeypatch.setenv("ORDERFLOW_TAX_RATES", table)
    with pytest.raises(ValidationError) as caught:
        Settings()
    [problem] = caught.value.errors()
    assert problem["loc"] == ("tax_rates",)
    assert f"{culprit} is not an ISO 3166-1 code and a rate from 0 to 1" in problem["msg"]


@pytest.mark.parametrize("table", ["GB=0.20", '{"GB": }', "[]", '{"GB": "a fifth"}', '{"GB": "NaN"}'])
def test_tax_table_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """What is no table of decimals is refused by the name of its setting."""
    monkeypatch.setenv("ORDERFLOW_TAX_RATES", table)
    with pytest.raises((SettingsError, ValidationError), match="tax_rates"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFETCH", "0"),
        ("PREFETCH", "1000"),
        ("DATABASE_PREFIX", "Order Flow"),
        ("PUBLISH_TIMEOUT_SECONDS", "0"),
        ("ENVIRONMENT", "prod"),
    ],
)
def test_value_out_of_bounds_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A slip in a setting is found at start, under the setting's name."""
    monkeypatch.setenv(f"ORDERFLOW_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()
