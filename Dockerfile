# One image for all processes of the control plane; docker-compose.yml says which one a container runs.

FROM python:3.12-slim AS build
COPY requirements/server.txt /tmp/server.txt
RUN python -m venv /opt/inventiv && /opt/inventiv/bin/pip install --no-cache-dir --require-hashes -r /tmp/server.txt

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/inventiv --create-home inventiv
COPY --from=build /opt/inventiv /opt/inventiv
WORKDIR /srv/inventiv
COPY . .
ENV PATH=/opt/inventiv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    INVENTIV_HOME=/var/lib/inventiv \
    STATIC_ROOT=/srv/static \
    API_HOST=0.0.0.0 \
    ROUTER_HOST=0.0.0.0
# Static files need the settings to be loadable, not a server: no setting of the build is kept.
RUN INVENTIV_HOME=/tmp/build python manage.py collectstatic --noinput && rm -rf /tmp/build
USER inventiv
EXPOSE 8003 8080
CMD ["gunicorn"]
