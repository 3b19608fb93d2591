"""Settings: safe on loopback without any, strict in production, clear about what is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

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
        (
            {"SMTP_USERNAME": "shop", "SMTP_PASSWORD": "s3cret"},
            "ORDERFLOW_SMTP_PASSWORD needs ORDERFLOW_SMTP_SECURITY",
        ),
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
    login = {"SMTP_USERNAME": "shop", "SMTP_PASSWORD": "s3cret"}
    for name, value in {**PRODUCTION, **login, "SMTP_SECURITY": security}.items():
        monkeypatch.setenv(f"ORDERFLOW_{name}", value)
    assert Settings().smtp_security == security


def test_password_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a user name nobody would log in, and the mail server would refuse every mail."""
    monkeypatch.setenv("ORDERFLOW_SMTP_PASSWORD", "s3cret")
    with pytest.raises(ValidationError, match="ORDERFLOW_SMTP_PASSWORD needs ORDERFLOW_SMTP_USERNAME"):
        Settings()


def test_console_is_no_client_without_an_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity that nobody could check, or a secret of nobody, is a mistake that is told at the start."""
    monkeypatch.setenv("ORDERFLOW_OIDC_CLIENT_SECRET", "s3cret")
    with pytest.raises(ValidationError, match="ORDERFLOW_OIDC_CLIENT_SECRET needs ORDERFLOW_OIDC_CLIENT_ID"):
        Settings()
    monkeypatch.setenv("ORDERFLOW_OIDC_CLIENT_ID", "console")
    with pytest.raises(ValidationError, match="ORDERFLOW_OIDC_CLIENT_ID needs ORDERFLOW_OIDC_ISSUER"):
        Settings()
    monkeypatch.setenv("ORDERFLOW_OIDC_ISSUER", "https://login.shop.example")
    monkeypatch.setenv("ORDERFLOW_OIDC_AUDIENCE", "https://orders.shop.example")
    assert "s3cret" not in repr(Settings())


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


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which a container finds its secrets."""
    monkeypatch.setitem(Settings.model_config, "secrets_dir", tmp_path)
    return tmp_path


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_may_be_a_file(secrets: Path, end: str) -> None:
    """A file named like the variable in small letters holds a setting, without the end of its line."""
    (secrets / "orderflow_rabbitmq_url").write_text(RABBITMQ_URL + end)
    assert Settings().rabbitmq_url.get_secret_value() == RABBITMQ_URL


def test_variable_wins_over_a_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets a variable for one run means it."""
    (secrets / "orderflow_mongodb_url").write_text("mongodb://other/")
    monkeypatch.setenv("ORDERFLOW_MONGODB_URL", MONGODB_URL)
    assert Settings().mongodb_url.get_secret_value() == MONGODB_URL


def test_production_takes_its_secrets_from_files(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In production a container needs no secret in its environment."""
    for name, value in PRODUCTION.items():
        if name in {"RABBITMQ_URL", "MONGODB_URL", "SECRET_KEY"}:
            (secrets / f"orderflow_{name.lower()}").write_text(value)
        else:
            monkeypatch.setenv(f"ORDERFLOW_{name}", value)
    assert Settings().secret_key.get_secret_value() == PRODUCTION["SECRET_KEY"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda file: file.write_text("\n"), "orderflow_secret_key: is empty"),
        (lambda file: file.write_bytes(b"\xff"), "can't decode byte"),
        (lambda file: file.mkdir(), "found a directory instead"),
        (lambda file: file.symlink_to(__file__), "resolves outside of"),
    ],
    ids=["empty", "not text", "directory", "elsewhere"],
)
def test_secret_that_cannot_be_read_stops_the_start(
    secrets: Path, spoil: Callable[[Path], object], problem: str
) -> None:
    """No default takes the place of a secret that cannot be used; the error names its setting."""
    spoil(secrets / "orderflow_secret_key")
    with pytest.raises(SettingsError, match="secret_key") as caught:
        Settings()
    assert problem in str(caught.value)


def test_command_says_in_one_line_which_setting_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that cannot be read ends a command as any bad input does, without a traceback."""
    monkeypatch.setenv("ORDERFLOW_TAX_RATES", "a fifth")
    done = subprocess.run(
        [sys.executable, "-m", "apps.cli.main", "keys", "list"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("orderflow: settings: ")
    assert "tax_rates" in done.stderr
    assert done.stderr.count("\n") == 1
