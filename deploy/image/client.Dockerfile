# The client, for people: a shell to enter, and `nabata` (and `etcdctl`, which is the same binary) in the PATH.
# Built by `make image`; the context is a folder that holds the binary alone.
ARG BASE=alpine:3.22
FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nabata-client" \
      org.opencontainers.image.description="The nabata client on Alpine: enter it with a shell" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY nabata /usr/local/bin/nabata
RUN ln -s nabata /usr/local/bin/etcdctl
USER 65532:65532
WORKDIR /tmp
# A pod that waits to be entered.
CMD ["sleep", "infinity"]
