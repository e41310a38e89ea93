"""What decides: pure functions on records and arrays, without I/O, Prefect, the registry or the clock."""
