"""The only owner of a PID.

    worker ── socket ──> spawner ── fork ──> keeper, one a run ── exec ──> CLI ──> its tools, their shells …
      └─────────── control socket, one a run ────────┘

`keeper` is the program that the spawner and the keepers run (standard library alone, no gevent);
`spawner` is the worker's handle on it; `child` is the worker's handle on one run.
"""
