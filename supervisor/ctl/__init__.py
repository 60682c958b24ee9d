"""The command line against a running server, `python -m supervisor ctl`: an HTTP client that nothing else imports."""
