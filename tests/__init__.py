"""The tests mirror the packages. `tests.bench` and `tests.echo_worker` run as modules, so this is a package."""
