# The OpenTelemetry collector as `make tools-collector` built it, for networks without an image registry, with what the public image
# of its version has too: the program, the authorities, a user, and no shell.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS base

FROM scratch
COPY --from=base /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY otelcol /otelcol
USER 10001:10001
ENTRYPOINT ["/otelcol"]
CMD ["--config", "/etc/otelcol/config.yaml"]
