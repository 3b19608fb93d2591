# One image for every app: the command chooses which. docs/CONTAINERS.md says why, and how a release pins the base.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# hadolint ignore=DL3006  # the argument carries the tag, in a release the digest
FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/orderflow \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}"
WORKDIR /src
# The dependencies by themselves: their layer is built again only when pyproject.toml changes. It pins every version.
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/uv /opt/uv/bin/uv sync --no-default-groups --no-install-project
COPY README.md LICENSE ./
COPY apps apps
COPY asyncapi asyncapi
COPY contracts contracts
RUN --mount=type=cache,target=/root/.cache/uv /opt/uv/bin/uv sync --no-default-groups --no-editable

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
# A numeric user, so that Kubernetes can tell that it is not root; pip has no use in an image that is never changed.
RUN groupadd --gid 10001 orderflow \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin orderflow \
    && install --directory --owner 10001 --group 10001 /var/lib/orderflow/documents \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip
COPY --from=build /opt/orderflow /opt/orderflow
ENV PATH=/opt/orderflow/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORDERFLOW_DOCUMENTS_URL=/var/lib/orderflow/documents
WORKDIR /var/lib/orderflow
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# By bash alone: eight apps that each start a Python for it every few seconds would keep a core busy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.. 200' <&3"]
CMD ["orderflow", "--help"]

# Last, so that a new revision builds no other layer again.
ARG VERSION=unreleased
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Orderflow" \
    org.opencontainers.image.description="Event-driven order processing for online shops, on RabbitMQ and MongoDB" \
    org.opencontainers.image.source="https://github.com/orderflow/orderflow" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
