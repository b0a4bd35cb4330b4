"""Process management: no other package starts or signals the processes of runs.

    worker ── socket ──> spawner ── fork ──> supervisor (one per run) ── exec ──> CLI ──> tools, shells …
      └───── control socket (one per run) ─────┘

`spawner_program` and `supervisor` run in the spawner and the supervisors (standard library only, no gevent);
`spawner` is the worker's handle on the spawner, `child` its handle on one run.
"""
