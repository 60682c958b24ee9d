"""The root of the process tree. Every child imports this package, so it imports nothing."""
