# Two images from one file:
#   docker build --target predict -t mnist-nightly:predict .   CPU: orchestration, predictions, submissions
#   docker build --target train -t mnist-nightly:train .       CUDA: training
# `make image` builds both. Run as any user, with a read-only root and a writable /tmp:
#   docker run --rm --init --read-only --tmpfs /tmp --env-file .env mnist-nightly:predict python -m flows submit

# Debian or Ubuntu with Python 3.11, the version that the locks are made for.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# What installs packages is mounted below, so that no image contains it, and each package is written once.
# hadolint ignore=DL3006
FROM ${BASE} AS installer
ARG UV=0.13.9
# system-certs: for a network that intercepts TLS, give its certificates as the secret `certificates`; no layer
# keeps it (infra/README.md). The cache is on the disk of /opt/venv for the sake of hard links, and is removed.
RUN --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==${UV} \
    && printf '%s\n' 'cache-dir = "/opt/cache"' 'link-mode = "hardlink"' 'system-certs = true' \
        '[pip]' 'python = "/opt/venv/bin/python"' 'compile-bytecode = true' >/opt/uv/uv.toml

# hadolint ignore=DL3006
FROM ${BASE} AS common
LABEL org.opencontainers.image.title="mnist-nightly" \
      org.opencontainers.image.description="Retrains a digit recogniser every night and enters it in Kaggle's digit-recognizer" \
      org.opencontainers.image.licenses="Apache-2.0"
# Everything is written below /tmp, so that the root file system can be read-only. Bytecode is already compiled.
ENV PATH=/opt/venv/bin:${PATH} HOME=/tmp MNIST_HOME=/tmp/mnist PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
# /data: so that an empty volume mounted there belongs to the user below (infra/compose).
RUN install --directory --owner=10001 --group=10001 /data && python3 -m venv --without-pip /opt/venv
# With an init as process 1 (docker --init, ECS initProcessEnabled) a stop request reaches the flow, which then ends
# within 8 s.
STOPSIGNAL SIGTERM
CMD ["python", "-m", "flows", "--help"]

# The packages are a layer of their own, the same for all commits with the same lock. Headers and static libraries are
# for compilers, and the image has none; the packages' own tests are not run.
FROM common AS train
# hadolint ignore=DL3003
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/mnt/uv \
    --mount=type=bind,source=requirements,target=/mnt/requirements \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    uv="/mnt/uv/bin/uv --config-file /mnt/uv/uv.toml" \
    && $uv pip install --quiet --require-hashes --requirement /mnt/requirements/train.lock \
    && cd /opt/venv/lib/python3*/site-packages && rm -rf /opt/cache torch/include torch/test \
    && find . -name '*.a' -delete && find . -depth -type d -name tests -exec rm -rf {} +
COPY LICENSE README.md pyproject.toml /app/
COPY flows /app/flows
COPY mnist_core /app/mnist_core
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/mnt/uv \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    /mnt/uv/bin/uv --config-file /mnt/uv/uv.toml pip install --quiet --no-deps --editable /app \
    && rm -rf /opt/cache && python3 -m compileall -q flows mnist_core
# A number, so that Kubernetes and others can check that it is not root.
USER 10001:10001
# So that an empty volume mounted here gets the permissions of /tmp, not of root alone (ECS on Fargate).
VOLUME /tmp
ARG REVISION=unknown BASE_NAME=unknown BASE_DIGEST=unknown
LABEL org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_NAME}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"

FROM common AS predict
# torch's CPU build is on an index of its own, so it cannot be in the lock. With its wheel in requirements/:
#   --build-arg TORCH="torch==2.14.1+cpu --no-index"
ARG TORCH="torch==2.14.1+cpu --index-url https://download.pytorch.org/whl/cpu"
# hadolint ignore=DL3003,SC2086
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/mnt/uv \
    --mount=type=bind,source=requirements,target=/mnt/requirements \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    uv="/mnt/uv/bin/uv --config-file /mnt/uv/uv.toml" \
    && $uv pip install --quiet --require-hashes --requirement /mnt/requirements/predict.lock \
    && $uv pip install --quiet --no-deps --find-links /mnt/requirements ${TORCH} \
    && cd /opt/venv/lib/python3*/site-packages && rm -rf /opt/cache torch/include torch/test \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find . -name '*.a' -delete && find . -depth -type d -name tests -exec rm -rf {} +
COPY LICENSE README.md pyproject.toml /app/
COPY flows /app/flows
COPY mnist_core /app/mnist_core
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/mnt/uv \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    /mnt/uv/bin/uv --config-file /mnt/uv/uv.toml pip install --quiet --no-deps --editable /app \
    && rm -rf /opt/cache && python3 -m compileall -q flows mnist_core
USER 10001:10001
VOLUME /tmp
ARG REVISION=unknown BASE_NAME=unknown BASE_DIGEST=unknown
LABEL org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_NAME}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
