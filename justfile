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

# Those that only talk to RabbitMQ and MongoDB; the others stop, kill or ask the node that they started.
[doc("Run tests on the services that ORDERFLOW_RABBITMQ_URL and ORDERFLOW_MONGODB_URL name. Arguments go to pytest.")]
[group("check")]
given-services *arguments:
    : "${ORDERFLOW_RABBITMQ_URL:?is not set}" "${ORDERFLOW_MONGODB_URL:?is not set}"
    pytest {{ arguments }} \
        tests/connected/test_billing_numbers.py tests/connected/test_cancellation.py \
        tests/connected/test_documents.py tests/connected/test_keys.py tests/connected/test_read_model.py \
        tests/connected/test_refused_messages.py tests/connected/test_smtp.py tests/connected/test_twilio.py \
        tests/connected/test_webhook_condition.py tests/connected/test_webhooks.py

[doc("Compare Orderflow with what people would use instead; `--quick` for a first look. Arguments go to the benchmark.")]
[group("check")]
bench *arguments:
    uv run --group bench python -m tests.bench {{ arguments }}

[doc("Build the image, bring the whole system up in containers, and use it; needs root and Podman. Arguments go to pytest.")]
[group("check")]
containers *arguments:
    pytest tests/infra/containers/up.py {{ arguments }}

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

[doc("Take the README's pictures of the console anew, from a run of the demo.")]
[group("write")]
screenshots:
    python -m tests.browser.screenshots

[doc("Write the dashboards anew from their code.")]
[group("write")]
dashboards:
    python k8s/observability/dashboards.py

[doc("Write the alerts for the Prometheus Operator anew from the rules.")]
[group("write")]
alerts:
    python k8s/components/monitoring/prometheus_rule.py

[doc("Start RabbitMQ, MongoDB and every app until Ctrl-C.")]
[group("run")]
up *arguments:
    orderflow up {{ arguments }}

[doc("Send real orders through the whole system and check the books.")]
[group("run")]
demo *arguments:
    orderflow demo {{ arguments }}
