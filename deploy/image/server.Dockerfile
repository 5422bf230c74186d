# The server: one static binary and nothing else. No shell, no libc, no package to patch.
# Built by `make image`; the context is a folder that holds the binary alone.
FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nabata" \
      org.opencontainers.image.description="A replicated key-value store that speaks etcd's v3 API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY nabata /nabata
# A number, so that runAsNonRoot can be checked without /etc/passwd.
USER 65532:65532
# clients, peers, metrics and probes (the ports of etcd's defaults)
EXPOSE 2379 2380 2381
ENTRYPOINT ["/nabata"]
CMD ["server"]
