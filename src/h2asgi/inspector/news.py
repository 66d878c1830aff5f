"""What one viewer is told, as events of text/event-stream."""

from __future__ import annotations

import json
from math import inf
from typing import Any, Final

from .log import Log
from .records import FrameRecord

SIGN_OF_LIFE: Final = 40
"""Ticks without news after which a viewer is told so, or it would not be noticed to be gone."""


RETRY: Final = 500
"""Milliseconds after which a page whose server is gone asks again: --reload takes about that."""


class News:
    """What has changed in ``log`` since the last look. Nothing is queued for who looks seldom."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._seen = -1  # the log's revision
        self._last_frame = 0
        self._sampled = -inf
        self._silent = 0

    def take(self) -> str:
        """Give an event with what is new; nothing, or an empty event now and then, if there is."""
        if self._log.revision == self._seen:
            self._silent += 1
            if self._silent < SIGN_OF_LIFE:
                return ""
            self._silent = 0
            return "data: {}\n\n"
        self._silent = 0
        retry = f"retry: {RETRY}\n" if self._seen < 0 else ""
        return f"{retry}data: {json.dumps(self._changes(), separators=(',', ':'))}\n\n"

    def _changes(self) -> dict[str, Any]:
        log, seen, epoch = self._log, self._seen, self._log.epoch
        connections = [one for one in log.connections if one.revision > seen]
        samples = [
            [one.number, round((sample[0] - epoch) * 1000), *sample[1:]]
            for one in connections
            for sample in one.samples
            if sample[0] > self._sampled
        ]
        changes = {
            "first": seen < 0,
            "now": round((log.now() - epoch) * 1000),
            "connections": [one.as_json(epoch) for one in connections],
            "streams": [one.as_json(epoch) for one in log.streams if one.revision > seen],
            "frames": [one.as_json(epoch) for one in self._new_frames()],
            "samples": samples,
            "skipped": [
                log.skipped_connections,
                log.skipped_streams,
                log.skipped_frames,
                log.pauses,
            ],
        }
        self._seen, self._sampled = log.revision, log.now()
        return changes

    def _new_frames(self) -> list[FrameRecord]:
        fresh: list[FrameRecord] = []
        for frame in reversed(self._log.frames):
            if frame.number <= self._last_frame:
                break
            fresh.append(frame)
        if fresh:
            self._last_frame = fresh[0].number
        return fresh[::-1]
