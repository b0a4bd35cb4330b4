"""How an agent that asks another one through this server is recognized: names that its environment and its requests have in common."""

VARIABLE = "CLINVK_DEPTH"
"""Of every CLI that is started: how many agents have asked each other in a row, it included."""
HEADER = "X-Clinvk-Depth"
"""Of a request: the variable of the agent that sends it."""
