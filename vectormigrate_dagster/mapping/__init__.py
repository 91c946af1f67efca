"""From a source's schema to a target's: what becomes of each thing, and what is lost."""
