# cloud-node on an NVIDIA GPU. torch's usual wheels bring CUDA's libraries; of the machine only its
# driver is needed, with the NVIDIA container toolkit. From the checkout's root:
#   docker build -f deploy/docker/cloud-cuda.Dockerfile -t spikebottlenet-cloud-cuda .
#   docker run --rm --gpus 1 --network host spikebottlenet-cloud-cuda ...
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
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent spikebottlenet
COPY --from=build /opt/spikebottlenet /opt/spikebottlenet
COPY deploy/config/cloud.yaml /etc/spikebottlenet/cloud.yaml
USER 10001:10001
EXPOSE 50061 50062
# With TLS on its port, name the files in SPIKEBOTTLENET_CA, _CERT and _KEY.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --start-interval=2s \
    CMD ["spikebottlenet", "health", "localhost:50061"]
ENTRYPOINT ["cloud-node", "--config", "/etc/spikebottlenet/cloud.yaml", "--device", "cuda"]
