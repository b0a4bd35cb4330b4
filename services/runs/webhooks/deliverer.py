"""Sends the webhook deliveries that are due, and decides when a failed one is tried again."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable

import gevent
from gevent.event import Event

from services.errors import StoreUnavailable
from services.runs.record import Run
from services.runs.tally import Tally
from services.runs.webhooks import signing
from services.runs.webhooks.delivery import Delivery
from services.runs.webhooks.outbox import Outbox, now_us
from services.runs.webhooks.sender import Outcome, Sender

log = logging.getLogger("clinvk.webhooks")

RETRY_AFTER_S = (5.0, 30.0, 120.0, 600.0, 3_600.0)
"""Seconds between attempts."""
ATTEMPTS = 1 + len(RETRY_AFTER_S)
"""After so many a delivery is given up."""
JITTER = 0.1
"""By which part a delay may be shorter or longer, so that what failed together does not return together."""
SENDING_LIMIT, SENDING_TO_HOST_LIMIT = 8, 2
"""Requests at once, in all and to one host."""
LOOK_S = 5.0
"""How often a process looks for what others left, or inserted without waking it."""
SHORTEST_WAIT_S = 0.01


def random_factor() -> float:
    return random.uniform(1 - JITTER, 1 + JITTER)


class Deliverer:
    """One greenlet per serving process, and one for each request. `start` may be called again, also after a fork."""

    def __init__(
        self,
        outbox: Outbox,
        sender: Sender,
        *,
        find_run: Callable[[str], Run | None],
        to_payload: Callable[[Run, Delivery], bytes],
        clock: Callable[[], int] = now_us,
        jitter: Callable[[], float] = random_factor,
        look_s: float = LOOK_S,
        tally: Tally | None = None,
    ) -> None:
        """``find_run``: by id. ``to_payload``: the JSON body. ``clock``: microseconds since the epoch. ``jitter``: a factor."""
        self._outbox = outbox
        self.sender = sender
        self._find_run = find_run
        self._to_payload = to_payload
        self._clock = clock
        self._jitter = jitter
        self._look_s = look_s
        self._tally = tally or Tally()
        self._hosts: Counter[str] = Counter()
        self._sending: dict[gevent.Greenlet, Delivery] = {}
        self._greenlet: gevent.Greenlet | None = None
        self._woken: Event | None = None

    def start(self) -> None:
        if self._greenlet is None or self._greenlet.dead:
            self._woken = Event()
            self._greenlet = gevent.spawn(self._work)

    def stop(self) -> None:
        """Stop at once. Requests that are being sent are cut off, and sent again by another process or after the next start."""
        if self._greenlet:
            self._greenlet.kill()
        cut = dict(self._sending)
        gevent.killall(list(cut))
        for greenlet, delivery in cut.items():
            if isinstance(greenlet.value, gevent.GreenletExit):
                self._try(delivery, self._outbox.give_back)

    def wake(self) -> None:
        """A delivery was inserted: look for it now."""
        if self._woken:
            self._woken.set()

    def _work(self) -> None:
        assert self._woken is not None
        while True:
            self._woken.clear()
            try:
                wait_s = self._send_due()
            except StoreUnavailable as error:  # /health reports it too
                log.warning("%s", error.message)
                wait_s = self._look_s
            except Exception:
                log.exception("looking for webhook deliveries failed")
                wait_s = self._look_s
            self._woken.wait(wait_s)

    def _send_due(self) -> float:
        """Begin to send what is due and within the limits. Returns the seconds until the next look; the end of a request wakes earlier."""
        while len(self._sending) < SENDING_LIMIT:
            busy = [host for host, count in self._hosts.items() if count >= SENDING_TO_HOST_LIMIT]
            delivery = self._outbox.claim(busy)
            if delivery is None:
                due_s = self._outbox.next_due_s(busy)
                return self._look_s if due_s is None else min(self._look_s, max(due_s, SHORTEST_WAIT_S))
            self._begin(delivery)
        return self._look_s

    def _begin(self, delivery: Delivery) -> None:
        self._hosts[delivery.host] += 1
        greenlet = gevent.spawn(self._try, delivery, self._deliver)
        self._sending[greenlet] = delivery
        greenlet.rawlink(self._ended)

    def _ended(self, greenlet: gevent.Greenlet) -> None:
        host = self._sending.pop(greenlet).host
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
        self.wake()

    def _try(self, delivery: Delivery, work: Callable[[Delivery], None]) -> None:
        try:
            work(delivery)
        except StoreUnavailable as error:  # it is sent again when its claim has run out
            log.warning("webhook %s: %s", delivery.id, error.message)

    def _deliver(self, delivery: Delivery) -> None:
        if delivery.attempts > ATTEMPTS:  # the process of the last attempt was killed
            self._settle(delivery, Outcome(None, "the last attempt did not end"))
        elif outcome := self._attempt(delivery):
            self._settle(delivery, outcome)
        else:
            self._outbox.remove(delivery)

    def _attempt(self, delivery: Delivery) -> Outcome | None:
        """None if there is nobody to send to any more."""
        try:
            run = self._find_run(delivery.run_id)
            if run is None:
                return None
            webhook = run.webhooks[delivery.webhook]
            body = self._to_payload(run, delivery)
            signed = signing.headers(webhook.secret, delivery.id, self._clock() // 1_000_000, body)
            return self.sender.send(webhook.url, signed, body)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("webhook %s of %s (%s) cannot be sent", delivery.id, delivery.run_id, delivery.type)
            return Outcome(None, "an error of this server")

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        facts = (delivery.id, delivery.run_id, delivery.type, delivery.host)
        if outcome.is_accepted:
            self._outbox.remove(delivery)
            self._tally.attempted("accepted")
            log.info("webhook %s of %s (%s) was accepted by %s", *facts)
        elif delivery.attempts >= ATTEMPTS:
            self._outbox.remove(delivery)
            self._tally.attempted("given_up")
            log.warning("webhook %s of %s (%s) to %s is given up after %d attempts: %s", *facts, delivery.attempts, outcome.reason)
        else:
            delay_s = RETRY_AFTER_S[delivery.attempts - 1] * self._jitter()
            self._outbox.retry(delivery, delay_s)
            self._tally.attempted("failed")
            log.info("webhook %s of %s (%s) to %s failed, is sent again in %.0f s: %s", *facts, delay_s, outcome.reason)
