# btcd, lnd and lncli as `make tools` built them: for simnets, on whose coins nothing depends.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
COPY lnd lncli btcd /usr/local/bin/
RUN install -d -o 65532 -g 65532 /lnd /btcd
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="l402-train lightning" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="MIT AND ISC"
USER 65532:65532
