# Two stages: what builds the environment stays behind. Both begin with the same image, for the virtual environment
# points to its Python; any with Python 3.11 or later and venv will do. docs/container.md tells how to run it.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
# The pip that installs is not in the environment. The names of the places of all area codes are never looked up here:
# without them the image is a third smaller.
RUN python3 -m venv pip \
 && python3 -m venv --without-pip /opt/ami2zammad \
 && pip/bin/pip --quiet --python /opt/ami2zammad/bin/python3 install --no-cache-dir --require-hashes --only-binary :all: \
        -r requirements/run.txt \
 && rm -r /opt/ami2zammad/lib/python3.*/site-packages/phonenumbers/geodata
COPY src src
# Pure Python: copied, not built, so that nothing but the locked versions is fetched. Compiled, because the file system
# may be read-only when it runs.
RUN cp -r src/ami2zammad /opt/ami2zammad/lib/python3.*/site-packages/ \
 && printf '#!/opt/ami2zammad/bin/python3 -sP\nimport sys\n\nfrom ami2zammad.cli import main\n\nsys.exit(main())\n' \
        > /opt/ami2zammad/bin/ami2zammad \
 && chmod 0755 /opt/ami2zammad/bin/ami2zammad \
 && /opt/ami2zammad/bin/python3 -m compileall -q /opt/ami2zammad/lib

FROM ${BASE}
# The number is fixed, so that a folder of the host can be given to it.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/ami2zammad \
        --shell /usr/sbin/nologin ami2zammad \
 && install -d -o ami2zammad -g ami2zammad -m 0700 /var/lib/ami2zammad \
 && ln -s /opt/ami2zammad/bin/ami2zammad /usr/local/bin/ami2zammad
COPY --from=build /opt/ami2zammad /opt/ami2zammad
# By number: some platforms demand to see that it is not root.
USER 10001:10001
# What Zammad does not have yet; the only place that is written to.
VOLUME /var/lib/ami2zammad
# Where the health check asks; in the container's own network nobody else can.
ENV AMI2ZAMMAD_OPS__LISTEN=127.0.0.1:9469
# Memory of a busy hour can be given back afterwards; Python's own allocator keeps most of it.
ENV PYTHONMALLOC=malloc
# Healthy: Asterisk has let the bridge in, and Zammad takes what it gets.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["ami2zammad", "status", "--check"]
# The exec form: the bridge is PID 1 and gets SIGTERM and SIGHUP itself.
ENTRYPOINT ["ami2zammad"]
CMD ["run"]
