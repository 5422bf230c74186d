# The server: one static binary and nothing else. No shell, no libc, no package to patch.
# deploy/image/build.sh builds it; the context holds only the binary.
FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="nabata" \
      org.opencontainers.image.description="A replicated key-value store that speaks etcd's v3 API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY nabata /nabata
USER 65532:65532
# Clients, peers, metrics and probes; 6000 and 6001 are those of the kind overlay.
EXPOSE 2379 2380 2381 6000 6001
ENTRYPOINT ["/nabata"]
CMD ["server"]
