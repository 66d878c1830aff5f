"""Frames cut here, unmasked by the C code of the websockets package."""

from __future__ import annotations

from typing import ClassVar

from websockets.speedups import apply_mask as apply_mask

from .codec import Codec


class WebsocketsCodec(Codec):
    """See ``codec.Codec``."""

    name: ClassVar[str] = "websockets"
