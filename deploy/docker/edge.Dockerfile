# edge-node, without torch. From the checkout's root:
#   docker build -f deploy/docker/edge.Dockerfile -t spikebottlenet-edge .
#   docker run --rm --network host spikebottlenet-edge --cloud SERVER:50061 ...
# Another package index: --build-arg PIP_INDEX_URL=...
ARG PYTHON=python:3.11-slim-bookworm
# The same with a C compiler, for the codec's compiled part.
ARG BUILD_PYTHON=python:3.11-bookworm

FROM ${BUILD_PYTHON} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY shared shared
COPY edge edge
COPY cloud cloud
RUN python -m venv /opt/spikebottlenet \
    && /opt/spikebottlenet/bin/pip install --no-cache-dir -c constraints.txt '.[edge]'

FROM ${PYTHON}
# The durable queue and fetched bundles; mount a volume here to keep them.
ENV STATE_DIRECTORY=/var/lib/spikebottlenet \
    PATH=/opt/spikebottlenet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent spikebottlenet \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/spikebottlenet
COPY --from=build /opt/spikebottlenet /opt/spikebottlenet
COPY deploy/config/edge.yaml /etc/spikebottlenet/edge.yaml
USER 10001:10001
EXPOSE 50051 50052
# With TLS on its port, name the files in SPIKEBOTTLENET_CA, _CERT and _KEY. Python starts for each
# check, so seldom.
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s --start-interval=2s \
    CMD ["spikebottlenet", "health", "localhost:50051"]
ENTRYPOINT ["edge-node", "--config", "/etc/spikebottlenet/edge.yaml"]
