# The service in a container. It serves and does not train: there is no torch in it.
#
#   docker build --tag gatelight .
#   docker run --rm --publish 8000:8000 --read-only gatelight
#
# Targets: `cpu`, the last and so the default; `cuda`, the same for NVIDIA GPUs; `train`, a job that trains models.
#
#   docker build --target cuda --tag gatelight:cuda .
#
# Another base of the same Python, or one pinned by its digest: --build-arg BASE=...
ARG BASE=python:3.11-slim-bookworm


# Packages change seldom and are large; code changes often and is small. Each image is a layer of packages, one of
# models and one of code, linked: a layer is made, pulled and pushed again only when its own content changes.
FROM ${BASE} AS requirements
WORKDIR /build
COPY pyproject.toml deploy/image/requirements.py ./
RUN ["python", "requirements.py"]

FROM ${BASE} AS installer
WORKDIR /build
COPY constraints.txt deploy/image/install.py ./

FROM installer AS packages-cpu
COPY --from=requirements /build/cpu.txt ./
RUN ["python", "install.py", "cpu.txt"]

FROM installer AS packages-cuda
COPY --from=requirements /build/cuda.txt ./
RUN ["python", "install.py", "cuda.txt"]

# Torch for GPUs, which the usual index has, is 5 GB; torch for CPUs alone a seventh of that. To take that or any other
# wheel from a folder instead: --build-context wheels=FOLDER
FROM scratch AS wheels

FROM installer AS packages-train
COPY --from=requirements /build/train.txt ./
RUN --mount=type=bind,from=wheels,target=/wheels python install.py train.txt --find-links /wheels


# The code, compiled here because nothing can be written where it runs, and the models. Whoever runs the container has
# to be able to read them, whatever the file modes of the checkout are.
FROM ${BASE} AS models
COPY models/ /app/models/
RUN chmod -R a+rX /app

FROM ${BASE} AS code
WORKDIR /app
COPY LICENSE ./
COPY service/ service/
RUN python -m compileall -q --invalidation-mode unchecked-hash service && chmod -R a+rX .

FROM ${BASE} AS training-code
WORKDIR /app
COPY training/ training/
COPY examples/ examples/
RUN python -m compileall -q --invalidation-mode unchecked-hash training && chmod -R a+rX . \
    && mkdir -p /own/models/my-sentiment /own/models/my-ner


# ONNX Runtime would leave an id in the home folder, and send a word home, before the service can tell it not to.
FROM ${BASE} AS common
ENV PATH=/opt/venv/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SERVICE_MODELS=/app/models \
    SERVICE_LOG_FORMAT=json
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gatelight" \
      org.opencontainers.image.description="Recurrent text models behind HTTP, with every gate open to view" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A number, so that Kubernetes' runAsNonRoot can be checked; nobody has to own a file in the image.
USER 10001:10001
WORKDIR /app
STOPSIGNAL SIGTERM


FROM common AS train
COPY --link --from=packages-train /opt/venv /opt/venv
COPY --link --from=training-code /app /app
COPY --link --from=code /app /app
# The folders that the job writes to are its own; a volume that is mounted there takes their owner over.
COPY --link --from=training-code --chown=10001:10001 /own/models /app/models
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]


FROM common AS serving
EXPOSE 8000
COPY --link deploy/image/health.py /opt/health.py
# -I and -S leave out what the check does not need.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-I", "-S", "/opt/health.py"]
CMD ["python", "-m", "service", "serve", "--host", "0.0.0.0"]


# CUDA and cuDNN come as packages; the driver is the machine's, put in by its container runtime.
FROM serving AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --link --from=packages-cuda /opt/venv /opt/venv
COPY --link --from=models /app /app
COPY --link --from=code /app /app


FROM serving AS cpu
COPY --link --from=packages-cpu /opt/venv /opt/venv
COPY --link --from=models /app /app
COPY --link --from=code /app /app
