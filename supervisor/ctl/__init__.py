"""The command line against a running server, `python -m supervisor ctl`: an HTTP client, which no other part imports."""
