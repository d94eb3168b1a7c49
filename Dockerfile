# Two stages: what builds the package stays behind. Settings come from the environment or /run/secrets.
FROM docker.io/library/python:3.13-slim AS build
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /opt/ami2zammad \
 && /opt/ami2zammad/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/ami2zammad/bin/pip install --no-cache-dir --no-deps .

FROM docker.io/library/python:3.13-slim
COPY --from=build /opt/ami2zammad /opt/ami2zammad
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin ami2zammad
USER 10001
ENV PYTHONUNBUFFERED=1
# exec form: the bridge is PID 1 and gets SIGTERM itself.
ENTRYPOINT ["/opt/ami2zammad/bin/ami2zammad"]
CMD ["run"]
