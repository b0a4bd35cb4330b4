"""Runs that outlive their connection, and the log of their events.

A run is one execution of a request: a prompt, a resume, a composition, or a call of a compatible surface. Its truth is one row of the
session store's database: who asked, who executes it, what came of it. Its events are stored as the bytes that a client receives,
numbered without gaps. A process that executes a run holds it by the lease of its owner row; when that process dies, another one ends
the run or puts it back into the queue.
"""
