"""The screen: the only code that imports gradio."""

import sys

# gradio imports mcp with itself, a sixth of its time, for a server that we do not use; tools.py does later
if "gradio" not in sys.modules and "mcp" not in sys.modules:
    sys.modules["mcp"] = None
    import gradio  # noqa: F401

    del sys.modules["mcp"]
