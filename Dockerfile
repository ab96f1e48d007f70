# One image per service: its wheel, its pinned dependencies, and no compiler, pip or other service.
#
#   docker build --build-arg SERVICE=stage4 -t stagegate-stage4 .
#
# Every file that is installed has a hash in packaging/<service>/requirements.lock, except the wheel,
# which is built here from the tree that is being shipped. A lock is whole, so pip resolves nothing.

ARG BASE_IMAGE=python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS build
ARG SERVICE
WORKDIR /source
ENV PIP_CACHE_DIR=/var/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

COPY packaging/build.lock packaging/build.lock
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --quiet --no-deps --require-hashes -r packaging/build.lock

# The environment is made without pip: what is installed stays as it is.
COPY packaging/${SERVICE}/requirements.lock packaging/${SERVICE}/requirements.lock
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv --without-pip /opt/stagegate \
    && /opt/build/bin/python -m pip --python /opt/stagegate/bin/python install --quiet \
        --no-deps --require-hashes -r packaging/${SERVICE}/requirements.lock

COPY . .
WORKDIR /source/packaging/${SERVICE}
RUN /opt/build/bin/hatchling build --target wheel --directory /dist \
    && /opt/build/bin/python -m pip --python /opt/stagegate/bin/python install --quiet \
        --no-index --no-deps /dist/*.whl \
    && if [ ! -e "/opt/stagegate/bin/${SERVICE}" ]; then \
        # The wheel to write domains with brings no command: whoever writes one brings the program.
        ln -s python "/opt/stagegate/bin/${SERVICE}"; fi \
    && ln -s "${SERVICE}" /opt/stagegate/bin/service

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG SERVICE
# Fixed, so that volumes and key files can be given to it before it runs.
ARG UID=10001
RUN groupadd --gid "${UID}" stagegate \
    && useradd --uid "${UID}" --gid "${UID}" --no-create-home --no-log-init \
        --home-dir /nonexistent --shell /usr/sbin/nologin stagegate \
    && install --directory --owner="${UID}" --group="${UID}" --mode=0700 \
        /var/lib/stagegate /var/lib/stagegate-keys /var/lib/stagegate-checkpoint
COPY --from=build /opt/stagegate /opt/stagegate
COPY deploy/container /opt/stagegate/container
ENV PATH=/opt/stagegate/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/nonexistent
USER ${UID}:${UID}
WORKDIR /var/lib/stagegate
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/stagegate/bin/service"]
CMD ["serve"]
