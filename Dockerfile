# The image of gateway, workers and `fleet`; each is a command. Agents of your own: FROM this one, and install their package.
FROM python:3.11-slim AS build
RUN python -m venv /opt/venv
COPY requirements.lock .
RUN /opt/venv/bin/python -m pip --disable-pip-version-check --quiet --no-cache-dir install --no-deps --require-hashes --only-binary=:all: --requirement requirements.lock

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
COPY topics.yaml /opt/turnfleet/
COPY schemas /opt/turnfleet/schemas
COPY journal /opt/turnfleet/journal
COPY broker /opt/turnfleet/broker
COPY gateway /opt/turnfleet/gateway
COPY workers /opt/turnfleet/workers
COPY loadtest /opt/turnfleet/loadtest
COPY fleet /opt/turnfleet/fleet
RUN printf '#!/bin/sh\nexec python -m fleet "$@"\n' >/opt/venv/bin/fleet && chmod +x /opt/venv/bin/fleet \
  && python -m compileall -q /opt/turnfleet && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fleet
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/turnfleet PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
CMD ["fleet", "--help"]
