"""Chromium without a window."""

from __future__ import annotations

import subprocess
from pathlib import Path

from apps.letters import HANG


def document(url: str, folder: Path, *options: str) -> str:
    """Open ``url``, give its document once it is loaded; ``folder`` is for its own data."""
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={folder}",
        *options, "--dump-dom", url,
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANG * 2, check=True)
    return result.stdout
