"""Applications that write at full speed while a collection moves, and everything that can be killed is killed."""
