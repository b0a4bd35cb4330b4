"""The tests. A package, so that the repository's root is on the path and modules of one name do not collide."""
