# Two images from one file:
#   docker build --target predict -t mnist-nightly:predict .   CPU: orchestration, predictions, submissions
#   docker build --target train -t mnist-nightly:train .       CUDA: training
# `make image` builds both. Run as any user, with a read-only root and a writable /tmp:
#   docker run --rm --init --read-only --tmpfs /tmp --env-file .env mnist-nightly:predict python -m flows submit

# Debian or Ubuntu with Python 3.11, the version that the locks are made for.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS build
ARG UV=0.13.9
# UV_SYSTEM_CERTS: for a network that intercepts TLS, give its certificates as the secret `certificates`; no layer
# keeps it (infra/README.md).
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON=/opt/venv/bin/python UV_SYSTEM_CERTS=1
RUN --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv --without-pip /opt/venv \
    && python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==${UV}

FROM build AS build-predict
# torch's CPU build is on an index of its own, so it cannot be in the lock. With its wheel in requirements/:
#   --build-arg TORCH="torch==2.13.0+cpu --no-index"
ARG TORCH="torch==2.14.1+cpu --index-url https://download.pytorch.org/whl/cpu"
# Headers and static libraries are for compilers, and the image has none; the packages' own tests are not run.
# hadolint ignore=DL3003,SC2086
RUN --mount=type=bind,source=requirements,target=/requirements \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/uv/bin/uv pip install --quiet --require-hashes --requirement /requirements/predict.lock \
    && /opt/uv/bin/uv pip install --quiet --no-deps --find-links /requirements ${TORCH} \
    && cd /opt/venv/lib/python3*/site-packages && rm -rf torch/include torch/test \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find . -name '*.a' -delete && find . -depth -type d -name tests -exec rm -rf {} +
COPY LICENSE README.md pyproject.toml /app/
COPY flows /app/flows
COPY mnist_core /app/mnist_core
RUN --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/uv/bin/uv pip install --quiet --no-deps --editable /app

FROM build AS build-train
# hadolint ignore=DL3003
RUN --mount=type=bind,source=requirements,target=/requirements \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/uv/bin/uv pip install --quiet --require-hashes --requirement /requirements/train.lock \
    && cd /opt/venv/lib/python3*/site-packages && rm -rf torch/include torch/test \
    && find . -name '*.a' -delete && find . -depth -type d -name tests -exec rm -rf {} +
COPY LICENSE README.md pyproject.toml /app/
COPY flows /app/flows
COPY mnist_core /app/mnist_core
RUN --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/uv/bin/uv pip install --quiet --no-deps --editable /app

# hadolint ignore=DL3006
FROM ${BASE} AS common
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mnist-nightly" \
      org.opencontainers.image.description="Retrains a digit recogniser every night and enters it in Kaggle's digit-recognizer" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# Everything is written below /tmp, so that the root file system can be read-only. Bytecode is already compiled.
ENV PATH=/opt/venv/bin:${PATH} HOME=/tmp MNIST_HOME=/tmp/mnist PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
# So that an empty volume mounted here belongs to the user below (infra/compose).
RUN install --directory --owner=10001 --group=10001 /data
# With an init as process 1 (docker --init, ECS initProcessEnabled) a stop request reaches the flow, which then ends
# within 8 s.
STOPSIGNAL SIGTERM
# A number, so that Kubernetes and others can check that it is not root.
USER 10001:10001
# So that an empty volume mounted here gets the permissions of /tmp, not of root alone (ECS on Fargate).
VOLUME /tmp
CMD ["python", "-m", "flows", "--help"]

FROM common AS train
COPY --from=build-train /opt/venv /opt/venv
COPY --from=build-train /app /app

FROM common AS predict
COPY --from=build-predict /opt/venv /opt/venv
COPY --from=build-predict /app /app
