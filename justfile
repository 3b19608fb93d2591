# Recipes run inside `uv run just <recipe>`, which puts every tool on the path.

[doc("List the recipes.")]
[private]
default:
    @just --list

[doc("Run every test; those that need RabbitMQ and MongoDB start their own. Arguments go to pytest.")]
[group("check")]
test *arguments:
    pytest {{ arguments }}

[doc("Run the tests of rules and documents only. Arguments go to pytest.")]
[group("check")]
unit *arguments:
    pytest tests/unit {{ arguments }}

[doc("Run every fault scenario, about 40 minutes; `--seed` repeats a run, `--report FILE` writes the table.")]
[group("check")]
faults *arguments:
    pytest tests/faults --faults {{ arguments }}

[doc("Run tests on RabbitMQ 4, from a Debian root that is made once; needs root. Arguments go to pytest.")]
[group("check")]
rabbitmq-4 *arguments:
    server="$(tests/servers/rabbitmq-4)" && ORDERFLOW_RABBITMQ_SERVER="$server" pytest {{ arguments }}

[doc("Check style, format, types and which package may import which.")]
[group("check")]
lint:
    ruff check
    ruff format --check
    mypy
    lint-imports

[doc("Check that the AsyncAPI documents are those of the code, valid, and keep our rules. Needs npm.")]
[group("check")]
documents:
    npm install --silent --prefix asyncapi
    orderflow asyncapi check

[doc("Mend what ruff can mend, and format.")]
[group("write")]
format:
    ruff check --fix
    ruff format

[doc("Write the AsyncAPI documents anew from the code.")]
[group("write")]
asyncapi:
    orderflow asyncapi build

alias docs := asyncapi

[doc("Start RabbitMQ, MongoDB and every app until Ctrl-C.")]
[group("run")]
up *arguments:
    orderflow up {{ arguments }}

[doc("Send real orders through the whole system and check the books.")]
[group("run")]
demo *arguments:
    orderflow demo {{ arguments }}
