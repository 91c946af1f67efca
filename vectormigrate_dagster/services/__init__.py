"""One function per verb, pydantic in and out; the command and the sidecar call these and nothing else."""
