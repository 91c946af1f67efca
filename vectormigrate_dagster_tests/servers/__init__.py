"""Real servers that tests start, and the proxy that stands in front of them."""
