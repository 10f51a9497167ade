"""Health as a container engine asks for it: the very commands of `docker/compose.yaml`, run at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from tacit_ros.wire.environment import child_environment

DOCKER = Path(__file__).parents[2] / "docker"
TOOL = "tacit-health"


def health_commands() -> dict[str, list[str]]:
    """Return what the compose file asks each service, by service."""
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    checks = {name: service.get("healthcheck") for name, service in services.items()}
    return {name: [str(word) for word in check["test"][1:]] for name, check in checks.items() if check}


def unhealthy(services: list[str], wait: Callable[[], None]) -> dict[str, str]:
    """Ask the services; return what those say that are not well.

    Args:
        services: Names in the compose file; asked at the same time.
        wait: Called while they think about it: who listens must not fall behind.
    """
    commands = health_commands()
    asked = {
        name: subprocess.Popen(
            [*_tool(), *commands[name][1:]],
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in services
    }
    while any(process.poll() is None for process in asked.values()):
        wait()
    said = {name: process.communicate()[0] for name, process in asked.items()}
    return {name: said[name].strip() for name, process in asked.items() if process.returncode != 0}


def _tool() -> list[str]:
    """The check as the image has it, or as it lies in the repository."""
    installed = shutil.which(TOOL)
    return [installed] if installed else [sys.executable, str(DOCKER / "healthcheck.py")]
