"""Every setting: a variable `ORDERFLOW_` and the field's name in capitals, or a secret file of that name."""

import re
import warnings
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

DEVELOPMENT_RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672/"
DEVELOPMENT_SECRET_KEY = "development-only"  # noqa: S105  # production refuses it
SHORTEST_SECRET_KEY = 32
DEVELOPMENT_MONGODB_URL = "mongodb://127.0.0.1:27017/?directConnection=true"
LogLevel = Literal["debug", "info", "warning", "error"]
SECRETS_DIRECTORY = Path("/run/secrets")
"""Where containers find their secrets; read if it is there."""


def _rates_by_country(rates: dict[str, Decimal]) -> dict[str, Decimal]:
    for country, rate in rates.items():
        # More decimals than an invoice can state would stop every invoice of the country.
        if not re.fullmatch("[A-Z]{2}", country) or not 0 <= rate <= 1 or rate != round(rate, 6):
            raise ValueError(
                f'"{country}": "{rate}" is not an ISO 3166-1 code and a rate from 0 to 1 of up to 6 decimals'
            )
    return rates


class SecretFiles(SecretsSettingsSource):
    """Files named like a variable in small letters; one that cannot be read stops the start.

    Left out silently, it would leave a default in its place. White space around a secret is not part of it.
    """

    def __call__(self) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=UserWarning)
            try:
                secrets = super().__call__()
            except SettingsError as error:
                raise SettingsError(f"{error}: {error.__cause__}") from None
        for name, secret in secrets.items():
            if secret == "":
                raise SettingsError(f"{self.secrets_dir}/{self.env_prefix.lower()}{name}: is empty")
        return secrets


class Settings(BaseSettings):
    """Safe on loopback without any; production refuses development secrets."""

    model_config = SettingsConfigDict(
        env_prefix="ORDERFLOW_",
        frozen=True,
        hide_input_in_errors=True,
        secrets_dir=SECRETS_DIRECTORY if SECRETS_DIRECTORY.is_dir() else None,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # there is no such file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the stricter one reads them
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A variable wins over a file."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    environment: Literal["development", "production"] = "development"
    rabbitmq_url: SecretStr = SecretStr(DEVELOPMENT_RABBITMQ_URL)
    mongodb_url: SecretStr = SecretStr(DEVELOPMENT_MONGODB_URL)
    database_prefix: str = Field(default="orderflow", pattern=r"^[a-z0-9_]{1,30}$")
    """Each app has its own database: `<prefix>_<app>`."""

    secret_key: SecretStr = SecretStr(DEVELOPMENT_SECRET_KEY)
    """What the keys of signed links and of stored secrets are derived from, 32 characters or more."""
    public_url: str = "http://127.0.0.1:8000"
    """Where the ingress is reached from outside: links in messages start with it."""
    trace_url: str | None = Field(default=None, pattern=r"^https?://\S*\{trace_id\}\S*$")
    """Where a trace is shown: the console links it there, with its id in the place of `{trace_id}`."""

    requests_per_minute: int = Field(default=6000, ge=0)
    """What each key or token may send to one process of the ingress; 0 for no limit."""
    oidc_issuer: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """The OpenID Connect issuer whose bearer tokens are taken beside keys; none without it."""
    oidc_audience: str | None = None
    """What such a token must have as `aud`."""
    oidc_algorithms: tuple[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], ...
    ] = Field(default=("RS256", "ES256"), min_length=1)
    """How such a token may be signed; what it says of itself is not trusted."""
    oidc_client_id: str | None = None
    """What the console is to the issuer: with it, people sign in there; without it, by keys alone."""
    oidc_client_secret: SecretStr | None = None
    """Of a confidential client; a public one proves itself by PKCE alone."""

    log_level: LogLevel = "info"
    log_levels: dict[str, LogLevel] = {}
    """Of single loggers, by their names, as JSON: `{"apps.webhooks": "debug"}`."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` on a terminal, else `json`."""

    prefetch: int = Field(default=50, ge=1, le=100)
    """Messages in work per subscriber; it is the concurrency, and bounds what a crash redelivers."""
    retry_delays_seconds: tuple[float, ...] = Field(default=(2, 15, 60, 600), min_length=1)
    """Pauses between the attempts at a message; after the last one it goes to the dead letters."""
    wait_in_place_seconds: float = Field(default=480, gt=0)
    """How long a message waits in a handler for MongoDB or another dependency before it goes through the
    longest pause, its attempts unspent: RabbitMQ takes back what is unanswered for 30 minutes."""
    publish_timeout_seconds: float = Field(default=5, gt=0)
    drain_timeout_seconds: float = Field(default=25, gt=0)
    """How long a stopping worker may finish what it has begun."""
    declare_topology: bool = True
    """Workers declare what they need; false where `orderflow topology apply` has its own broker user."""

    relay_after_seconds: float = Field(default=5, gt=0)
    """An accepted order that RabbitMQ has not confirmed for this long is published again."""
    unpublished_alarm_seconds: float = Field(default=60, gt=0)
    """From this age on an accepted order that RabbitMQ has not confirmed shows in the ingress's readiness."""
    stuck_after_seconds: float = Field(default=900, gt=0)
    """An order that awaits something and was not heard of for this long is stuck: more than all retry
    pauses together, which are 677 s by default, so that a message that is tried again is none."""

    dead_letter_retention_days: int = Field(default=30, ge=1, le=3650)
    """How long a dead letter stays in the archive after it was replayed or discarded."""

    webhook_retry_delays_seconds: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
    """Pauses between attempts at a webhook delivery, each spread by 20 %; after the last it has failed."""
    webhook_timeout_seconds: float = Field(default=15, gt=0)
    """How long an attempt may take in all, from the look-up of the name to the answer."""
    webhook_disable_after_seconds: float = Field(default=432_000, gt=0)
    """An endpoint that has failed for so long without a single success is disabled."""
    webhook_concurrency: int = Field(default=50, ge=1, le=1000)
    """Webhook attempts under way at once in one process; a quarter only to endpoints that answer."""
    webhook_concurrency_per_endpoint: int = Field(default=5, ge=1)
    """Of these, to one endpoint that took what it was last sent; any other gets one at a time."""
    webhook_ports: tuple[int, ...] = (443, 8443)
    """Ports that a webhook endpoint may have."""
    webhook_allow_loopback: bool = False
    """Endpoints on this machine, by plain http and at any port; in development only."""
    webhook_retention_days: int = Field(default=30, ge=1, le=3650)
    """How long a webhook delivery and its attempts stay in the log."""

    tax_rates: Annotated[dict[str, Decimal], AfterValidator(_rates_by_country)] = {}
    """Tax rate by the customer's country, as JSON: `{"GB": "0.20"}`; 0 for all others."""

    smtp_host: str = "127.0.0.1"
    smtp_port: int = 1025
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    mails_per_second: float | None = Field(default=None, ge=0.5)
    """At most so many mails leave each process; at 0.5 the last of 400 in work waits for 800 s, which
    is well below the 30 minutes after which RabbitMQ takes back what is unanswered."""
    mail_from: str = "Orderflow <orders@shop.example>"
    shop_name: str = "Orderflow"
    shop_address: str | None = None
    """On invoices, under the shop's name; may have several lines."""
    shop_tax_id: str | None = None
    """On invoices, as the shop's country words it: `GB 123 4567 89`."""
    documents_url: str = Field(default=".orderflow/data/documents", pattern=r"^((file|s3|gs|az)://.+|[^:]+)$")
    """Where invoices are stored as PDF: a folder, or `s3://`, `az://` or `gs://` with bucket and prefix."""
    templates_directory: Path | None = None
    """Templates of messages that replace those of the same name in apps/notifications/templates."""
    notifications: dict[
        Literal["invoice-issued", "invoice-voided", "order-rejected", "order-cancelled"],
        Literal["email-then-sms", "sms-then-email", "email", "sms", "none"],
    ] = {}
    """By which way customers are told of what, as JSON: `{"order-cancelled": "none"}`; `email-then-sms`
    where nothing is said: the second way is for who has no address, or one that is refused for good."""

    twilio_account_sid: str | None = Field(default=None, pattern=r"^[A-Za-z0-9]+$")
    """SMS go out by Twilio, or a provider with its API; without it each is a line in the log, and in
    production there are none."""
    twilio_auth_token: SecretStr | None = None
    twilio_from: str | None = None
    """The number that texts come from, or the id of a messaging service, which begins with `MG`."""
    twilio_url: str = "https://api.twilio.com"

    @model_validator(mode="after")
    def _all_that_twilio_needs(self) -> Self:
        if self.twilio_account_sid and not (self.twilio_auth_token and self.twilio_from):
            raise ValueError(
                "ORDERFLOW_TWILIO_ACCOUNT_SID needs ORDERFLOW_TWILIO_AUTH_TOKEN and ORDERFLOW_TWILIO_FROM"
            )
        return self

    @model_validator(mode="after")
    def _all_that_a_mail_server_needs(self) -> Self:
        if self.smtp_password and not self.smtp_username:
            raise ValueError("ORDERFLOW_SMTP_PASSWORD needs ORDERFLOW_SMTP_USERNAME")
        return self

    @model_validator(mode="after")
    def _all_that_oidc_needs(self) -> Self:
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("ORDERFLOW_OIDC_ISSUER needs ORDERFLOW_OIDC_AUDIENCE")
        if self.oidc_client_id and not self.oidc_issuer:
            raise ValueError("ORDERFLOW_OIDC_CLIENT_ID needs ORDERFLOW_OIDC_ISSUER")
        if self.oidc_client_secret and not self.oidc_client_id:
            raise ValueError("ORDERFLOW_OIDC_CLIENT_SECRET needs ORDERFLOW_OIDC_CLIENT_ID")
        if self.environment == "production" and (self.oidc_issuer or "https://").startswith("http://"):
            raise ValueError("ORDERFLOW_OIDC_ISSUER must be https in production")
        return self

    @model_validator(mode="after")
    def _no_development_secrets_in_production(self) -> Self:
        if self.environment == "production":
            for name, value, default in (
                ("rabbitmq_url", self.rabbitmq_url, DEVELOPMENT_RABBITMQ_URL),
                ("mongodb_url", self.mongodb_url, DEVELOPMENT_MONGODB_URL),
            ):
                if value.get_secret_value() == default or "guest:guest@" in value.get_secret_value():
                    raise ValueError(f"ORDERFLOW_{name.upper()} must be set in production")
            if len(self.secret_key.get_secret_value()) < SHORTEST_SECRET_KEY:
                raise ValueError(
                    f"ORDERFLOW_SECRET_KEY must be set in production ({SHORTEST_SECRET_KEY}+ characters)"
                )
        return self

    @model_validator(mode="after")
    def _nothing_in_the_clear_in_production(self) -> Self:
        if self.environment == "production":
            for name, url in (("public_url", self.public_url), ("twilio_url", self.twilio_url)):
                if not url.startswith("https://"):
                    raise ValueError(f"ORDERFLOW_{name.upper()} must be https in production")
            if self.smtp_password and self.smtp_security == "none":
                raise ValueError(
                    "ORDERFLOW_SMTP_PASSWORD needs ORDERFLOW_SMTP_SECURITY in production: starttls or tls"
                )
        return self


def database_name(prefix: str, app: str) -> str:
    """The name of an app's own database."""
    return f"{prefix}_{app}"


@lru_cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
