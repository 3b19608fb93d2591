"""A private RabbitMQ node on loopback, with its own port mapper, credentials and data in its directory."""

import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import httpx

from apps.cli.local.daemon import Daemon
from apps.cli.local.errors import LocalServiceError
from apps.cli.local.ports import LOOPBACK, free_port, is_listening, remembered_port
from apps.cli.local.rabbitmq_install import INSTALL_HINT, find_rabbitmq_server

NODE_NAME = "orderflow@localhost"  # the data is kept by this name: it must never change
USER = "orderflow"
START_TIMEOUT_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 30.0

# Write-ahead log and disk limit are made for servers; a laptop has less memory and a fuller disk.
_CONFIGURATION = """\
listeners.tcp.local = {host}:{port}
management.tcp.ip = {host}
management.tcp.port = {management_port}
prometheus.tcp.ip = {host}
prometheus.tcp.port = {metrics_port}
default_user = {user}
default_pass = {password}
disk_free_limit.absolute = 200MB
raft.wal_max_size_bytes = 64000000
log.console.level = info
"""
_DISTRIBUTION_ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"


class RabbitNode:
    """One node with the management and Prometheus plugins; a later start in its directory finds its data."""

    def __init__(
        self, directory: Path, *, server: Path | None = None, configuration: str = "", erl_arguments: str = ""
    ) -> None:
        """Prepare without starting anything.

        Args:
            directory: holds the node's data, configuration, credentials and log.
            server: the server's script, the one that is installed if not given.
            configuration: more lines for rabbitmq.conf.
            erl_arguments: more arguments for the Erlang virtual machine.
        """
        self._directory = directory.resolve()
        self._server = server
        self._configuration = configuration
        self._erl_arguments = erl_arguments
        self._node = Daemon("rabbitmq", self._directory)
        # A port mapper of our own, which ends with the node.
        self._port_mapper = Daemon("epmd", self._directory)
        self._port = self._management_port = self._metrics_port = 0
        self._port_mapper_port = self._distribution_port = 0
        self._password = ""

    @property
    def url(self) -> str:
        """Of the default virtual host."""
        return f"amqp://{USER}:{self._password}@{LOOPBACK}:{self._port}/"

    @property
    def management_url(self) -> str:
        """Of the web interface and its HTTP API."""
        return f"http://{LOOPBACK}:{self._management_port}"

    @property
    def metrics_address(self) -> str:
        """Host and port at which Prometheus may ask it."""
        return f"{LOOPBACK}:{self._metrics_port}"

    @property
    def login(self) -> tuple[str, str]:
        """User and password, for both."""
        return USER, self._password

    @property
    def pid(self) -> int:
        """Process id of the Erlang virtual machine."""
        return self._node.pid

    def start(self) -> None:
        """Start the node on the data of the last time, if any; clients can connect when it returns."""
        server = self._find_server()
        epmd = shutil.which("epmd")
        if epmd is None:
            raise LocalServiceError("epmd, a part of Erlang, is not on the PATH: install Erlang completely")
        self._write_configuration()
        environment = self._environment()
        try:
            self._port_mapper.start([epmd, "-port", str(self._port_mapper_port)], environment)
            self._node.start([str(server)], environment)
            deadline = time.monotonic() + START_TIMEOUT_SECONDS
            while not self.is_ready():
                self._node.check_running(deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the node cleanly, then its port mapper; the data stays."""
        self._node.stop(STOP_TIMEOUT_SECONDS)
        self._port_mapper.stop()

    def kill(self) -> None:
        """End the node as a loss of power would, with SIGKILL; the data stays as it is."""
        self._node.stop(timeout_seconds=0)
        self._port_mapper.stop()

    def is_ready(self) -> bool:
        """Whether clients can connect: the AMQP listener is the last thing that a node starts."""
        if not is_listening(self._management_port):
            return False
        try:
            return self._request("GET", "/api/health/checks/protocol-listener/amqp").is_success
        except httpx.HTTPError:
            return False

    def create_vhost(self, name: str) -> str:
        """Create a virtual host and give its URL."""
        self._request("PUT", f"/api/vhosts/{quote(name, safe='')}").raise_for_status()
        self._request(
            "PUT",
            f"/api/permissions/{quote(name, safe='')}/{USER}",
            json={"configure": ".*", "write": ".*", "read": ".*"},
        ).raise_for_status()
        return self.url + quote(name, safe="")

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all its queues; their consumers are disconnected."""
        self._request("DELETE", f"/api/vhosts/{quote(name, safe='')}").raise_for_status()

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node, such as `stop_app` and `start_app`, and give what it printed."""
        ctl = self._find_server().with_name("rabbitmqctl")
        done = subprocess.run(
            [str(ctl), *arguments], env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LocalServiceError(f"rabbitmqctl {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def _find_server(self) -> Path:
        if self._server is None:
            self._server = find_rabbitmq_server()
        if self._server is None:
            raise LocalServiceError(INSTALL_HINT)
        return self._server

    def _write_configuration(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._port = remembered_port(self._directory / "port")
        self._management_port = remembered_port(self._directory / "management-port")
        self._metrics_port = remembered_port(self._directory / "metrics-port")
        self._port_mapper_port, self._distribution_port = free_port(), free_port()
        password = self._directory / "password"
        if not password.exists():  # the node stores it when it first starts, and keeps it
            password.touch(mode=0o600)
            password.write_text(secrets.token_urlsafe(18))
        self._password = password.read_text()
        configuration = self._directory / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            _CONFIGURATION.format(
                host=LOOPBACK,
                port=self._port,
                management_port=self._management_port,
                metrics_port=self._metrics_port,
                user=USER,
                password=self._password,
            )
            + self._configuration
        )
        (self._directory / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")

    def _environment(self) -> dict[str, str]:
        """All that the node knows of the outside; the user's own RABBITMQ_ variables are for another node."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self._directory),  # where Erlang keeps the cookie
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._port_mapper_port),
            "ERL_FLAGS": "-start_epmd false",  # there is ours; Erlang's own would stay behind
            "ERL_CRASH_DUMP": str(self._directory / "erl_crash.dump"),
            "RABBITMQ_NODENAME": NODE_NAME,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._directory / "data"),
            "RABBITMQ_LOG_BASE": str(self._directory),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self._directory / "node.pid"),
            "RABBITMQ_CONFIG_FILE": str(self._directory / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self._directory / "conf.d"),
            "RABBITMQ_CONF_ENV_FILE": str(self._directory / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"+S 2:2 +sbwt none {_DISTRIBUTION_ON_LOOPBACK} {self._erl_arguments}"
            ),
            "RABBITMQ_CTL_ERL_ARGS": _DISTRIBUTION_ON_LOOPBACK,
            # The script then becomes the node instead of waiting for it: one process, and signals reach it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _request(self, method: str, path: str, *, json: object = None) -> httpx.Response:
        # A proxy of the environment has no business between us and our own node.
        with httpx.Client(auth=self.login, timeout=10, trust_env=False) as client:
            return client.request(method, self.management_url + path, json=json)
