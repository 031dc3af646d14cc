"""Image in, label out: how a network is applied to pictures."""
