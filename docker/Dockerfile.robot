# syntax=docker/dockerfile:1
# The robot side without torch: recorder, policy, progress, and with EXTRAS=ros,sim the simulated cell.
#   docker build -f docker/Dockerfile.robot -t tacit-robot .
# On a ROS base its own rclpy is used, never the wheels beside it:
#   docker build -f docker/Dockerfile.robot --build-arg BASE_IMAGE=ros:jazzy-ros-base \
#     --build-arg EXTRAS= -t tacit-robot .
# In production give BASE_IMAGE with its digest (docker/README.md).
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
ARG EXTRAS=ros
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN if ! python3 -c 'import ensurepip' 2>/dev/null; then \
      apt-get update; \
      apt-get install -y --no-install-recommends python3-venv; \
      rm -rf /var/lib/apt/lists/*; \
    fi
RUN if [ -d /opt/ros ]; then python3 -m venv --system-site-packages /opt/tacit; \
    else python3 -m venv /opt/tacit; fi
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY calibration ./calibration
COPY launch ./launch
COPY learning ./learning
COPY ros_ws ./ros_ws
RUN /opt/tacit/bin/pip install --no-cache-dir -c constraints.txt ".${EXTRAS:+[${EXTRAS}]}"

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS runtime
ARG APT_PACKAGES="libegl1 libgl1 libgl1-mesa-dri"
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
    && apt-get install -y --no-install-recommends ${APT_PACKAGES} \
    && rm -rf /var/lib/apt/lists/* \
    && (getent passwd 1000 >/dev/null || useradd --uid 1000 --create-home --shell /usr/sbin/nologin tacit) \
    && mkdir -p /data /models \
    && chown 1000:1000 /data
COPY --from=builder /opt/tacit /opt/tacit
COPY --chmod=0755 docker/entrypoint.sh /usr/local/bin/tacit-entrypoint
COPY --chmod=0755 docker/healthcheck.py /usr/local/bin/tacit-health
ENV PATH=/opt/tacit/bin:${PATH} \
    AMENT_PREFIX_PATH=/opt/tacit \
    MUJOCO_GL=egl \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST \
    ROS_LOG_DIR=/tmp/ros
USER 1000
WORKDIR /data
ENTRYPOINT ["tacit-entrypoint"]
CMD ["tacit", "doctor", "--profile", "robot"]
