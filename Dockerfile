# The server and the worker, one image: `docker build -t twofold .`
ARG PYTHON_IMAGE=python:3.11-slim

# ./run installs here what it installs anywhere. Only the locks and ./run itself are copied, so
# that a change of the code does not install everything again.
FROM ${PYTHON_IMAGE} AS packages
WORKDIR /srv/twofold
COPY run requirements.lock ./
# Compiled now, because the running container can write nothing beside the code.
RUN UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 ./run setup \
    && .venv/bin/python -m pip uninstall --quiet --yes uv pip \
    && printf '#!/bin/sh\nexec python -m app.cli "$@"\n' > .venv/bin/twofold \
    && chmod 755 .venv/bin/twofold

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --home-dir /var/lib/twofold --no-create-home twofold \
    && install -d -o twofold -g twofold -m 700 /var/lib/twofold
WORKDIR /srv/twofold
COPY --from=packages /srv/twofold/.venv .venv
COPY . .
RUN .venv/bin/python -m compileall -q app intent generator migrations

ENV PATH=/srv/twofold/.venv/bin:$PATH \
    PYTHONPATH=/srv/twofold \
    PYTHONUNBUFFERED=1 \
    TWOFOLD_DATA_DIR=/var/lib/twofold \
    TWOFOLD_HOST=0.0.0.0 \
    TWOFOLD_PORT=8000 \
    HF_HOME=/var/lib/twofold/huggingface
USER twofold
EXPOSE 8000
# http.client and not urllib, which would send this to a proxy where one is set.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['TWOFOLD_PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["twofold"]
CMD ["serve"]
