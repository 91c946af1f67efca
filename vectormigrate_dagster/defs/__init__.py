"""Everything that is Dagster: ops, jobs, sensors, assets, and the event log that holds the state."""
