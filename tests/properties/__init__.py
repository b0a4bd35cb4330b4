"""What must hold for any input at all (hypothesis). Decoders have theirs in `tests.unit.services.decoding`, single parts beside their tests."""
