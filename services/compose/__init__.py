"""Several runs for one request: parallel, chain, compare. Each is a `Plan`, made and checked before anything starts, and a
`Composition` that carries it out. Pure orchestration over the runner."""
