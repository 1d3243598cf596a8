"""The HTTP API at /v1, beside gradio's: an image in, JSON out. See docs/api.md."""
