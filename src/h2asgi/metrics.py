"""Metrics as Prometheus reads them, made from what the processes count when somebody asks.

``FAMILIES`` is the whole truth: the documentation and the dashboard are tested against it.
prometheus_client writes the format. Of its own counters none is used, and its multiprocess
mode neither: docs/architecture.md says why. It is loaded when there are to be metrics.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any, Literal, Protocol

from . import der, tally
from ._version import __version__
from .asgi.scope import Application, Receive, Scope, Send
from .errors import ConfigurationError
from .tally import DURATION_BOUNDS, LAG_BOUNDS, PROTOCOLS, Tallies
from .tls_context import ServerContext

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PATH = "/metrics"

_FIELDS = frozenset((b"accept",))
"""All that an answer depends on. prometheus_client would look at more, and raise for what is not
UTF-8."""

Values = Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: ``labels``, and the ``values`` they have, in the order of the words that count.

    ``word`` is the first of those. Without one, or without values, it is put together otherwise.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    values: Values = ((),)
    word: int = -1
    bounds: tuple[float, ...] = ()


def _each(*names: str) -> Values:
    return [(name,) for name in names]


_MAJOR = _each("HTTP/1", "HTTP/2")
_FRAMES = list(product(("client", "server"), tally.CODES))

REQUESTS = Family(
    "h2asgi_requests_total", "counter",
    "Requests that have ended; status none when no response was begun.",
    ("protocol", "method", "status"),
)  # fmt: skip
CERTIFICATES = Family(
    "h2asgi_certificate_expiry_timestamp_seconds", "gauge",
    "When the certificate for a name of --cert ends, or the one for all others (default).",
    ("name",),
)  # fmt: skip
BUILD = Family("h2asgi_build_info", "gauge", "Always 1.", ("version",), [(__version__,)])

FAMILIES: tuple[Family, ...] = (
    REQUESTS,
    Family(
        "h2asgi_request_duration_seconds", "histogram",
        "From the complete request head to the end of the response as the application sent it.",
        ("protocol",), _each(*PROTOCOLS), tally.DURATIONS, DURATION_BOUNDS,
    ),
    Family(
        "h2asgi_requests_in_progress", "gauge",
        "Requests and WebSockets that an application works on.",
        word=tally.REQUESTS_IN_PROGRESS,
    ),
    Family(
        "h2asgi_connections_total", "counter",
        "Connections, from when their protocol is known.",
        ("protocol",), _MAJOR, tally.CONNECTIONS,
    ),
    Family(
        "h2asgi_connections_open", "gauge", "Those that are open.",
        ("protocol",), _MAJOR, tally.CONNECTIONS_OPEN,
    ),
    Family(
        "h2asgi_tls_handshakes_total", "counter", "TLS handshakes that succeeded.",
        ("version", "resumed"), list(product(tally.TLS_VERSIONS, ("no", "yes"))), tally.HANDSHAKES,
    ),
    Family(
        "h2asgi_tls_handshake_failures_total", "counter",
        "TLS handshakes that took too long, broke a rule or agreed on nothing, or were left.",
        ("reason",), _each("timeout", "fault", "left"), tally.HANDSHAKE_TIMEOUTS,
    ),
    Family(
        "h2asgi_stream_resets_total", "counter", "RST_STREAM frames of HTTP/2.",
        ("sender", "code"), _FRAMES, tally.RESETS_RECEIVED,
    ),
    Family(
        "h2asgi_goaways_total", "counter",
        "GOAWAY frames of HTTP/2; a graceful end has two of the server's.",
        ("sender", "code"), _FRAMES, tally.GOAWAYS_RECEIVED,
    ),
    Family(
        "h2asgi_limit_trips_total", "counter", "How often a limit was reached.",
        ("limit",),
        _each(
            *("http2-reset", "http2-control", "http2-answers", "http2-streams", "concurrency"),
            *("connections", "connections-per-address", "handshakes", "unsent"),
        ),
        tally.RESET_LIMIT,
    ),
    Family(
        "h2asgi_received_bytes_total", "counter", "Octets that came, within TLS.",
        word=tally.RECEIVED_OCTETS,
    ),
    Family(
        "h2asgi_sent_bytes_total", "counter", "Octets that were sent, within TLS.",
        word=tally.SENT_OCTETS,
    ),
    Family(
        "h2asgi_flow_control_stalls_total", "counter",
        "How often responses had to wait for a client: for the window of an HTTP/2 stream or "
        "connection, or because TCP took no more.",
        ("cause",), _each("stream", "connection", "transport"), tally.STREAM_STALLS,
    ),
    Family(
        "h2asgi_loop_lag_seconds", "histogram",
        "How late timers of the event loop were, four times a second.",
        (), ((),), tally.LAG, LAG_BOUNDS,
    ),
    Family(
        "h2asgi_worker_restarts_total", "counter",
        "Workers that were replaced on purpose, or that ended otherwise.",
        ("reason",), _each("replaced", "failed"), tally.WORKERS_REPLACED,
    ),
    CERTIFICATES,
    BUILD,
)  # fmt: skip


class _Certified(Protocol):
    """Whose certificates are looked at."""

    ssl_context: ServerContext | None
    tallies: Tallies | None


class Collector:
    """What prometheus_client asks for metrics; reads what all processes have counted."""

    def __init__(self, endpoint: _Certified) -> None:
        self._endpoint = endpoint
        self._special: Mapping[str, Callable[[], Iterable[tuple[tuple[str, ...], float]]]] = {
            REQUESTS.name: self._requests,
            CERTIFICATES.name: self._certificates,
            BUILD.name: lambda: [((__version__,), 1.0)],
        }

    def collect(self) -> Iterator[Metric]:
        """Give every family as it is now."""
        from prometheus_client import core

        for family in FAMILIES:
            if family.kind == "histogram":
                histogram = core.HistogramMetricFamily(
                    family.name, family.help, labels=family.labels
                )
                for values, buckets, total in self._histograms(family):
                    histogram.add_metric(values, buckets, total)
                yield histogram
                continue
            counts = family.kind == "counter"
            of_kind: Any = core.CounterMetricFamily if counts else core.GaugeMetricFamily
            metric = of_kind(family.name, family.help, labels=family.labels)
            special = self._special.get(family.name)
            for values, value in self._samples(family) if special is None else special():
                metric.add_metric(values, value)
            yield metric

    def _sum(self, word: int) -> int:
        assert self._endpoint.tallies is not None
        return sum(each.words[word] for each in self._endpoint.tallies.every)

    def _samples(self, family: Family) -> Iterator[tuple[tuple[str, ...], float]]:
        for at, values in enumerate(family.values):
            yield values, self._sum(family.word + at)

    def _histograms(
        self, family: Family
    ) -> Iterator[tuple[tuple[str, ...], list[tuple[str, float]], float]]:
        bounds = [*map(str, family.bounds), "+Inf"]
        size = len(bounds) + 1
        for at, values in enumerate(family.values):
            first = family.word + at * size
            sums = accumulate(self._sum(first + bucket) for bucket in range(len(bounds)))
            total = self._sum(first + len(bounds)) / 1e6
            yield values, list(zip(bounds, sums, strict=True)), total

    def _requests(self) -> Iterator[tuple[tuple[str, ...], float]]:
        found: dict[tuple[str, str, int], int] = {}
        assert self._endpoint.tallies is not None
        for each in self._endpoint.tallies.every:
            for kind, count in each.requests().items():
                found[kind] = found.get(kind, 0) + count
        for (protocol, method, status), count in sorted(found.items()):
            yield (protocol, method, str(status or "none")), count
        if others := self._sum(tally.OTHER_REQUESTS):
            yield ("other", "other", "other"), others

    def _certificates(self) -> Iterator[tuple[tuple[str, ...], float]]:
        context = self._endpoint.ssl_context
        if context is None:
            return
        for name, each in (("default", context), *context.named.items()):
            if (end := _end(each.server_cert)) is not None:
                yield (name,), end


def _end(certificate: str | None) -> float | None:
    """When a certificate in PEM ends, as seconds of Unix, if that is plain to see."""
    if certificate is None:
        return None
    body = "".join(line for line in certificate.splitlines() if not line.startswith("-----"))
    try:
        _, end = der.validity(a2b_base64(body))
        return datetime.strptime(end.decode(), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError):
        return None


def check_library() -> None:
    """Raise ConfigurationError when there is nothing to write metrics with."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            '--metrics needs prometheus_client: pip install "h2asgi[metrics]"'
        ) from None


def metrics_application(endpoint: _Certified, other: Application) -> Application:
    """Give the application that shows the metrics on ``PATH``, and leaves the rest to ``other``."""
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    registry.register(Collector(endpoint))
    show = prometheus_client.make_asgi_app(registry, disable_compression=True)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != PATH:
            await other(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            fields = [(b"content-length", b"0"), (b"allow", b"GET, HEAD")]
            await send({"type": "http.response.start", "status": 405, "headers": fields})
            await send({"type": "http.response.body"})
        else:
            await show(_plain(scope), receive, send)

    return app


def _plain(scope: Scope) -> Scope:
    """Leave of a request what the answer is to depend on, if that can be read."""
    fields = [field for field in scope["headers"] if field[0] in _FIELDS and field[1].isascii()]
    return {"type": "http", "query_string": b"", "headers": fields}
