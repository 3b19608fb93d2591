"""What terraform describes: read as HCL everywhere, and planned against a mocked AWS where Terraform is."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest
from hcl2 import SerializationOptions

from apps.cli.local.stack import WORKERS
from apps.cli.secret_files import JOB
from apps.cli.system import BROKERS

Need = Callable[[str, str], str]
Block = dict[str, Any]

TERRAFORM = Path(__file__).parents[2] / "terraform"
MODULES = sorted(path.parent for path in TERRAFORM.glob("modules/*/main.tf"))
ENVIRONMENTS = sorted(path.parent for path in TERRAFORM.glob("environments/*/main.tf"))
PLUGINS = Path(os.environ.get("ORDERFLOW_TERRAFORM_PLUGINS", "/opt/tf-plugins"))
"""A mirror of providers, as `terraform providers mirror` writes it."""
CHECKOV = "checkov==3.3.30"  # a tool of its own: it pins what the apps need in other versions

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
each_directory = pytest.mark.parametrize("directory", MODULES + ENVIRONMENTS, ids=lambda path: path.name)


@cache
def parsed_text(text: str) -> Block:
    options = SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
    return hcl2.loads(text, serialization_options=options)


def parsed(file: Path) -> Block:
    return parsed_text(file.read_text())


def blocks(directory: Path, kind: str) -> dict[str, Block]:
    """The blocks of one kind by name; those of resources and data by `type.name`."""
    found: dict[str, Block] = {}
    for file in sorted(directory.glob("*.tf")):
        for labelled in parsed(file).get(kind, []):
            ((label, body),) = labelled.items()
            if kind in ("resource", "data"):
                ((name, body),) = body.items()
                label = f"{label}.{name}"
            found[label] = body
    return found


def attributes(body: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every attribute in a block with the path that leads to it."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield from attributes(value, f"{path}.{name}".lstrip("."))
    elif isinstance(body, list):
        for value in body:
            yield from attributes(value, path)
    else:
        yield path, body


# What every machine checks.


RULES: dict[str, dict[str, Any]] = {
    "aws_mq_broker": {
        "deployment_mode": "CLUSTER_MULTI_AZ",
        "publicly_accessible": False,
    },
    "aws_docdb_cluster": {
        "storage_encrypted": True,
        "manage_master_user_password": True,
        "deletion_protection": "${var.deletion_protection}",
    },
    "aws_eks_cluster": {
        "vpc_config.endpoint_private_access": True,
        "encryption_config.resources": "secrets",
        "access_config.bootstrap_cluster_creator_admin_permissions": False,
    },
    "aws_launch_template": {
        "metadata_options.http_tokens": "required",
        "block_device_mappings.ebs.encrypted": True,
    },
    "aws_kms_key": {"enable_key_rotation": True},
    "aws_s3_bucket_public_access_block": {"restrict_public_buckets": True},
    "aws_s3_bucket_versioning": {"versioning_configuration.status": "Enabled"},
    "aws_ecr_repository": {
        "image_tag_mutability": "IMMUTABLE",
        "image_scanning_configuration.scan_on_push": True,
    },
    "aws_sns_topic": {"kms_master_key_id": "${module.key.arn}"},
    "aws_cloudwatch_metric_alarm": {"alarm_actions": "${aws_sns_topic.alarms.arn}"},
    "aws_subnet.public": {"map_public_ip_on_launch": False},
    "aws_flow_log": {"traffic_type": "ALL"},
}
"""What each resource of a kind must say, wherever it stands."""
MAY_HOLD_SECRETS = {
    # The provider has no other way to make a broker; the password is changed at once and then ignored.
    "aws_mq_broker.this: user.password": "${data.aws_secretsmanager_random_password.first.random_password}",
}


def broken_rules(root: Path) -> set[tuple[str, str]]:
    """The kinds of resources, with the attribute, that break a rule or are nowhere at all."""
    resources = [pair for path in root.glob("modules/*/") for pair in blocks(path, "resource").items()]
    broken = set()
    for kind, expected in RULES.items():
        said = [list(attributes(body)) for name, body in resources if f"{name}.".startswith(f"{kind}.")]
        for attribute, value in expected.items():
            values = [[found for path, found in one if path == attribute] for one in said]
            if not values or any(found != [value] for found in values):
                broken.add((kind, attribute))
    return broken


def test_what_holds_data_is_private_encrypted_and_kept() -> None:
    """Every resource of a kind says what keeps it private, encrypted and available."""
    assert broken_rules(TERRAFORM) == set()


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [(kind, attribute) for kind, expected in RULES.items() for attribute in expected],
)
def test_a_broken_rule_is_seen(kind: str, attribute: str, tmp_path: Path) -> None:
    """A resource that says otherwise is found, so that the test above cannot pass for want of a look."""
    last = attribute.rpartition(".")[2]
    for source in TERRAFORM.glob("modules/*/*.tf"):
        target = tmp_path / source.relative_to(TERRAFORM)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(rf"(\b{last}\s*=\s*).*", r'\1"otherwise"', source.read_text()))

    assert (kind, attribute) in broken_rules(tmp_path)


@each_directory
def test_no_secret_is_written_down(directory: Path) -> None:
    """Passwords and secrets are never attributes that end in the state; the one exception is named above."""
    held = {
        f"{name}: {path}": value
        for name, body in blocks(directory, "resource").items()
        for path, value in attributes(body)
        if re.search(r"(password|secret_string|secret_binary|auth_token)$", path) and value is not True
    }
    assert held.items() <= MAY_HOLD_SECRETS.items()


@each_directory
def test_inputs_and_outputs_say_what_they_are(directory: Path) -> None:
    """Each variable has a type and a description, each output a description."""
    for name, variable in blocks(directory, "variable").items():
        assert {"type", "description"} <= variable.keys(), name
    for name, output in blocks(directory, "output").items():
        assert "description" in output, name


@each_directory
def test_versions_are_pinned(directory: Path) -> None:
    """An environment takes exactly one version of the one provider, a module those that fit it."""
    (terraform,) = parsed(directory / "versions.tf")["terraform"]
    (providers,) = terraform["required_providers"]
    pin = "5.100.0" if directory in ENVIRONMENTS else "~> 5.100"

    assert providers == {"aws": {"source": "hashicorp/aws", "version": pin}}
    assert terraform["required_version"] == "~> 1.11"


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.name)
def test_environment_keeps_its_state_locked_and_its_tags_on(environment: Path) -> None:
    """The state is encrypted and locked, everything is tagged, and no other account is touched by mistake."""
    versions = parsed(environment / "versions.tf")
    (backend,) = versions["terraform"][0]["backend"]
    (provider,) = versions["provider"]
    (tags,) = provider["aws"]["default_tags"]

    assert backend["s3"] == {"encrypt": True, "use_lockfile": True}
    assert tags["tags"]["Environment"] == environment.name
    assert tags["tags"].keys() == {"Application", "Environment", "ManagedBy", "Owner"}
    assert provider["aws"]["allowed_account_ids"] == ["${var.account_id}"]


def test_environments_differ_in_size_only() -> None:
    """Staging and production are the same system with the same inputs and outputs."""
    staging, production = (TERRAFORM / "environments" / name for name in ("staging", "production"))
    system = blocks(TERRAFORM / "modules" / "system", "output")

    for name in ("variables.tf", "outputs.tf"):
        assert (staging / name).read_text() == (production / name).read_text()
    assert blocks(production, "output").keys() == system.keys()
    for name, output in blocks(production, "output").items():
        assert output == {
            "description": system[name]["description"],
            "value": f"${{module.system.{name}}}",
        }


def outsiders(root: Path) -> list[str]:
    """What is not in the data subnets and should be, and the way out that these must not have."""
    network, system = root / "modules" / "network", root / "modules" / "system"
    resources, modules = blocks(network, "resource"), blocks(system, "module")
    found = [
        name
        for name in ("queue", "database")
        if modules[name]["subnet_ids"] != "${module.network.data_subnet_ids}"
    ]
    if "aws_subnet.data" not in str(resources["aws_vpc_endpoint.interface"]["subnet_ids"]):
        found.append("endpoints")
    if modules["cluster"]["subnet_ids"] != "${module.network.private_subnet_ids}":
        found.append("cluster")
    if "route" in resources["aws_route_table.data"]:
        found.append("a way out")
    return found


def test_only_what_holds_data_is_in_the_data_subnets() -> None:
    """Network policies let the apps into these ranges, which must hold neither nodes nor pods."""
    assert outsiders(TERRAFORM) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        (
            "system",
            "module.network.data_subnet_ids",
            "module.network.private_subnet_ids",
            ["queue", "database"],
        ),
        ("system", "module.network.private_subnet_ids", "module.network.data_subnet_ids", ["cluster"]),
        ("network", "in aws_subnet.data :", "in aws_subnet.private :", ["endpoints"]),
        (
            "network",
            'resource "aws_route_table" "data" {',
            'resource "aws_route_table" "data" {\n  route {\n    cidr_block = "0.0.0.0/0"\n  }\n',
            ["a way out"],
        ),
    ],
)
def test_outsider_is_seen(file: str, old: str, new: str, found: list[str], tmp_path: Path) -> None:
    """The check above finds what is elsewhere, and a route out."""
    shutil.copytree(TERRAFORM / "modules", tmp_path / "modules")
    for path in (tmp_path / "modules" / file).glob("*.tf"):
        path.write_text(path.read_text().replace(old, new))

    assert outsiders(tmp_path) == found


def test_alarm_of_consumers_knows_the_queues() -> None:
    """Two processes of each app consume each of its queues; one fewer is an alarm."""
    queues = sum(len(broker.consumers) for broker in BROKERS)
    assert blocks(TERRAFORM / "modules" / "queue", "variable")["consumers_at_least"]["default"] == 2 * queues


def test_every_app_has_a_secret() -> None:
    """Whoever reads secrets in the cluster has one in AWS: the apps, and the job that makes their users."""
    readers = blocks(TERRAFORM / "modules" / "access", "variable")["secret_readers"]["default"]
    assert set(readers) == {"ingress", *WORKERS, JOB}


@each_module
def test_module_has_tests(module: Path) -> None:
    """Each module has a test of what it makes, and of the input that it refuses."""
    runs = parsed(TERRAFORM / "tests" / f"{module.name.replace('-', '_')}.tftest.hcl")["run"]
    bodies = [body for run in runs for body in run.values()]

    assert {body["module"][0]["source"] for body in bodies} == {f"./modules/{module.name}"}
    assert any("expect_failures" in body for body in bodies)
    assert any("assert" in body for body in bodies)


def described(module: Path) -> str:
    """The tables of inputs and outputs that a module's README must have."""
    lines = ["## Inputs", "| input | default | is |", "|---|---|---|"]
    for name, variable in blocks(module, "variable").items():
        default = f"`{json.dumps(variable['default'])}`" if "default" in variable else "required"
        lines.append(f"| `{name}` | {default} | {variable['description']} |")
    lines += ["", "## Outputs", "| output | is |", "|---|---|"]
    lines += [f"| `{name}` | {output['description']} |" for name, output in blocks(module, "output").items()]
    return "\n".join([*lines, ""])


@each_module
def test_readme_lists_inputs_and_outputs(module: Path) -> None:
    """A module's README ends with its inputs and outputs as they are."""
    assert (module / "README.md").read_text().partition("## Inputs")[2] == described(module).partition(
        "## Inputs"
    )[2]


@each_module
def test_example_in_readme_is_complete(module: Path) -> None:
    """The example in a README gives every input that has no default, and none that does not exist."""
    (example,) = re.findall(
        r"^```hcl\n(.*?)^```$", (module / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (call,) = (body for block in parsed_text(example)["module"] for body in block.values())
    variables = blocks(module, "variable")
    given = call.keys() - {"source"}

    assert given <= variables.keys()
    assert {name for name, variable in variables.items() if "default" not in variable} <= given


@pytest.mark.timeout(900)
def test_checkov_has_nothing_to_say(need: Need) -> None:
    """No known weakness is left but those that .checkov.yaml names with a reason."""
    uv = need("uv", "pip install uv")
    done = subprocess.run(  # noqa: S603
        [uv, "tool", "run", CHECKOV, "--config-file", ".checkov.yaml", "--directory", "."],
        cwd=TERRAFORM,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


# What only a machine with Terraform checks.

Run = Callable[..., str]


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Terraform in a copy of the directory, initialised once; it needs no network and no account."""
    program = shutil.which("terraform")
    if program is None or not PLUGINS.is_dir():
        pytest.skip(
            "NOT PLANNED, only read: this needs terraform 1.11, and hashicorp/aws 5.100.0 in the directory "
            f"ORDERFLOW_TERRAFORM_PLUGINS ({PLUGINS}), which `terraform providers mirror` fills"
        )
    copy = tmp_path_factory.mktemp("terraform") / "terraform"
    shutil.copytree(TERRAFORM, copy, ignore=shutil.ignore_patterns(".terraform*"))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_"))
    } | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603
            [program, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"terraform {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    run("init", "-no-color", "-backend=false", f"-plugin-dir={PLUGINS.resolve()}")
    return run


@pytest.mark.timeout(900)
def test_files_are_formatted(terraform: Run) -> None:
    """Every file is as `terraform fmt` writes it."""
    terraform("fmt", "-check", "-recursive", "-diff")


@pytest.mark.timeout(900)
def test_plans_against_a_mocked_aws(terraform: Run) -> None:
    """Each module is valid by the real provider's schema, makes what its test says, and refuses bad input."""
    assert ", 0 failed" in terraform("test", "-no-color")
