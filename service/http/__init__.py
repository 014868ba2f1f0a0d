"""The HTTP interface: routes, protocols, answers, errors and access."""
