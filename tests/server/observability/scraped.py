"""`GET /metrics`, read."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.parts.client import Client


class Scrape:
    """The samples of one answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def sum(self, name: str, **labels: Any) -> float:
        """Of all samples of that name that have these labels."""
        wanted = {key: str(value) for key, value in labels.items()}.items()
        return sum(sample.value for sample in self.samples if sample.name == f"clinvk_{name}" and wanted <= sample.labels.items())

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if sample.name == f"clinvk_{name}"}


def scrape(client: Client) -> Scrape:
    answer = client.get("/metrics")
    assert answer.status == 200, answer.body
    return Scrape(answer.body.decode())
