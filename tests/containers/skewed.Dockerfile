# One of our images with libfaketime in it, whose clock goes wrong by FAKETIME: for the tests, and shipped to nobody.
ARG BASE
FROM ${BASE}
USER 0:0
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends libfaketime >/dev/null \
    && ln -s "$(find /usr/lib -name libfaketimeMT.so.1)" /usr/local/lib/faketime.so && rm -rf /var/lib/apt/lists/*
USER 65532:65532
