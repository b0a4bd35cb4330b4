"""A process of its own that begins many runs of one key at once, as its argument says, and prints what became of them."""

from gevent import monkey

monkey.patch_all()  # before anything makes a lock

import json  # noqa: E402
import sys  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from time import monotonic  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from sqlalchemy.engine import make_url  # noqa: E402

from services.errors import ClinvkError  # noqa: E402
from services.events import Finished  # noqa: E402
from services.usage import Usage  # noqa: E402
from tests.parts.quotas import open_quota_desk, to_rights  # noqa: E402


def main(asked: Mapping[str, Any]) -> None:
    desk = open_quota_desk(make_url(asked["url"]), {"anna": to_rights(asked["rights"])})
    times: list[tuple[float, float]] = []
    refused: Counter[str] = Counter()

    def run() -> None:
        try:
            begun = desk.begin()
        except ClinvkError as error:
            refused[error.code] += 1
            return
        since = monotonic()
        gevent.sleep(asked["hold_s"])
        times.append((since, monotonic()))
        desk.end(begun, Finished(usage=Usage(100, 10, 40), cost_usd=asked["cost_usd"]))

    gevent.joinall([gevent.spawn(run) for _ in range(asked["runs"])], raise_error=True)
    desk.close()
    print(json.dumps({"times": times, "refused": refused}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
