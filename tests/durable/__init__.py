"""Proof that no run is lost: a server is killed at random moments while clients submit, follow, cancel and delete runs; then every run
is looked at.

`python -m tests.durable --runs 10000 --kills 20 --seed N` prints the figures; the tests have a short one.

    scripts   what the scripted CLIs do, and the answer that they give
    plan      a seeded random list of runs, each with a way to ask for it
    lives     the server, which is killed and started again on the same home and port
    reader    reads the events of a run over many connections, and checks their numbers
    ways      what a client does with its run
    crowd     the clients, many at a time
    audit     what must be true of every run, and of what the server holds, at the end
    report    all of it from the start to the end, as a table
"""
