"""Zero downtime: a collection moves while an application goes on writing to it."""
