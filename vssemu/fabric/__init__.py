"""How a host reaches an unmasked LUN: target and initiator halves."""
