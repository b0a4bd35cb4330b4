"""A storm: mixed requests on every surface, CLIs that fail in every way, clients that leave at random; then a look at what is left.

`python -m tests.chaos --minutes 20 --seed N` prints the figures; the tests have a short one.

    modes     what the scripted CLI does, and what is then true
    ways      how each surface is asked, and how its answer reads
    earlier   the turns that a session has had, and what became of its process meanwhile
    plan      a seeded random list of requests
    setting   the server, with processes kept ready that are replaced all the time
    storm     carries them out, many at a time, and judges every answer
    census    what the server holds: processes, descriptors, folders, places, memory
"""
