# cloud-node on a processor. From the checkout's root:
#   docker build -f deploy/docker/cloud-cpu.Dockerfile -t spikebottlenet-cloud .
#   docker run --rm --network host spikebottlenet-cloud --threads 4 ...
# torch's builds without CUDA are in an index of their own: name it, or the image carries CUDA's
# libraries, some gigabytes, for nothing:
#   --build-arg PIP_EXTRA_INDEX_URL=(PyTorch's index of CPU wheels)
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
    && /opt/spikebottlenet/bin/pip install --no-cache-dir -c constraints.txt '.[cloud]'

FROM ${PYTHON}
ENV PATH=/opt/spikebottlenet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent spikebottlenet
COPY --from=build /opt/spikebottlenet /opt/spikebottlenet
COPY deploy/config/cloud.yaml /etc/spikebottlenet/cloud.yaml
USER 10001:10001
EXPOSE 50061 50062
# With TLS on its port, name the files in SPIKEBOTTLENET_CA, _CERT and _KEY.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --start-interval=2s \
    CMD ["spikebottlenet", "health", "localhost:50061"]
ENTRYPOINT ["cloud-node", "--config", "/etc/spikebottlenet/cloud.yaml"]
