# The client: a shell, and the binary as nabata and as etcdctl.
# deploy/image/build.sh builds it; the context holds only the binary and the links.
ARG BASE=alpine:3.22
FROM $BASE
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="nabata-client" \
      org.opencontainers.image.description="A shell with the nabata and etcdctl commands" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
# No RUN: the image builds for another architecture without emulation.
COPY bin/ /usr/local/bin/
ENV ETCDCTL_API=3 HOME=/tmp
USER 65532:65532
WORKDIR /tmp
CMD ["/bin/sh"]
