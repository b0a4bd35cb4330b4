"""Webhooks: signed HTTP requests that tell a caller's server how a run went, by Standard Webhooks
(https://www.standardwebhooks.com, version 1.0.0).

The store inserts a delivery in the transaction that ends a run. `deliverer` sends what is due, until it is accepted or given up. A
delivery arrives at least once: a server that is killed between the answer and its note of it sends again, with the same ``webhook-id``.
"""
