"""Webhooks reach the public Internet and nothing of ours, however an address is written or changed."""

from collections.abc import Iterable, Sequence
from typing import Any

import httpcore
import pytest

from apps.kit.settings import get_settings
from apps.webhooks.destinations import Destinations
from apps.webhooks.network import ForbiddenDestinationError, GuardedNetwork, Resolver
from apps.webhooks.sender import Sender

PRODUCTION = Destinations()
DEVELOPMENT = Destinations(allow_loopback=True)
PUBLIC = "93.184.215.14"

PRIVATE_ADDRESSES = [
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.8.8",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "no address",
]


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_address_that_is_not_public_is_refused(address: str) -> None:
    """Private, local, shared, multicast, reserved, documentation, metadata; mapped and translated too."""
    assert not PRODUCTION.allows(address, 443)


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_address_is_allowed_at_the_usual_ports(address: str) -> None:
    """Also where an IPv6-only network translates it; no other port is open."""
    assert PRODUCTION.allows(address, 443)
    assert PRODUCTION.allows(address, 8443)
    assert not PRODUCTION.allows(address, 22)
    assert not DEVELOPMENT.allows(address, 80)


def test_loopback_is_all_that_development_adds() -> None:
    """A receiver on this machine can be tried out; the network around it stays closed."""
    assert DEVELOPMENT.allows("127.0.0.1", 8080)
    assert DEVELOPMENT.allows("::1", 80)
    for address in ("10.0.0.1", "169.254.169.254", "0.0.0.0"):  # noqa: S104
        assert not DEVELOPMENT.allows(address, 443)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://shop.example/hook", "must be https"),
        ("ftp://shop.example/hook", "must be a URL such as"),
        ("file:///etc/passwd", "must be a URL such as"),
        ("https:///hook", "must be a URL such as"),
        ("shop.example/hook", "must be a URL such as"),
        ("https://user@shop.example/", "must not carry a user"),
        ("https://user:word@shop.example/", "must not carry a user"),
        ("https://shop.example/#part", "fragment"),
        ("https://shop.example:22/", "must have the port 443 or 8443"),
        ("https://shop.example:99999/", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://localhost/", "private"),
        ("https://localhost./", "private"),
        ("https://127.0.0.1/", "private"),
        ("https://127.1/", "private"),
        ("https://2130706433/", "private"),
        ("https://0x7f000001/", "private"),
        ("https://0177.0.0.1/", "private"),
        ("https://[::ffff:127.0.0.1]/", "private"),
        ("https://[::ffff:a9fe:a9fe]/", "private"),
        ("https://169.254.169.254/latest/meta-data/", "private"),
        ("https://shop.example\\@127.0.0.1/", "printable ASCII"),
        ("https://shop.example/a b", "printable ASCII"),
        ("https://shop.example/\r\nX-Header: 1", "printable ASCII"),
        ("https://\uff11\uff12\uff17.0.0.1/", "printable ASCII"),
        ("https://shop.example/" + "a" * 2048, "up to 2,048"),
    ],
)
def test_url_that_must_not_be_delivered_to_is_refused_with_the_reason(url: str, problem: str) -> None:
    """Whoever registers it learns at once what is wrong, and sees no secret of the network."""
    with pytest.raises(ValueError, match=problem):
        PRODUCTION.check_url(url)


@pytest.mark.parametrize(
    "url", ["https://shop.example/hook?a=1", "https://shop.example:8443/", "https://[2606:4700:4700::1111]/"]
)
def test_public_https_url_is_taken(url: str) -> None:
    PRODUCTION.check_url(url)


def test_plain_http_is_for_loopback_in_development_only() -> None:
    DEVELOPMENT.check_url("http://127.0.0.1:9000/hook")
    DEVELOPMENT.check_url("http://localhost:9000/hook")
    with pytest.raises(ValueError, match="must be https"):
        DEVELOPMENT.check_url("http://shop.example/hook")


@pytest.mark.parametrize(("environment", "is_open"), [("development", True), ("production", False)])
def test_setting_for_loopback_counts_in_development_only(
    *, environment: str, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left behind in production, it opens nothing."""
    monkeypatch.setenv("ORDERFLOW_ENVIRONMENT", environment)
    monkeypatch.setenv("ORDERFLOW_RABBITMQ_URL", "amqps://shop:s3cret@rabbitmq.example/")
    monkeypatch.setenv("ORDERFLOW_MONGODB_URL", "mongodb://mongodb.example/?replicaSet=rs0")
    monkeypatch.setenv("ORDERFLOW_SECRET_KEY", "k" * 40)
    monkeypatch.setenv("ORDERFLOW_PUBLIC_URL", "https://shop.example")
    monkeypatch.setenv("ORDERFLOW_WEBHOOK_ALLOW_LOOPBACK", "true")
    get_settings.cache_clear()
    try:
        assert Destinations.of_settings().allow_loopback is is_open
    finally:
        get_settings.cache_clear()


class Network(httpcore.AsyncMockBackend):
    """Notes to which address a connection is made, and for which name TLS is begun."""

    def __init__(self) -> None:
        super().__init__([b"HTTP/1.1 204 No Content\r\n\r\n"])
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        return await super().connect_tcp(host, port, timeout, local_address, socket_options)


class RebindingNames:
    """A name server that gives another answer each time it is asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0)


async def test_connection_goes_to_the_address_that_was_checked() -> None:
    """A name that leads elsewhere when it is asked again gains nothing: it is asked once."""
    network, names = Network(), RebindingNames([PUBLIC], ["127.0.0.1"])

    await GuardedNetwork(PRODUCTION, names, network).connect_tcp("rebinding.example", 443)

    assert network.connected == [(PUBLIC, 443)]
    assert names.asked == 1


@pytest.mark.parametrize("answer", [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["::ffff:169.254.169.254"], []])
async def test_name_with_one_forbidden_address_is_not_connected_to(answer: list[str]) -> None:
    """Nothing is tried before all of its addresses are known to be allowed; the error names none of them."""
    network = Network()

    with pytest.raises(ForbiddenDestinationError) as refused:
        await GuardedNetwork(PRODUCTION, RebindingNames(answer), network).connect_tcp("shop.example", 443)

    assert network.connected == []
    assert str(refused.value) == "shop.example leads to an address that webhooks must not reach"


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f.1", "127.1"])
async def test_address_in_disguise_is_known_once_it_is_looked_up(host: str) -> None:
    """The system's resolver takes these for addresses, so what it finds is checked, not what was written."""
    addresses = await Resolver(1)(host, 443)

    assert addresses == ["127.0.0.1"]
    assert not PRODUCTION.allows(addresses[0], 443)


async def test_tls_and_host_header_keep_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is checked against the name, and the receiver's server can tell its sites apart."""
    begun: list[Any] = []
    written: list[bytes] = []

    async def start_tls(stream: httpcore.AsyncMockStream, *_: Any, **options: Any) -> Any:
        begun.append(options.get("server_hostname"))
        return stream

    async def write(_stream: httpcore.AsyncMockStream, data: bytes, *_: Any, **__: Any) -> None:
        written.append(data)

    monkeypatch.setattr(httpcore.AsyncMockStream, "start_tls", start_tls)
    monkeypatch.setattr(httpcore.AsyncMockStream, "write", write)
    network = Network()
    guarded = GuardedNetwork(PRODUCTION, RebindingNames([PUBLIC]), network)

    async with httpcore.AsyncConnectionPool(network_backend=guarded) as pool:
        await pool.request("POST", "https://shop.example/hook", content=b"{}")

    assert network.connected == [(PUBLIC, 443)]
    assert begun == ["shop.example"]
    assert b"Host: shop.example\r\n" in b"".join(written)


async def test_sender_tells_a_forbidden_destination_as_a_failed_attempt() -> None:
    """A delivery whose name leads inside has failed, and nothing was sent."""
    async with Sender(PRODUCTION, RebindingNames(["10.0.0.1"])) as sender:
        attempt = await sender.post("https://shop.example/hook", {}, b"{}")

    assert not attempt.is_success
    assert attempt.outcome == "shop.example leads to an address that webhooks must not reach"
