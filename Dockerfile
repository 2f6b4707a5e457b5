# One image for every slot of the cluster, and for a single node: what a container is, its environment says (CHATNODE_ROLE,
# CHATNODE_CONFIG, …, see `docker run --rm localhost/chatnode --help`).

FROM node:22-bookworm-slim AS node

FROM rust:1-slim-bookworm AS build
# Cargo builds the page as well, for which it needs Node.
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/chatnode /usr/local/bin/chatnode

FROM debian:bookworm-slim
# The authorities that upstreams are checked against.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 10001 -g 10001 /data
COPY --from=build /usr/local/bin/chatnode /usr/local/bin/chatnode
COPY config/cluster.toml /etc/chatnode/cluster.toml
# By number, so that an orchestrator can see that it isn't root.
USER 10001:10001
ENV CHATNODE_DATA_DIR=/data
WORKDIR /data
EXPOSE 8080
# The first one drains.
STOPSIGNAL SIGTERM
# Liveness, which depends on nothing but the process: without curl, which nothing else here would need, and where the node has
# a listener for operators at that, since the other one may be encrypted.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "at=${CHATNODE_ADMIN_LISTEN:-:8080}; exec 3<>/dev/tcp/127.0.0.1/${at##*:} && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.[01] 200' <&3"]
ENTRYPOINT ["chatnode"]
