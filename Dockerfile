# The image: one static binary on nothing. scripts/image.sh makes the same without a Docker engine.
#
#   docker build -t localhost/k3s-registry-agent:0.1.0 .
#
# The first stage runs on the platform that is built for, so that the gnu target of that machine is the right one and no
# cross toolchain is needed: --platform linux/arm64 goes through emulation. arm64 is untested.

FROM rust:1.95.0-slim-bookworm AS build
# The image's own toolchain is the pinned one; without this rustup would fetch rustfmt and clippy for it.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY agent agent
COPY scripts/build-static.sh scripts/no-unwind.ld scripts/
# Static by `-C target-feature=+crt-static`, with --target passed explicitly: the script says why.
RUN install -D -m 0755 "$(scripts/build-static.sh)" /out/k3s-registry-agent

FROM scratch
COPY --from=build /out/k3s-registry-agent /k3s-registry-agent
# With backtraces on, one printed error keeps 31 MiB for the life of the process: three times what the agent takes.
ENV RUST_BACKTRACE=0
ENTRYPOINT ["/k3s-registry-agent"]
