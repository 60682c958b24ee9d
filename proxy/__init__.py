"""The HTTP front-end: uvicorn and Starlette in, pipes out."""
