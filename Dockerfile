# The images of Weir: `docker build --target worker -t weir/worker .`, and the same with operator.
#
# By default everything is compiled here, static, onto nothing: the image holds a program and the certificates of public
# authorities. Where binaries are there already, as in CI:
#
#   docker build --target worker --build-arg BINARIES=target/image --build-arg BUILD_IMAGE=debian:bookworm-slim \
#       --build-arg RUN_IMAGE=debian:bookworm-slim .
#
# BINARIES is a folder of the build's context (see .dockerignore) with the files weir and weir-operator. Binaries that
# are not static need a RUN_IMAGE with their libraries. Both images may be any that has them, also one that
# `docker import` made: no registry is needed then, and no network.

ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUN_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
ARG BINARIES=""
# What is compiled for; by default the build image's own kind of machine.
ARG TARGET=""
# For these alone: build scripts and macros run here and are not static.
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
WORKDIR /source

# What is compiled changes with the lists of dependencies alone; this layer is used again until then.
COPY Cargo.toml Cargo.lock ./
COPY crds/Cargo.toml crds/
COPY e2e/Cargo.toml e2e/
COPY operator/Cargo.toml operator/
COPY worker/Cargo.toml worker/
COPY worker/protocol/Cargo.toml worker/protocol/
RUN [ -n "$BINARIES" ] || { set -e; \
        for part in crds e2e operator worker worker/protocol; do \
            mkdir -p $part/src; \
            touch $part/src/lib.rs; \
            echo 'fn main() {}' >$part/src/main.rs; \
            for bench in $(sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"/\1/p' $part/Cargo.toml); do \
                mkdir -p $part/benches; \
                echo 'fn main() {}' >$part/benches/$bench.rs; \
            done; \
        done; \
        target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}; \
        cargo build --locked --profile dist --target $target -p weir-worker -p weir-operator --bins; \
        rm -r target/$target/dist/.fingerprint/weir-*; \
    }

COPY . .
RUN set -e; mkdir -p /programs /out/etc/ssl/certs; \
    cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/; \
    if [ -n "$BINARIES" ]; then \
        cp "$BINARIES/weir" "$BINARIES/weir-operator" /programs/; \
    else \
        target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}; \
        cargo build --locked --profile dist --target $target -p weir-worker -p weir-operator --bins; \
        cp target/$target/dist/weir target/$target/dist/weir-operator /programs/; \
    fi; \
    for program in weir weir-operator; do \
        echo "$program: $(wc -c </programs/$program) bytes, $(gzip -1c /programs/$program | wc -c) compressed"; \
    done

FROM ${RUN_IMAGE} AS worker
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="Weir worker" \
    org.opencontainers.image.description="Runs a part of a streaming job" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /
COPY --from=build /programs/weir /weir
# Nothing is written outside of the volumes that a pod has, so the root may be read-only.
USER 65532:65532
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
EXPOSE 7071 7072 8080 8081
ENTRYPOINT ["/weir"]

FROM ${RUN_IMAGE} AS operator
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="Weir operator" \
    org.opencontainers.image.description="Reconciles StreamJobs into worker pods" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /
COPY --from=build /programs/weir-operator /weir-operator
USER 65532:65532
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
EXPOSE 8080
ENTRYPOINT ["/weir-operator"]
