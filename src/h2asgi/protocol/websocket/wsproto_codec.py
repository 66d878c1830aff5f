"""Frames by wsproto's decoder, which is always there."""

from __future__ import annotations

from typing import ClassVar

from .codec import Codec


class WsprotoCodec(Codec):
    """See ``codec.Codec``."""

    name: ClassVar[str] = "wsproto"
