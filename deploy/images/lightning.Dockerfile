# btcd, lnd and lncli as `make tools` built them: for simnets, on whose coins nothing depends.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
COPY lnd lncli btcd /usr/local/bin/
RUN install -d -o 65532 -g 65532 /lnd /btcd
USER 65532:65532
