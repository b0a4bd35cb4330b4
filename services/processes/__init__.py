"""The only owner of a PID.

    worker ── socket ──> spawner ── fork ──> supervisor, one a run ── exec ──> CLI ──> its tools, their shells …
      └─────────── control socket, one a run ────────┘

`supervisor` is the program that the spawner and the supervisors run (standard library alone, no gevent);
`spawner` is the worker's handle on it; `child` is the worker's handle on one run.
"""
