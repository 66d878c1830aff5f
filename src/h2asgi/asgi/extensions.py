"""What ``scope["extensions"]`` holds of an extension that says nothing but its name."""

from __future__ import annotations

from typing import Any, Final, NoReturn


class _Nothing(dict[str, Any]):
    """Nothing, to all requests alike."""

    def _refuse(self, *args: Any, **names: Any) -> NoReturn:
        raise TypeError("this extension is shared by all requests")

    __setitem__ = __ior__ = setdefault = update = _refuse


NOTHING: Final = _Nothing()
