"""What must hold for any input at all (hypothesis). Decoders have theirs in `tests.decoders`, single parts beside their tests."""
