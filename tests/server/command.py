"""The command in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any


class Command:
    """``h2asgi`` running in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.errors: list[str] = []

    def wait_for_error_line(self, pattern: str) -> re.Match[str]:
        """Read stderr up to a line that has ``pattern`` in it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"{pattern} is not in {''.join(self.errors)}")

    def wait_for_output(self, line: str) -> None:
        """Read stdout up to ``line``."""
        assert self.process.stdout is not None
        seen = []
        for found in self.process.stdout:
            seen.append(found)
            if found == line + "\n":
                return
        raise AssertionError(f"{line} is not in {seen}; {self.process.stderr.read()}")  # type: ignore[union-attr]

    def port(self) -> int:
        return int(self.wait_for_error_line(r"https?://localhost:(\d+)")[1])

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end: exit code, what is left of stdout, all of stderr."""
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, "".join(self.errors) + errors

    def stop(self) -> None:
        """Kill it if it is still there, and close its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
