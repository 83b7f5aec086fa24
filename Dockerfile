# The daemon alone: no toolchain, no package that it does not link, no need for a shell, not root.
#
#   docker build -t rowbridge .
#   docker run --stop-timeout 30 -v "$PWD/rowbridge.toml:/etc/rowbridge/rowbridge.toml:ro" rowbridge
#
# Base images are pinned by version and not by digest: a digest names one platform's image of one day, and nobody would
# move it when OpenSSL needs a fix. A rebuild (`--pull --no-cache`) brings Debian's security updates.

FROM rust:1.95-slim-bookworm AS builder
# What .ci/run installs for the build; a test compares the two. Without versions: Debian keeps only the newest ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ make pkg-config libssl-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY connectors connectors
COPY kafka kafka
# Cargo wants to see every target of the manifest, also those it does not build.
COPY benches benches
COPY examples/quickstart examples/quickstart
COPY tests tests
# Backtraces keep the names of functions; line tables are four fifths of the file.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin rowbridge \
    && strip --strip-debug -o /usr/local/bin/rowbridge target/release/rowbridge

# Debian's smallest image and not distroless/cc, which has no zlib.
FROM debian:bookworm-slim
# The libraries that the binary links beyond those of the C compiler, and the authorities that TLS trusts by default.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /usr/local/bin/rowbridge /usr/local/bin/rowbridge
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/rowbridge/
COPY mappings /usr/share/rowbridge/mappings
# Working copies of what rules remember: they may be lost, but a volume saves reading them from Kafka.
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/rowbridge
VOLUME /var/lib/rowbridge
# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 65532:65532
# Where rowbridge.toml is looked for. Its secrets are files: password_file = "/run/secrets/...".
WORKDIR /etc/rowbridge
# Reached from outside only with http.listen = "0.0.0.0:9464".
EXPOSE 9464
# Whether it answers, not whether it is ready: a standby and one whose Kafka is away are well and must not be replaced.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["/usr/local/bin/rowbridge", "health", "--live"]
ENTRYPOINT ["/usr/local/bin/rowbridge"]
CMD ["run"]
