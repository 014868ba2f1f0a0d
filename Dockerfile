# The service in a container. It serves and does not train: there is no torch in it.
#
#   docker build --tag gatelight .
#   docker run --rm --publish 8000:8000 --read-only gatelight
#
# Another base of the same Python, or one pinned by its digest: --build-arg BASE=...
ARG BASE=python:3.11-slim-bookworm


# What pyproject.toml asks for at run time, as a file of its own, so that the dependencies below are installed again
# when this list changes, and not for any other line of pyproject.toml.
FROM ${BASE} AS requirements
WORKDIR /build
COPY pyproject.toml ./
RUN ["python", "-c", "import pathlib, tomllib\nproject = tomllib.loads(pathlib.Path('pyproject.toml').read_text('utf-8'))['project']\nlines = project['dependencies'] + project['optional-dependencies']['cpu']\npathlib.Path('requirements.txt').write_text('\\n'.join(lines), 'utf-8')"]


# An environment without pip. Wheels alone: the base has no compiler, and needs none.
FROM ${BASE} AS dependencies
WORKDIR /build
COPY constraints.txt ./
COPY --from=requirements /build/requirements.txt ./
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --quiet --disable-pip-version-check --no-cache-dir \
        --only-binary :all: --constraint constraints.txt --requirement requirements.txt \
    && find /opt/venv -type d -name tests -prune -exec rm -r {} +


# The code, compiled here because nothing can be written where it runs, and the models. Whoever runs the container has
# to be able to read them, whatever the file modes of the checkout are.
FROM ${BASE} AS application
WORKDIR /app
COPY models/ models/
COPY LICENSE ./
COPY service/ service/
RUN python -m compileall -q --invalidation-mode unchecked-hash service && chmod -R a+rX .


FROM ${BASE}
# ONNX Runtime would leave an id in the home folder, and send a word home, before the service can tell it not to.
ENV PATH=/opt/venv/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SERVICE_MODELS=/app/models \
    SERVICE_LOG_FORMAT=json
COPY --from=dependencies /opt/venv /opt/venv
WORKDIR /app
COPY --from=application /app/LICENSE ./
COPY --from=application /app/models models
COPY --from=application /app/service service

ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gatelight" \
      org.opencontainers.image.description="Recurrent text models behind HTTP, with every gate open to view" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A number, so that Kubernetes' runAsNonRoot can be checked; nobody has to own a file in the image.
USER 10001:10001
EXPOSE 8000
# -I and -S leave out what the check does not need: it takes some 50 ms of one core.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('SERVICE_PORT') or 8000), timeout=4); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
CMD ["python", "-m", "service", "serve", "--host", "0.0.0.0"]
