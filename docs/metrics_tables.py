"""What `GET /metrics` tells, from its own table."""

from __future__ import annotations

from app.observability.metrics import BUCKETS, LABELS, METRICS
from docs.markdown import code, codes, table


def metrics() -> str:
    rows = [(code(one.name), one.kind, codes(one.labels), one.help) for one in METRICS]
    bounds = ", ".join(f"{bound:g}" for bound in BUCKETS)
    return f"{table(('Metric', 'Kind', 'Labels', 'Meaning'), rows)}\nHistograms are in seconds, with the bounds {bounds}.\n"


def metric_labels() -> str:
    return table(("Label", "Values"), [(code(name), meaning) for name, meaning in LABELS.items()])
