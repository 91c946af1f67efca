"""Words of limits that both faces know."""


def too_many(offset: int, limit: int, most: int) -> str:
    """What the server says of a page that reaches beyond QUERY_MAXIMUM_RESULTS (adapters/repos/db/search.go, 1.39)."""
    return (
        f"query maximum results exceeded: the total limit calculated from the provided offset '{offset}' and limit "
        f"'{limit}' exceeds the configured value for QUERY_MAXIMUM_RESULTS '{most}'. If you've supplied a negative "
        "offset or limit, this may be an underflow error"
    )
