# The three images of Forebay: docker buildx build --target lens|spark|airflow (docs/runbooks/install.md has the whole
# command). What is installed comes from Debian as of the base image's day and from locks with hashes.
ARG BASE=debian:trixie-20260918-slim@sha256:a99cfc517144bc59b1978475ec53b46ecabec7e43635402ee5b77cc54cd1b20a

FROM ${BASE} AS base
# Files written by this build carry this time, and bytecode is checked by its source's hash instead of its time.
ARG SOURCE_DATE_EPOCH=1
ENV LANG=C.UTF-8 PATH=/opt/forebay/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# The base image names the day's snapshot of Debian in a comment: from there, so that a later build installs the same.
# hadolint ignore=DL3008
RUN sed -i -E '/^# https?:/{N;s|^# (\S+)\nURIs: .*|URIs: \1|}' /etc/apt/sources.list.d/* \
    && apt-get -o Acquire::Check-Valid-Until=false update \
    && apt-get install -y --no-install-recommends ca-certificates dumb-init python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/*

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get -o Acquire::Check-Valid-Until=false update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY images/build.txt images/
RUN python3 -m venv /build && /build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r images/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY include/forebay include/forebay
RUN PATH=/build/bin:$PATH pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

# One folder per image: the packages of its lock, Forebay itself, and what is in it as CycloneDX.
FROM build AS lens-packages
COPY images/lens.txt images/
RUN python3 -m venv /opt/forebay \
    && /opt/forebay/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r images/lens.txt \
    && /opt/forebay/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
    && /opt/forebay/bin/pip uninstall -y pip \
    && /build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/forebay/sbom.cdx.json /opt/forebay

FROM build AS spark-packages
COPY images/spark.txt images/
# Only Apache Spark has no wheel: its archive is made one by the pinned setuptools.
RUN python3 -m venv /opt/forebay \
    && /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes --wheel-dir /wheels/spark -r images/spark.txt \
    && /opt/forebay/bin/pip install --no-cache-dir --no-index --no-deps /wheels/spark/*.whl /wheels/*.whl \
    && /opt/forebay/bin/pip uninstall -y pip \
    && /build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/forebay/sbom.cdx.json /opt/forebay

FROM build AS airflow-packages
COPY images/airflow.txt images/team.txt images/
# What jobs' own Python needs may have no wheel, and is made one by the pinned setuptools; what does not go with Airflow's
# own ends the build.
RUN python3 -m venv /opt/forebay && mkdir /wheels/team \
    && /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes --wheel-dir /wheels/team -r images/team.txt \
    && /opt/forebay/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r images/airflow.txt \
    && find /wheels/team -name '*.whl' -exec /opt/forebay/bin/pip install --no-cache-dir --no-index --no-deps {} + \
    && /opt/forebay/bin/pip check \
    && /opt/forebay/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
    && /opt/forebay/bin/pip uninstall -y pip \
    && /build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/forebay/sbom.cdx.json /opt/forebay

# The console, with the SQL editor built from npm's packages by their lock.
FROM build AS console
COPY tools/ui.py tools/
COPY plugins plugins
RUN /build/bin/python tools/ui.py && rm -r plugins/forebay_ui/web

# The catalog as one run sees it.
FROM base AS lens
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Forebay lens" \
      org.opencontainers.image.description="Shows each run its own branch of the lake's tables" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --system --uid 10001 --gid 0 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lens \
    && rm -f /var/log/* /etc/*-
COPY --from=lens-packages /opt/forebay /opt/forebay
USER 10001:0
EXPOSE 8182
ENTRYPOINT ["dumb-init", "--", "python", "-m", "forebay.lens"]
CMD ["--help"]

# Driver and executors of Spark on Kubernetes. Java's list of authorities is written again, since Debian's own script puts
# the moment of the build in it.
FROM base AS spark-base
# hadolint ignore=DL3008
RUN apt-get -o Acquire::Check-Valid-Until=false update \
    && apt-get install -y --no-install-recommends libnss3 openjdk-21-jre-headless p11-kit procps \
    && trust extract --format=java-cacerts --filter=ca-anchors --purpose=server-auth --overwrite /etc/ssl/certs/java/cacerts \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/*

# The jars are fetched by Spark's own resolver and compared with the SHA-256 they are pinned by. Java trusts the
# authorities that Debian has, unless the build says otherwise.
FROM spark-base AS jars
COPY --from=spark-packages /opt/forebay /opt/forebay
RUN export JAVA_TOOL_OPTIONS="${JAVA_TOOL_OPTIONS:--Djavax.net.ssl.trustStore=/etc/ssl/certs/java/cacerts}" \
    && XDG_CACHE_HOME=/cache python -c 'from forebay.machine import jars; jars.fetch(print)' \
    && rm /cache/forebay/jars/.lock

FROM spark-base AS spark
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Forebay Spark" \
      org.opencontainers.image.description="Spark with Iceberg, for driver and executors" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV SPARK_HOME=/opt/spark
# Hadoop looks its user up by name.
RUN useradd --system --uid 185 --gid 0 --create-home --home-dir /home/spark --shell /usr/sbin/nologin spark \
    && rm -f /var/log/* /etc/*- \
    && mkdir /opt/spark-work && chown 185:0 /opt/spark-work
COPY --from=spark-packages /opt/forebay /opt/forebay
COPY --from=jars /cache/forebay/jars /opt/forebay/jars
RUN package="$(python -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')" \
    && ln -s "$package" /opt/spark && ln -s /opt/forebay/jars/*.jar "$package/jars/"
COPY --chmod=755 images/spark-entrypoint /usr/local/bin/spark-entrypoint
WORKDIR /opt/spark-work
USER 185:0
ENTRYPOINT ["dumb-init", "--", "/usr/local/bin/spark-entrypoint"]

# Every part of Airflow, as its chart starts them; jobs come from Git.
FROM base AS airflow
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Forebay Airflow" \
      org.opencontainers.image.description="Airflow with Forebay's jobs, operators, engines and console" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV AIRFLOW_HOME=/opt/airflow AIRFLOW__CORE__PLUGINS_FOLDER=/opt/forebay/plugins
# hadolint ignore=DL3008
RUN apt-get -o Acquire::Check-Valid-Until=false update \
    && apt-get install -y --no-install-recommends git openssh-client \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/* \
    && useradd --system --uid 50000 --gid 0 --create-home --home-dir /opt/airflow --shell /bin/bash airflow \
    && chmod g=u /opt/airflow && rm -f /var/log/* /etc/*-
COPY --from=airflow-packages /opt/forebay /opt/forebay
COPY --from=console /src/plugins /opt/forebay/plugins
COPY images/webserver_config.py /opt/forebay/
# Where Airflow's chart looks for it.
COPY --chmod=755 images/airflow-entrypoint /entrypoint
COPY --chmod=755 images/airflow-clean-logs /clean-logs
WORKDIR /opt/airflow
USER 50000:0
ENTRYPOINT ["dumb-init", "--", "/entrypoint"]
CMD ["airflow", "version"]
