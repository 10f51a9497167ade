#!/usr/bin/env bash
# Source the ROS install of the base image where there is one, then become the command.
set -eo pipefail

for setup in /opt/ros/*/setup.bash; do
  if [ -f "$setup" ]; then
    # ROS set-up files read unset variables, hence no -u.
    # shellcheck disable=SC1090
    source "$setup"
    export AMENT_PREFIX_PATH="/opt/tacit:${AMENT_PREFIX_PATH:-}"
    break
  fi
done

exec "$@"
